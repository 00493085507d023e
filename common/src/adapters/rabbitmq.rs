//! The broker on RabbitMQ: one quorum queue per lane, published to by its name.
//!
//! Publishing and consuming have connections of their own: a server short of memory or disk stops reading a
//! connection that publishes, and acks must pass. A hint is acked when its job is closed or given back, so
//! a connection that dies gives all its hints to other workers at once, marked as redelivered.
//!
//! lapin's own recovery is not used: it gives up after some attempts and leaves closed channels closed.
//! [`Link`](link::Link) makes a connection again for ever, and each lane its channel.

mod address;
mod broker;
mod consumer;
mod link;
mod publisher;
mod topology;

pub use broker::{RabbitBroker, RabbitConfig};

use lapin::ErrorKind;

/// Why something failed, as the server says it where it does.
fn reason(err: &lapin::Error) -> String {
    match err.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        ErrorKind::IOError(err) => err.to_string(),
        _ => err.to_string(),
    }
}
