//! Tickets: a page's right to read one job, for as long as it takes to open a stream. Browsers send no
//! header with `EventSource` and WebSockets, and a key must not be part of an address.

use std::time::Duration;

use millhand_common::model::{TenantId, Timestamp};

/// How long a ticket opens streams; an open one stays.
const TICKET_TTL: Duration = Duration::from_secs(300);

const MARK: &str = "mht_";

/// `mht_<end, ms since 1970, hex>.<MAC>.<tenant>`; a tenant may hold dots, so it comes last.
pub(super) fn issue(secret: &[u8; 32], tenant: &TenantId, job: &str) -> (String, u64) {
    let ends = (Timestamp::now() + TICKET_TTL).as_millis();
    (format!("{MARK}{ends:x}.{}.{tenant}", mac(secret, ends, tenant, job).to_hex()), ends)
}

/// Whose job it is for; `None` when it is for another one, forged or too old.
pub(super) fn check(secret: &[u8; 32], ticket: &str, job: &str) -> Option<TenantId> {
    let mut parts = ticket.strip_prefix(MARK)?.splitn(3, '.');
    let ends = u64::from_str_radix(parts.next()?, 16).ok()?;
    let given = blake3::Hash::from_hex(parts.next()?).ok()?;
    let tenant: TenantId = parts.next()?.parse().ok()?;
    // Hashes are compared in constant time.
    let good = given == mac(secret, ends, &tenant, job) && Timestamp::now().as_millis() < ends;
    good.then_some(tenant)
}

fn mac(secret: &[u8; 32], ends: u64, tenant: &TenantId, job: &str) -> blake3::Hash {
    blake3::keyed_hash(secret, format!("ticket\n{ends:x}\n{tenant}\n{job}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_job_of_one_tenant_and_cannot_be_prolonged() {
        let (secret, tenant) = ([3; 32], "a.b".parse::<TenantId>().unwrap());
        let (ticket, ends) = issue(&secret, &tenant, "job_1");
        assert_eq!(check(&secret, &ticket, "job_1"), Some(tenant.clone()));
        assert_eq!(check(&secret, &ticket, "job_2"), None);
        assert_eq!(check(&[4; 32], &ticket, "job_1"), None);
        assert_eq!(check(&secret, &ticket.replace("a.b", "a.c"), "job_1"), None);
        let later = ticket.replace(&format!("{ends:x}"), &format!("{:x}", ends + 1));
        assert_eq!(check(&secret, &later, "job_1"), None);
        let old = Timestamp::now().as_millis() - 1;
        let expired = format!("{MARK}{old:x}.{}.{tenant}", mac(&secret, old, &tenant, "job_1").to_hex());
        assert_eq!(check(&secret, &expired, "job_1"), None);
        for nonsense in ["", "mht_", "mht_x.y.z", &ticket[..ticket.len() - 4]] {
            assert_eq!(check(&secret, nonsense, "job_1"), None, "{nonsense}");
        }
    }
}
