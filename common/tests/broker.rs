//! The embedded broker is held to what every broker must do.

use std::sync::Arc;

use millhand_common::adapters::embedded::EmbeddedBroker;
use millhand_common::ports::Broker;

async fn open() -> Arc<dyn Broker> {
    Arc::new(EmbeddedBroker::new())
}

millhand_common::broker_conformance!(open);
