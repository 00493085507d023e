//! Who asks. The one place where a credential becomes a tenant.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use millhand_common::model::TenantId;

/// The owner of all that a request reads and writes; never taken from a body.
#[derive(Clone, Debug)]
pub(crate) struct Tenant(pub(crate) TenantId);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // No credentials can be configured yet, so everybody is the default tenant.
        Ok(Self(TenantId::default()))
    }
}
