//! The queues, and what is true of them.

use std::fmt;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ErrorKind};

use super::reason;
use crate::model::Lane;
use crate::ports::BrokerError;

/// Of a RabbitMQ server: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16, u16);

impl Version {
    /// The oldest this is tested with.
    pub(super) const OLDEST: Self = Self(3, 10);
    /// From here on a queue has a limit of deliveries unless it says otherwise.
    const LIMITS_DELIVERIES: Self = Self(4, 0);

    /// The version in `connection.start`: the text behind the name `version` in the server's properties.
    pub(super) fn in_start(start: &[u8]) -> Option<Self> {
        const NAME: &[u8] = b"\x07versionS";
        let at = start.windows(NAME.len()).position(|part| part == NAME)? + NAME.len();
        let (length, rest) = start.get(at..)?.split_first_chunk()?;
        let text = rest.get(..u32::from_be_bytes(*length) as usize)?;
        Self::parse(std::str::from_utf8(text).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-', '+']);
        Some(Self(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// How long a queue that was deleted stays so. RabbitMQ 3.10 moves a consumer that has not noticed yet to
/// the new queue of that name, and keeps from it what it takes for messages that the consumer has had.
pub(super) const MISSING: Duration = Duration::from_secs(1);

/// The queues of one installation.
pub(super) struct Topology {
    /// Queues are `<name>.<lane>`.
    name: String,
}

impl Topology {
    pub(super) fn new(name: String) -> Self {
        Self { name }
    }

    pub(super) fn queue(&self, lane: Lane) -> ShortString {
        format!("{}.{}", self.name, lane.as_str()).into()
    }

    /// Declares every queue; those that exist stay as they are.
    ///
    /// # Errors
    ///
    /// `Refused` for a queue that exists with other arguments, which only a person can decide about.
    pub(super) async fn declare(&self, conn: &Connection, version: Version) -> Result<(), BrokerError> {
        let unreachable = |err: lapin::Error| BrokerError::Unreachable(reason(&err));
        for lane in Lane::ALL {
            // A refusal closes the channel, so each queue has its own.
            let channel = conn.create_channel().await.map_err(unreachable)?;
            let queue = self.queue(lane);
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declared = channel.queue_declare(queue.clone(), options, arguments(version)).await;
            declared.map_err(|err| refusal(queue.as_str(), &err))?;
        }
        Ok(())
    }
}

/// One queue on several nodes, and no limit of deliveries: jobs that fail or kill are counted in the store.
///
/// Before 4.0 there is no limit unless one is asked for, and -1 is refused.
fn arguments(version: Version) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if Version::LIMITS_DELIVERIES <= version {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    arguments
}

fn refusal(queue: &str, err: &lapin::Error) -> BrokerError {
    /// PRECONDITION_FAILED: other arguments. RESOURCE_LOCKED: another connection's own queue.
    const OTHER: [u16; 2] = [406, 405];
    match err.kind() {
        ErrorKind::ProtocolError(said) if OTHER.contains(&said.get_id()) => BrokerError::Refused(format!(
            "RabbitMQ has a queue `{queue}` that is not as Millhand needs it ({}): delete that queue (hints \
             that wait in it come again by themselves), or give Millhand's queues another name with `broker.name`",
            said.get_message()
        )),
        _ => BrokerError::Unreachable(format!("queue `{queue}` cannot be declared: {}", reason(err))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_the_first_words_of_a_server() {
        let start = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x40\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x0c4.1.0-beta.3\x00";
        assert_eq!(Version::in_start(start), Some(Version(4, 1)));
        assert_eq!(Version::in_start(b"\x07versionS\x00\x00\x00\x09"), None);
        assert_eq!(Version::parse("3.10.8"), Some(Version(3, 10)));
        assert!(Version::parse("3.9.29") < Some(Version::OLDEST));
    }

    #[test]
    fn no_queue_has_a_limit_of_deliveries() {
        let limit = |version| arguments(version).inner().get("x-delivery-limit").cloned();
        assert_eq!(limit(Version(3, 13)), None);
        assert_eq!(limit(Version(4, 0)), Some(AMQPValue::LongLongInt(-1)));
        assert_eq!(limit(Version(4, 3)), Some(AMQPValue::LongLongInt(-1)));
    }
}
