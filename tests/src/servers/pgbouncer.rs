//! `PgBouncer` in front of PostgreSQL: it speaks TLS, which the PostgreSQL that `tests/run` fetches cannot.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;

use super::certificates::certify;
use super::postgres::{Postgres, as_nobody, give_to_nobody};
use super::{Process, free_port};

/// Where Debian's package has it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A running one, which takes nobody without TLS.
pub struct PgBouncer {
    process: Process,
    port: u16,
}

impl PgBouncer {
    /// Starts one in front of `server`, with a certificate that [`PgBouncer::authority`] signed.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start: with its output.
    pub async fn start(server: &Postgres) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certify(folder.path());
        let (port, file) = (free_port(), folder.path().join("pgbouncer.ini"));
        fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").expect("its users");
        fs::write(&file, settings(folder.path(), port, server.port())).expect("its settings");
        give_to_nobody(folder.path());
        let process = Process::start("pgbouncer", folder, |folder| {
            let mut command = as_nobody(Path::new(PROGRAM));
            command.arg(folder.join("pgbouncer.ini"));
            command
        });
        let mut bouncer = Self { process, port };
        bouncer.process.until(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        bouncer
    }

    /// The address of the same database through it; how TLS is to be used is up to the caller.
    ///
    /// # Panics
    ///
    /// When `direct` is not an address of [`Postgres::new_database`].
    #[must_use]
    pub fn url(&self, direct: &str) -> String {
        let name = direct.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("its name");
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// The certificate that signed its own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.process.folder().join("authority.pem")
    }
}

fn settings(folder: &Path, port: u16, server: u16) -> String {
    let folder = folder.display();
    format!(
        "[databases]\n* = host=127.0.0.1 port={server}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users\npool_mode = session\n\
         ignore_startup_parameters = extra_float_digits,options\nclient_tls_sslmode = require\n\
         client_tls_cert_file = {folder}/node.pem\nclient_tls_key_file = {folder}/node.key\n"
    )
}
