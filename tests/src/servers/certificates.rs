//! Certificates for servers on loopback.

use std::fs;
use std::path::Path;
use std::process::Command;

/// An authority, and a certificate for loopback that it signed: `authority.pem`, `node.pem` and
/// `node.key` in `folder`.
///
/// # Panics
///
/// When openssl is not installed.
pub fn certify(folder: &Path) {
    let openssl = |args: &str| {
        let done = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
        let done = done.unwrap_or_else(|err| panic!("cannot run openssl: {err}; ./tests/run installs it"));
        assert!(done.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("{key} -x509 -days 2 -subj /CN=authority -keyout authority.key -out authority.pem"));
    openssl(&format!("{key} -subj /CN=node -keyout node.key -out node.csr"));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost")
        .expect("the certificate's names can be written");
    openssl(
        "x509 -req -in node.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names \
         -out node.pem",
    );
}
