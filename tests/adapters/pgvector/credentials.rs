//! A user of its own, with a password.

use millhand_common::adapters::pgvector::{Database, DatabaseError};
use millhand_tests::servers::Postgres;
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
