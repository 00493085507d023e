//! Where a server listens, and where it may.

use std::io;
use std::net::SocketAddr;

use anyhow::bail;
use tokio::net::TcpListener;

/// Refuses addresses that others can reach: no credentials can be configured yet.
pub(crate) fn check(option: &str, address: SocketAddr, insecure: bool) -> anyhow::Result<()> {
    if address.ip().is_loopback() || insecure {
        return Ok(());
    }
    bail!(
        "{option} {address} can be reached from other machines, and no credentials are configured: listen on \
         127.0.0.1, or say --insecure if something in front of it asks for them"
    )
}

pub(crate) async fn bind(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|err| {
        let hint = match err.kind() {
            io::ErrorKind::AddrInUse => {
                format!(": is another server running? Choose another address with {option}, port 0 for any")
            }
            _ => String::new(),
        };
        anyhow::Error::new(err).context(format!("cannot listen on {address}{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_let_in_only_when_it_is_said() {
        for local in ["127.0.0.1:0", "127.9.9.9:8080", "[::1]:8080"] {
            check("--listen", local.parse().unwrap(), false).unwrap();
        }
        for open in ["0.0.0.0:8080", "[::]:8080", "192.168.1.2:80"] {
            let open = open.parse().unwrap();
            assert!(check("--admin", open, false).unwrap_err().to_string().contains("--insecure"));
            check("--admin", open, true).unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_says_what_to_choose() {
        let taken = bind("--listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let err = bind("--listen", taken.local_addr().unwrap()).await.unwrap_err();
        assert!(format!("{err:#}").contains("--listen"), "{err:#}");
    }
}
