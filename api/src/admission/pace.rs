//! How often each tenant may submit: a bucket of tokens for each, by this process alone.
//!
//! With several ingresses a tenant may submit so often at each of them. A count that they share would cost each
//! submit a call to the store before anything else is known of it, just when the store has the most to do.

use std::collections::HashMap;
use std::time::Duration;

use millhand_common::model::TenantId;
use tokio::time::Instant;

/// One bucket for each tenant that submitted here: there are no more of them than operators made keys for.
#[derive(Default)]
pub(super) struct Pace(HashMap<TenantId, Bucket>);

/// Holds a minute's worth of tokens and is full at first.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Pace {
    /// Takes a token of a tenant that may submit `per_minute` times a minute; else says when there is one.
    pub(super) fn take(&mut self, tenant: &TenantId, per_minute: u32, now: Instant) -> Result<(), Duration> {
        let most = f64::from(per_minute);
        let per_second = most / 60.0;
        let bucket = self.0.entry(tenant.clone()).or_insert(Bucket { tokens: most, at: now });
        let refill = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        bucket.tokens = (bucket.tokens + refill).min(most);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_no_more_in_the_long_run() {
        let (mut pace, tenant, other) = (Pace::default(), TenantId::default(), "other".parse().unwrap());
        let start = Instant::now();
        let mut taken = Vec::new();
        // Twenty a minute, asked for every 100 ms for ten minutes.
        for tenth in 0..6000 {
            let now = start + Duration::from_millis(tenth * 100);
            if pace.take(&tenant, 20, now).is_ok() {
                taken.push(tenth);
            }
        }
        assert_eq!(taken.iter().filter(|tenth| **tenth < 20).count(), 20, "all at once");
        assert!((218..=220).contains(&taken.len()), "{} in ten minutes, of which one was full", taken.len());
        assert!(pace.take(&other, 20, start).is_ok(), "everybody has a bucket");
    }

    #[test]
    fn after_the_time_that_is_said_there_is_a_token() {
        let (mut pace, tenant, start) = (Pace::default(), TenantId::default(), Instant::now());
        assert_eq!(pace.take(&tenant, 1, start), Ok(()));
        let wait = pace.take(&tenant, 1, start + Duration::from_secs(20)).unwrap_err();
        assert!((39.9..=40.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(pace.take(&tenant, 1, start + Duration::from_secs(59)).is_err());
        assert_eq!(pace.take(&tenant, 1, start + Duration::from_secs(61)), Ok(()));
    }
}
