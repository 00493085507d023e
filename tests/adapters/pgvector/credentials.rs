//! A user of its own, with a password, and TLS.

use std::path::Path;

use millhand_common::adapters::pgvector::{Database, DatabaseError};
use millhand_tests::servers::{PgBouncer, Postgres, certify};
use millhand_tests::wait_for;

use super::{built, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_lets_in_and_a_wrong_one_is_told_without_saying_it() {
    let server = Postgres::shared().await;
    let url = server.new_database_of("mill", "canary-91bd").await;
    let wrong = url.replace("canary-91bd", "canary-wrong");
    // The new rule counts a moment after it was asked for.
    let err =
        wait_for("the server to want the password", async || Database::connect(&wrong).await.err()).await;
    let DatabaseError::Unreachable(source) = &err else { panic!("{err}") };
    assert!(source.to_string().contains("password authentication failed"), "{source}");
    assert!(!format!("{err} {err:?}").contains("canary"), "{err:?}");

    let database = Database::connect(&url).await.unwrap();
    // As an owner of the database, and no superuser.
    database.migrate().await.unwrap();
    built(&database, options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_over_tls_and_a_certificate_that_nobody_trusted_signed_is_refused() {
    let server = Postgres::shared().await;
    let direct = server.new_database().await;
    let front = PgBouncer::start(&server).await;
    let url = front.url(&direct);
    let trusting =
        |authority: &Path| format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display());
    let database = Database::connect(&trusting(&front.authority())).await.unwrap();
    database.migrate().await.unwrap();
    built(&database, options()).await;

    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    for url in [
        format!("{url}?sslmode=verify-full"),
        trusting(&other.path().join("authority.pem")),
        // Nor is TLS given up.
        format!("{url}?sslmode=disable"),
    ] {
        let err = Database::connect(&url).await.expect_err("it is refused");
        let DatabaseError::Unreachable(source) = &err else { panic!("{err}") };
        let said = source.to_string();
        assert!(said.contains("certificate") || said.contains("SSL required"), "{url}: {said}");
    }
}
