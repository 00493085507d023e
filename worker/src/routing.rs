//! Which model answers: agents name a class, a class is routed to pools, and a pool that is sick is left
//! alone.
//!
//! Breakers, retry budgets and widths are of one process: each worker finds out by itself that a pool is sick,
//! after 20 calls, and sends it one probe at a time; and each makes fewer calls at a time of a pool that told it of
//! too much to do. Quota is shared by all, as ever.

mod breaker;
mod budget;
mod class;
mod pool;
mod width;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use millhand_common::model::{Agent, JobSpec};

pub use class::{Class, OnUnavailable, Rule};
pub use pool::Pool;
pub(crate) use pool::{NoEntry, Pass};

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
    /// So many of them, at the front, are there for the load only.
    pub(crate) smaller: usize,
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

    /// Who answers `job` of `agent`; `None` when no model does. `under_load`: the pools of the smaller class come
    /// before the others, where there is one.
    pub(crate) fn of(&self, agent: &Agent, job: &JobSpec, under_load: bool) -> Option<Route> {
        let name = agent.model.as_deref().unwrap_or(DEFAULT);
        let class = self.classes.get(name)?;
        let usual = class.order(name, job);
        let mut order = Vec::new();
        if under_load && let Some((smaller, of)) = self.smaller(class) {
            order = of.order(smaller, job);
            // What answers in any case is no loss.
            order.retain(|pool| usual.first() != Some(pool));
        }
        let smaller = order.len();
        order.extend(usual);
        let mut seen = HashSet::new();
        order.retain(|pool| seen.insert(*pool));
        let pools: Vec<_> = order.into_iter().filter_map(|pool| self.pools.get(pool).cloned()).collect();
        let route = Route { class: name.to_owned(), pools, smaller, on_unavailable: class.on_unavailable };
        (!route.pools.is_empty()).then_some(route)
    }

    /// The class that takes the place of `class` under load, and its name.
    fn smaller<'a>(&'a self, class: &'a Class) -> Option<(&'a str, &'a Class)> {
        let name = class.under_load.as_deref()?;
        Some((name, self.classes.get(name)?))
    }

    /// What pulling waits for: the quotas of all pools that some job of `agents` is sent to first. None at
    /// all when one of them is not limited.
    #[must_use]
    pub fn gates<'a>(
        &self,
        agents: impl IntoIterator<Item = &'a Agent>,
        under_load: bool,
    ) -> Vec<Arc<Quota>> {
        let classes = agents.into_iter().map(|agent| agent.model.as_deref().unwrap_or(DEFAULT));
        let classes = classes.filter_map(|name| self.classes.get(name));
        let asked = classes.map(|class| {
            let smaller = self.smaller(class).filter(|_| under_load);
            smaller.map_or(class, |(_, smaller)| smaller)
        });
        let mut names: Vec<&str> = asked.flat_map(Class::first_choices).collect();
        names.sort_unstable();
        names.dedup();
        let quotas = names.into_iter().map(|name| self.pools.get(name)?.quota().cloned());
        quotas.collect::<Option<_>>().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
