//! Which pools answer a job, in which order. Pure: the same job always gets the same answer, so that a
//! later attempt goes where the earlier one was.

use std::collections::BTreeMap;

use millhand_common::model::{JobSpec, Lane, TenantId};
use serde::Deserialize;

/// `[routes.CLASS]` of the configuration: what agents name as their `model`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Class {
    /// Pools with their weights: each job goes to one of them, by chance that is the same for all jobs of
    /// a conversation.
    pub pools: BTreeMap<String, u32>,
    /// Pools that are asked, in this order, when that one cannot serve.
    pub fallback: Vec<String>,
    /// What becomes of a job that none of them can serve.
    pub on_unavailable: OnUnavailable,
    /// Other pools for some jobs; the first rule that fits counts.
    pub rules: Vec<Rule>,
    /// The class that is asked first in a brownout: of a smaller, cheaper or wider model.
    pub under_load: Option<String>,
}

/// Who is served by other pools than the rest. All that it names must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub tenants: Vec<TenantId>,
    pub lanes: Vec<Lane>,
    pub pools: BTreeMap<String, u32>,
    /// Absent: the class's.
    pub fallback: Option<Vec<String>>,
}

/// What becomes of a job when no pool of its class can serve it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnavailable {
    /// It waits in the queue, until its deadline.
    #[default]
    Wait,
    /// `rag` answers with quotations, as without a model.
    Extractive,
    /// It fails at once.
    Fail,
}

impl OnUnavailable {
    /// As the configuration names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Extractive => "extractive",
            Self::Fail => "fail",
        }
    }
}

impl Class {
    /// The class of one pool, without anything else.
    #[must_use]
    pub fn of_pool(name: &str) -> Self {
        Self { pools: BTreeMap::from([(name.to_owned(), 1)]), ..Self::default() }
    }

    /// The pools that may answer `job`, in the order they are asked, each once.
    #[must_use]
    pub fn order(&self, name: &str, job: &JobSpec) -> Vec<&str> {
        let rule = self.rules.iter().find(|rule| rule.fits(job));
        let pools = rule.map_or(&self.pools, |rule| &rule.pools);
        let fallback = rule.and_then(|rule| rule.fallback.as_ref()).unwrap_or(&self.fallback);
        let mut order: Vec<&str> = weighted(pools, draw(name, job)).into_iter().collect();
        for pool in fallback {
            if !order.contains(&pool.as_str()) {
                order.push(pool);
            }
        }
        order
    }

    /// Every pool that it names, some more than once.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let rules =
            self.rules.iter().flat_map(|rule| rule.pools.keys().chain(rule.fallback.iter().flatten()));
        self.pools.keys().chain(&self.fallback).chain(rules).map(String::as_str)
    }

    /// Every pool that is the first choice of some job.
    pub fn first_choices(&self) -> impl Iterator<Item = &str> {
        let all = self.pools.iter().chain(self.rules.iter().flat_map(|rule| &rule.pools));
        all.filter(|(_, weight)| **weight > 0).map(|(name, _)| name.as_str())
    }
}

impl Rule {
    fn fits(&self, job: &JobSpec) -> bool {
        let tenant = self.tenants.is_empty() || self.tenants.contains(&job.tenant);
        tenant && (self.lanes.is_empty() || self.lanes.contains(&job.lane))
    }
}

/// A number that all jobs of a conversation have in common: FNV-1a, its upper half.
fn draw(class: &str, job: &JobSpec) -> u32 {
    let id = job.conversation_id.map_or(job.id.uuid(), |conversation| conversation.uuid());
    let hash = class.bytes().chain(*id.as_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The last bytes have not reached the upper bits yet.
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 32) as u32
}

/// The pool at `drawn` of all, by weight; `None` when nothing has any.
fn weighted(pools: &BTreeMap<String, u32>, drawn: u32) -> Option<&str> {
    let all: u64 = pools.values().map(|weight| u64::from(*weight)).sum();
    let mut at = (u64::from(drawn) * all) >> 32;
    for (name, weight) in pools {
        match at.checked_sub(u64::from(*weight)) {
            Some(rest) => at = rest,
            None => return Some(name),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use millhand_common::model::{ConversationId, JobId};

    use super::*;

    fn job(tenant: &str, lane: Lane) -> JobSpec {
        let spec = serde_json::json!({
            "id": JobId::new(), "tenant": tenant, "lane": lane, "agent": "chat", "deadline": "1m",
            "input": {"kind": "chat", "messages": []},
        });
        serde_json::from_value(spec).unwrap()
    }

    fn class(json: serde_json::Value) -> Class {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn weights_are_shares_and_zero_is_never() {
        let class = class(serde_json::json!({"pools": {"main": 90, "canary": 10, "off": 0}}));
        let mut counts: HashMap<String, u32> = HashMap::new();
        for _ in 0..20_000 {
            let order = class.order("smart", &job("default", Lane::Interactive)).join(" ");
            *counts.entry(order).or_default() += 1;
        }
        let share = f64::from(counts["canary"]) / 20_000.0;
        assert!((0.085..0.115).contains(&share), "{counts:?}");
        assert_eq!(counts["canary"] + counts["main"], 20_000, "{counts:?}");
    }

    #[test]
    fn a_job_and_its_conversation_stay_where_they_are() {
        let class = class(serde_json::json!({"pools": {"a": 1, "b": 1}}));
        let conversation = Some(ConversationId::new());
        let first = JobSpec { conversation_id: conversation, ..job("default", Lane::Interactive) };
        for _ in 0..50 {
            let next = JobSpec { conversation_id: conversation, ..job("default", Lane::Interactive) };
            assert_eq!(class.order("smart", &next), class.order("smart", &first));
        }
        let alone = job("default", Lane::Interactive);
        assert_eq!(class.order("smart", &alone), class.order("smart", &alone.clone()));
    }

    #[test]
    fn two_classes_choose_apart() {
        let class = class(serde_json::json!({"pools": {"a": 1, "b": 1}}));
        let jobs: Vec<_> = (0..400).map(|_| job("default", Lane::Interactive)).collect();
        let same = jobs.iter().filter(|job| class.order("x", job) == class.order("y", job)).count();
        assert!((140..260).contains(&same), "{same} of 400");
    }

    #[test]
    fn fallbacks_follow_in_order_and_nobody_twice() {
        let class = class(serde_json::json!({"pools": {"a": 1}, "fallback": ["b", "a", "c"]}));
        assert_eq!(class.order("smart", &job("default", Lane::Batch)), ["a", "b", "c"]);
    }

    #[test]
    fn tenants_and_lanes_have_pools_of_their_own() {
        let class = class(serde_json::json!({
            "pools": {"main": 1}, "fallback": ["spare"],
            "rules": [
                {"tenants": ["acme"], "lanes": ["batch"], "pools": {"cheap": 1}, "fallback": []},
                {"tenants": ["acme", "globex"], "pools": {"large": 1}},
                {"lanes": ["batch"], "pools": {"cheap": 1}},
            ],
        }));
        let order = |tenant, lane| class.order("smart", &job(tenant, lane)).join(" ");
        assert_eq!(order("acme", Lane::Batch), "cheap");
        assert_eq!(order("acme", Lane::Interactive), "large spare");
        assert_eq!(order("globex", Lane::Batch), "large spare");
        assert_eq!(order("default", Lane::Batch), "cheap spare");
        assert_eq!(order("default", Lane::Interactive), "main spare");
        let mut first: Vec<_> = class.first_choices().collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first, ["cheap", "large", "main"]);
    }
}
