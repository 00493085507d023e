//! What a failed command, or a failed first connection, means.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::ports::StoreError;

use super::options::OpenError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server is away, starts, or is no longer the master: another try may find it. `is_lost`: the
    /// command may have been done all the same.
    Away {
        is_lost: bool,
    },
    NoScript,
    Full,
    /// Neither time nor room helps.
    Broken,
}

pub(super) fn fault(err: &RedisError) -> Fault {
    use ServerErrorKind as Kind;
    let not_done = Fault::Away { is_lost: false };
    match (err.kind(), err.code()) {
        (_, Some("OOM")) => Fault::Full,
        (ErrorKind::Server(Kind::NoScript), _) => Fault::NoScript,
        (
            ErrorKind::Server(
                Kind::BusyLoading
                | Kind::Moved
                | Kind::Ask
                | Kind::TryAgain
                | Kind::ClusterDown
                | Kind::MasterDown
                | Kind::ReadOnly,
            ),
            _,
        ) => not_done,
        // A disk that fails, too few replicas, a script that runs too long.
        (ErrorKind::Extension, Some("MISCONF" | "NOREPLICAS" | "BUSY" | "UNBLOCKED")) => not_done,
        (ErrorKind::InvalidClientConfig | ErrorKind::AuthenticationFailed, _) => not_done,
        (
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::Client | ErrorKind::UnexpectedReturnType,
            _,
        ) => Fault::Broken,
        _ => Fault::Away { is_lost: !err.is_connection_refusal() },
    }
}

/// Why the first connection fails, told so that a person knows what to change. Never the password.
pub(super) fn not_opened(address: String, has_password: bool, err: &RedisError) -> OpenError {
    let refused = |reason: &str| OpenError::Login { address: address.clone(), reason: reason.to_owned() };
    match (err.kind(), err.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) if has_password => {
            refused("it refuses the user or password given in the address")
        }
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH")) => {
            refused("it wants a password, which stands in the address: redis://user:password@host")
        }
        (_, Some("NOPERM")) => refused(&format!("the user may not do all that is needed: {err}")),
        _ => StoreError::Unreachable(err.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_apart() {
        let said = |line: &str| {
            let value = redis::parse_redis_value(line.as_bytes()).unwrap();
            let err = value.extract_error().unwrap_err();
            fault(&err)
        };
        assert_eq!(said("-OOM command not allowed when used memory > 'maxmemory'.\r\n"), Fault::Full);
        for away in ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS"]
        {
            assert_eq!(said(&format!("-{away} why\r\n")), Fault::Away { is_lost: false }, "{away}");
        }
        assert_eq!(said("-MOVED 3999 127.0.0.1:6381\r\n"), Fault::Away { is_lost: false });
        assert_eq!(said("-ERR user_script:7: attempt to index a nil value\r\n"), Fault::Broken);
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(fault(&cut), Fault::Away { is_lost: true }, "it may have been done");
        let refused = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(fault(&refused), Fault::Away { is_lost: false });
    }
}
