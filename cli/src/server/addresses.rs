//! Where a server listens, and where it may.

use std::io;
use std::net::SocketAddr;

use anyhow::bail;
use tokio::net::TcpListener;

/// Why a server without keys is for its own machine.
pub(crate) const NO_KEYS: &str = "there are no keys (`millhand keys create --tenant NAME` makes one)";

/// Refuses addresses that others can reach, unless keys are asked for or it was said that none need be.
pub(crate) fn check(option: &str, address: SocketAddr, open: bool, why_not: &str) -> anyhow::Result<()> {
    if address.ip().is_loopback() || open {
        return Ok(());
    }
    bail!(
        "{option} {address} can be reached from other machines, and {why_not}: listen on 127.0.0.1, or say \
         --insecure if something in front of it asks who comes"
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
            check("--listen", local.parse().unwrap(), false, NO_KEYS).unwrap();
        }
        for open in ["0.0.0.0:8080", "[::]:8080", "192.168.1.2:80"] {
            let open = open.parse().unwrap();
            assert!(check("--admin", open, false, NO_KEYS).unwrap_err().to_string().contains("--insecure"));
            check("--admin", open, true, NO_KEYS).unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_says_what_to_choose() {
        let taken = bind("--listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let err = bind("--listen", taken.local_addr().unwrap()).await.unwrap_err();
        assert!(format!("{err:#}").contains("--listen"), "{err:#}");
    }
}
