//! Where the servers are, and how they are spoken to.

use std::fs;

use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisResult, TlsCertificates};
use url::Url;

use super::options::OpenError;

/// Keys that may follow the `?` of an address.
const KEYS: &[&str] = &["cacertfile"];

/// One address, or several of one cluster. Never printed: it holds the password.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) seeds: Vec<ConnectionInfo>,
    /// Certificates in PEM that are trusted instead of those of the system.
    authorities: Option<Vec<u8>>,
}

impl Address {
    /// Reads `redis[s]://[user:password@]host[:port][/db][?cacertfile=FILE]`, several by comma, and the
    /// file of certificates that they name.
    pub(super) fn parse(text: &str) -> Result<Self, OpenError> {
        let mut address = Self { seeds: Vec::new(), authorities: None };
        for one in text.split(',') {
            address.add(one.trim())?;
        }
        Ok(address)
    }

    fn add(&mut self, text: &str) -> Result<(), OpenError> {
        // What the parsers say may hold the whole text, and so the password.
        let malformed = || {
            OpenError::Url(
                "it is not like redis://user:password@host:6379 (rediss:// for TLS; characters such as / and @ in a \
                 password are percent-encoded)"
                    .to_owned(),
            )
        };
        let mut url = Url::parse(text).map_err(|_| malformed())?;
        if !matches!(url.scheme(), "redis" | "rediss") || url.host_str().is_none_or(str::is_empty) {
            return Err(malformed());
        }
        for (key, value) in url.query_pairs() {
            if !KEYS.contains(&&*key) {
                let known = KEYS.join(", ");
                return Err(OpenError::Url(format!("unknown key `{key}` after its `?`: known are {known}")));
            }
            if url.scheme() != "rediss" {
                return Err(OpenError::Url(format!("`{key}` is of use with TLS only: write rediss://")));
            }
            let pem = fs::read(&*value)
                .map_err(|err| OpenError::Url(format!("cannot read cacertfile {value}: {err}")))?;
            // Without one nothing would be trusted, and nobody would see why.
            if !String::from_utf8_lossy(&pem).contains("BEGIN CERTIFICATE") {
                return Err(OpenError::Url(format!("no certificate in PEM is in cacertfile {value}")));
            }
            self.authorities = Some(pem);
        }
        url.set_query(None);
        self.seeds.push(url.into_connection_info().map_err(|_| malformed())?);
        Ok(())
    }

    /// Whether credentials are sent.
    pub(super) fn has_password(&self) -> bool {
        self.seeds.iter().any(|seed| seed.redis_settings().password().is_some())
    }

    pub(super) fn certificates(&self) -> Option<TlsCertificates> {
        Some(TlsCertificates { client_tls: None, root_cert: Some(self.authorities.clone()?) })
    }

    pub(super) fn client(&self, seed: &ConnectionInfo) -> RedisResult<Client> {
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(seed.clone(), certificates),
            None => Client::open(seed.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_its_credentials() {
        let address = Address::parse("redis://mill:p%40ss@one:7000/2, rediss://two").unwrap();
        let [one, two] = &address.seeds[..] else { panic!("two addresses") };
        assert_eq!((one.addr().to_string(), two.addr().to_string()), ("one:7000".into(), "two:6379".into()));
        assert_eq!(one.redis_settings().password(), Some("p@ss"));
        assert!(address.has_password() && address.certificates().is_none());
    }

    #[test]
    fn a_bad_address_is_refused_without_its_password() {
        for text in [
            "",
            "redis:me:canary@host",
            "me:canary@host",
            "http://me:canary@host",
            "redis://me:canary/x@host:6379",
            "redis://me:canary@host/first",
            "rediss://me:canary@host?verify=none",
            "rediss://me:canary@host?cacertfile=/nowhere.pem",
            "redis://me:canary@host?cacertfile=/etc/hosts",
            "rediss://me:canary@host?cacertfile=/etc/hosts",
        ] {
            let err = Address::parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(matches!(err, OpenError::Url(_)) && !format!("{err:?}").contains("canary"), "{err}");
        }
    }
}
