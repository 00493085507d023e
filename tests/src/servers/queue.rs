//! A broker of either kind, so that a test need not know which.

use super::{Kafka, Process, RabbitMq};
use crate::Launch;

/// Which broker spreads the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RabbitMq,
    Kafka,
}

impl Kind {
    /// As the configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Kafka => "kafka",
        }
    }
}

/// A broker that runs.
pub enum Queue {
    RabbitMq(RabbitMq),
    Kafka(Kafka),
}

impl Queue {
    pub async fn start(kind: Kind) -> Self {
        match kind {
            Kind::RabbitMq => Self::RabbitMq(RabbitMq::start().await),
            Kind::Kafka => Self::Kafka(Kafka::start().await),
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::RabbitMq(_) => Kind::RabbitMq,
            Self::Kafka(_) => Kind::Kafka,
        }
    }

    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::RabbitMq(node) => node.url(),
            Self::Kafka(kafka) => kafka.servers(),
        }
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        match self {
            Self::RabbitMq(node) => node.process(),
            Self::Kafka(kafka) => kafka.process(),
        }
    }
}

impl Launch {
    /// Works for a cluster of this broker and this Redis, without documents.
    #[must_use]
    pub fn cluster(self, kind: Kind, broker: &str, redis: &str) -> Self {
        self.env("MILLHAND_BROKER__KIND", kind.as_str())
            .env("MILLHAND_BROKER__URL", broker)
            .env("MILLHAND_STORE__KIND", "redis")
            .env("MILLHAND_STORE__URL", redis)
            .env("MILLHAND_INDEX__KIND", "none")
    }
}
