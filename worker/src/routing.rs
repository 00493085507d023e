//! Which model answers: agents name a class, a class is routed to pools, and a pool that is sick is left
//! alone.
//!
//! Breakers and retry budgets are of one process: each worker finds out by itself that a pool is sick,
//! after 20 calls, and sends it one probe at a time. Quota is shared by all, as ever.

mod breaker;
mod budget;
mod class;
mod pool;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millhand_common::model::{Agent, JobSpec};

pub use class::{Class, OnUnavailable, Rule};
pub(crate) use pool::Pass;
pub use pool::Pool;

use crate::quota::Quota;

/// The pool of `[model]`, and the class of agents that name none.
pub const DEFAULT: &str = "default";

/// All pools, and which of them serve which class.
#[derive(Default)]
pub struct Routes {
    pools: HashMap<String, Arc<Pool>>,
    classes: BTreeMap<String, Class>,
}

/// The pools that may answer one job, in the order they are asked; at least one.
pub(crate) struct Route {
    pub(crate) class: String,
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) on_unavailable: OnUnavailable,
}

impl Routes {
    /// Classes name only pools that are there. Without a class of that name, [`DEFAULT`] is the pool of that
    /// name, if it is there.
    #[must_use]
    pub fn new(pools: Vec<Arc<Pool>>, mut classes: BTreeMap<String, Class>) -> Self {
        let pools: HashMap<_, _> = pools.into_iter().map(|pool| (pool.name().to_owned(), pool)).collect();
        if pools.contains_key(DEFAULT) {
            classes.entry(DEFAULT.to_owned()).or_insert_with(|| Class::of_pool(DEFAULT));
        }
        Self { pools, classes }
    }

    /// Who answers `job` of `agent`; `None` when no model does.
    pub(crate) fn of(&self, agent: &Agent, job: &JobSpec) -> Option<Route> {
        let name = agent.model.as_deref().unwrap_or(DEFAULT);
        let class = self.classes.get(name)?;
        let pools: Vec<_> =
            class.order(name, job).into_iter().filter_map(|pool| self.pools.get(pool).cloned()).collect();
        let route = Route { class: name.to_owned(), pools, on_unavailable: class.on_unavailable };
        (!route.pools.is_empty()).then_some(route)
    }

    /// What pulling waits for: the quotas of all pools that some job of `agents` is sent to first. None at
    /// all when one of them is not limited.
    #[must_use]
    pub fn gates<'a>(&self, agents: impl IntoIterator<Item = &'a Agent>) -> Vec<Arc<Quota>> {
        let classes = agents.into_iter().map(|agent| agent.model.as_deref().unwrap_or(DEFAULT));
        let mut names: Vec<&str> =
            classes.filter_map(|name| self.classes.get(name)).flat_map(Class::first_choices).collect();
        names.sort_unstable();
        names.dedup();
        let quotas = names.into_iter().map(|name| self.pools.get(name)?.quota().cloned());
        quotas.collect::<Option<_>>().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
