//! Where the server is, and one connection to it.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use url::{Host, Url};

use super::reason;
use super::topology::Version;
use crate::ports::BrokerError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds. A connection that was silent for twice as long is dead.
const HEARTBEAT: u16 = 10;
/// Bytes. Hints take some hundred; what is longer goes in several frames. RabbitMQ 4 takes no less than 8 KiB.
///
/// That it is named at all matters most: lapin has two buffers of 32 frames for each connection, and fills the
/// 8 MiB that they grow to when only RabbitMQ names a size: with `?frame_max=0` a start shows what that costs.
const FRAME_MAX: u32 = 16 << 10;
/// Keys that may follow the `?` of an address.
const KEYS: &[&str] =
    &["auth_mechanism", "cacertfile", "channel_max", "connection_timeout", "frame_max", "heartbeat"];

/// The server's address with its credentials. Never printed.
pub(super) struct Address {
    uri: AMQPUri,
    /// Certificates in PEM that are trusted besides those of the system.
    authorities: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

impl Address {
    /// Reads `amqp[s]://[user:password@]host[:port][/vhost][?key=value…]`, and the file of certificates
    /// that it names.
    pub(super) fn parse(text: &str) -> Result<Self, BrokerError> {
        // What the parsers say may hold the whole text, and so the password.
        let malformed = || {
            BrokerError::Refused(
                "the address of RabbitMQ is not like amqp://user:password@host:5672/vhost (amqps:// for TLS; \
                 characters such as / and @ in a password are percent-encoded)"
                    .to_owned(),
            )
        };
        let url = Url::parse(text).map_err(|_| malformed())?;
        if !matches!(url.scheme(), "amqp" | "amqps") || url.host_str().is_none_or(str::is_empty) {
            return Err(malformed());
        }
        let mut authorities = None;
        for (key, value) in url.query_pairs() {
            if !KEYS.contains(&&*key) {
                let known = KEYS.join(", ");
                return Err(BrokerError::Refused(format!(
                    "the address of RabbitMQ has an unknown key `{key}` after its `?`: known are {known}"
                )));
            }
            if key == "cacertfile" {
                let pem = fs::read_to_string(&*value)
                    .map_err(|err| BrokerError::Refused(format!("cannot read cacertfile {value}: {err}")))?;
                authorities = Some(pem);
            }
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| malformed())?;
        // Its own parser takes such an address for localhost.
        if let Some(Host::Ipv6(host)) = url.host() {
            uri.authority.host = host.to_string();
        }
        // By the letter `amqp://host/` names a virtual host without a name, which nobody means.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        Ok(Self { uri, authorities })
    }

    /// A new connection to a server that has told its [version](Self::version) a moment ago: lapin would leave a
    /// thread behind that waits for one that does not answer. `role` is its name in the server's lists.
    pub(super) async fn connect(&self, role: &str) -> Result<Connection, BrokerError> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("millhand {role}").into());
        let runtime = lapin::runtime::default_runtime().map_err(|err| self.away(&reason(&err)))?;
        let connecting =
            Connection::connect_uri_with_config(self.uri.clone(), properties, self.tls(), runtime);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| self.late())?;
        connected.map_err(|err| self.away(&reason(&err)))
    }

    /// The server's version. One that is too old is an error.
    pub(super) async fn version(&self) -> Result<Version, BrokerError> {
        let said =
            tokio::time::timeout(CONNECT_TIMEOUT, self.first_words()).await.map_err(|_| self.late())?;
        let version = said.map_err(|err| self.away(&err.to_string()))?;
        if version < Version::OLDEST {
            return Err(BrokerError::Refused(format!(
                "RabbitMQ at {self} is {version}, but quorum queues need {} or later",
                Version::OLDEST
            )));
        }
        Ok(version)
    }

    fn away(&self, why: &str) -> BrokerError {
        BrokerError::Unreachable(format!("RabbitMQ at {self}: {why}"))
    }

    fn late(&self) -> BrokerError {
        self.away("no answer in time")
    }

    fn tls(&self) -> OwnedTLSConfig {
        OwnedTLSConfig { identity: None, cert_chain: self.authorities.clone() }
    }

    /// The version in the first words of a connection, which lapin does not hand on.
    async fn first_words(&self) -> io::Result<Version> {
        let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
        let tls = self.tls();
        let mut stream = self.uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.flush().await?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        // A method on channel 0, and no longer than a frame may be before it is agreed on.
        if head[..3] != [1, 0, 0] || length > 128 << 10 {
            return Err(io::Error::other("it does not speak AMQP 0-9-1"));
        }
        let mut start = vec![0; length];
        stream.read_exact(&mut start).await?;
        Version::in_start(&start).ok_or_else(|| io::Error::other("it does not tell its version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String, String) {
        let address = Address::parse(text).unwrap();
        (address.to_string(), address.uri.vhost.clone(), address.uri.authority.userinfo.password.clone())
    }

    #[test]
    fn an_address_is_read_with_its_defaults() {
        let of = |host: &str, vhost: &str, password: &str| {
            (host.to_owned(), vhost.to_owned(), password.to_owned())
        };
        assert_eq!(parts("amqp://rabbit"), of("rabbit:5672", "/", "guest"));
        assert_eq!(parts("amqps://me:p%40ss%2F@rabbit/"), of("rabbit:5671", "/", "p@ss/"));
        assert_eq!(parts("amqp://[::1]:5673/mill"), of("::1:5673", "mill", "guest"));
        assert_eq!(Address::parse("amqp://h").unwrap().uri.query.heartbeat, Some(HEARTBEAT));
        assert_eq!(Address::parse("amqp://h?heartbeat=30").unwrap().uri.query.heartbeat, Some(30));
        assert_eq!(Address::parse("amqp://h").unwrap().uri.query.frame_max, Some(FRAME_MAX));
        assert_eq!(Address::parse("amqp://h?frame_max=9000").unwrap().uri.query.frame_max, Some(9000));
    }

    #[test]
    fn a_bad_address_is_refused_without_its_password() {
        let bad = [
            "amqp:me:canary@host",
            "me:canary@host",
            "http://me:canary@host",
            "amqp://me:canary/x@host:5672",
            "amqp://me:canary@host?verify=verify_none",
            "amqp://me:canary@host?heartbeat=soon",
            "amqp://me:canary@host?cacertfile=/nowhere.pem",
            "amqp://",
        ];
        for text in bad {
            let err = Address::parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(matches!(err, BrokerError::Refused(_)) && !err.to_string().contains("canary"), "{err}");
        }
    }
}
