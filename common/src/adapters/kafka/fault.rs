//! What Kafka's client complains of, as the port says it.

use rdkafka::error::KafkaError;

use crate::ports::BrokerError;

pub(super) fn unreachable(err: KafkaError) -> BrokerError {
    match err {
        // Its own text holds the value, which may be a password under a misspelt key.
        KafkaError::ClientConfig(_, reason, key, _) => {
            BrokerError::Refused(format!("option `{key}` of Kafka is not taken: {reason}{}", remedy(&reason)))
        }
        KafkaError::ClientCreation(reason) if !remedy(&reason).is_empty() => {
            BrokerError::Refused(format!("{reason}{}", remedy(&reason)))
        }
        err => BrokerError::Unreachable(err.to_string()),
    }
}

/// What a build without TLS leaves to be done; librdkafka advises to build it anew.
fn remedy(reason: &str) -> &'static str {
    if reason.contains("OpenSSL not available") || reason.contains("openssl support") {
        "; build millhand with `--features kafka-ssl`"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_needs_tls_is_told_how_to_have_it() {
        let said = |reason: &str| unreachable(KafkaError::ClientCreation(reason.to_owned())).to_string();
        let advice = "; build millhand with `--features kafka-ssl`";
        assert!(
            said("No provider for SASL mechanism SCRAM-SHA-512: recompile with openssl support")
                .ends_with(advice)
        );
        assert!(!said("`group.id` is empty").contains(advice));
    }
}
