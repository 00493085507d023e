//! What every keeper of API keys must do.

use std::sync::Arc;

use crate::model::{ApiKey, Scope, TenantId, Timestamp};
use crate::ports::Keys;

/// Holds a keeper to all of it. `reopened` is another process's view of the same keeper.
///
/// # Panics
///
/// When it does not.
pub async fn keys_are_kept_listed_and_revoked(keeper: Arc<dyn Keys>, reopened: Arc<dyn Keys>) {
    assert_eq!(keeper.keys().await.expect("it answers"), []);
    let tenant: TenantId = "acme".parse().expect("it answers");
    let (first, _) = ApiKey::new(tenant.clone(), vec![Scope::Submit, Scope::Read]);
    let (second, _) = ApiKey::new(tenant, vec![Scope::Admin]);
    keeper.add_key(&first).await.expect("it answers");
    keeper.add_key(&second).await.expect("it answers");
    keeper.add_key(&ApiKey { scopes: Vec::new(), ..first.clone() }).await.expect("it answers");
    assert_eq!(reopened.keys().await.expect("it answers"), [first.clone(), second.clone()]);

    let (then, later) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
    assert!(!keeper.revoke_key("key_of_nobody", then).await.expect("it answers"));
    assert!(keeper.revoke_key(&first.id, then).await.expect("it answers"));
    assert!(reopened.revoke_key(&first.id, later).await.expect("it answers"));
    let revoked = ApiKey { revoked_at: Some(then), ..first };
    assert_eq!(reopened.keys().await.expect("it answers"), [revoked, second]);

    let secret = keeper.shared_secret([7; 32]).await.expect("it answers");
    assert_eq!(secret, [7; 32]);
    assert_eq!(reopened.shared_secret([8; 32]).await.expect("it answers"), secret, "the first one stays");
    assert_eq!(reopened.keys().await.expect("it answers").len(), 2, "the secret is no key");
}
