//! Publishing with confirms.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;

use super::address::Address;
use super::link::{Line, Link};
use super::reason;
use super::topology::{MISSING, Topology};
use crate::model::Hint;
use crate::ports::BrokerError;

/// Longest wait for a connection and all confirms; below the ingress's own patience, which is 5 s.
const TIMEOUT: Duration = Duration::from_secs(4);
/// To disk before it is confirmed.
const PERSISTENT: u8 = 2;

pub(super) struct Publisher {
    address: Arc<Address>,
    /// Made by the first call: workers publish nothing.
    own: OnceCell<Own>,
    topology: Arc<Topology>,
    /// Held while one call publishes. lapin numbers a message before it sends it, and ties a returned message
    /// to the next confirm: with two calls at a time on one channel, one could have the other's answer.
    /// Taken out meanwhile, so that a channel with answers still to come is never used again.
    channel: Mutex<Option<Channel>>,
}

/// The connection that is published on.
struct Own {
    link: Arc<Link>,
    /// Ends with the publisher.
    _kept: JoinSet<()>,
}

/// Why hints are not published.
enum Failed {
    /// The server has no queue of that name.
    Unroutable,
    Other(BrokerError),
}

impl Publisher {
    pub(super) fn new(address: Arc<Address>, topology: Arc<Topology>) -> Self {
        Self { address, own: OnceCell::new(), topology, channel: Mutex::new(None) }
    }

    /// Why nothing can be published now, as far as it is known.
    pub(super) fn now(&self) -> Result<(), BrokerError> {
        self.own.get().map_or(Ok(()), |own| own.link.now().map(|_| ()))
    }

    /// As the port says.
    pub(super) async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        let published = tokio::time::timeout(TIMEOUT, self.try_publish(hints)).await;
        published.unwrap_or_else(|_| Err(self.now().err().unwrap_or(BrokerError::NotConfirmed)))
    }

    async fn link(&self) -> Result<&Link, BrokerError> {
        let making = async || {
            let (address, topology) = (Arc::clone(&self.address), Arc::clone(&self.topology));
            let link = Link::open("publishing", address, topology).await?;
            let mut kept = JoinSet::new();
            kept.spawn(Arc::clone(&link).keep());
            Ok(Own { link, _kept: kept })
        };
        Ok(&self.own.get_or_try_init(making).await?.link)
    }

    async fn try_publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        let mut kept = self.channel.lock().await;
        let link = self.link().await?;
        let line = link.line().await;
        // What lapin is given now it sends when the server reads again, whatever became of this call.
        if line.conn.status().blocked() {
            return Err(BrokerError::Unreachable(
                "RabbitMQ takes no messages: it is short of memory or disk".to_owned(),
            ));
        }
        let channel = match kept.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => open(&line).await.map_err(|err| unreachable(&err))?,
        };
        match try_join_all(hints.iter().map(|hint| self.send(&channel, hint))).await {
            Ok(_) => {
                *kept = Some(channel);
                Ok(())
            }
            Err(Failed::Unroutable) => {
                tokio::time::sleep(MISSING).await;
                link.declare(&line).await?;
                Err(BrokerError::Unreachable(
                    "a queue was missing in RabbitMQ, and is declared again".to_owned(),
                ))
            }
            Err(Failed::Other(err)) => Err(err),
        }
    }

    async fn send(&self, channel: &Channel, hint: &Hint) -> Result<(), Failed> {
        let payload = serde_json::to_vec(hint)
            .map_err(|err| Failed::Other(BrokerError::Unreachable(err.to_string())))?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(hint.job.to_string().into());
        // The exchange without a name sends to the queue of that name.
        let queue = self.topology.queue(hint.lane);
        let confirm = channel.basic_publish("".into(), queue, options, &payload, properties).await;
        let confirm = confirm.map_err(|err| Failed::Other(unreachable(&err)))?;
        match confirm.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            // Confirmed, but to no queue: it was handed back.
            Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => Err(Failed::Unroutable),
            Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => {
                Err(Failed::Other(BrokerError::NotConfirmed))
            }
            Err(err) => Err(Failed::Other(unreachable(&err))),
        }
    }
}

async fn open(line: &Line) -> lapin::Result<Channel> {
    let channel = line.conn.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn unreachable(err: &lapin::Error) -> BrokerError {
    BrokerError::Unreachable(reason(err))
}
