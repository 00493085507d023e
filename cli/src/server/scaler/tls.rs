//! What the scaler is served with.

use std::fs;
use std::path::Path;

use anyhow::Context;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::args::ScalerArgs;

/// `None` without a certificate. The files are read once: a new certificate needs a new process.
pub(super) fn config(args: &ScalerArgs) -> anyhow::Result<Option<ServerTlsConfig>> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let identity = Identity::from_pem(read("--tls-cert", cert)?, read("--tls-key", key)?);
    let mut config = ServerTlsConfig::new().identity(identity);
    if let Some(authority) = &args.tls_client_ca {
        config = config.client_ca_root(Certificate::from_pem(read("--tls-client-ca", authority)?));
    }
    Ok(Some(config))
}

fn read(option: &str, path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {option} {}", path.display()))
}
