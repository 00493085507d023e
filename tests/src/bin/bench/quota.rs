//! `just bench-quota`: eight workers against a provider that enforces its limits, at one and a half times what
//! they allow; and the same load through three policies that are common today, in the same run.
//!
//! The policies are clients of this program, each with as many workers and slots as the product has. All
//! figures but the time spent in slots come from the provider's own ledger. Wait is counted from the moment a
//! job was due until its call was let in; a job that was not let in at all has waited until the end.

mod calls;
mod halved;
mod kills;
mod load;
mod mode;
mod naive;
mod operations;
mod outcome;
mod product;
mod tenants;

use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;

use crate::table::Table;
use mode::Mode;
use naive::Policy;
use outcome::Outcome;

/// Of each policy.
const WORKERS: usize = 8;
const SLOTS: usize = 32;

/// What to measure, and for how long.
struct Wanted {
    modes: Vec<Mode>,
    /// Until a policy has found its pace; what it learns, it learns here.
    warm_up: Duration,
    /// A whole minute and no more: what it says of a window does not depend on the window's phase.
    measured: Duration,
    kills: u32,
    only: Option<String>,
}

impl Wanted {
    fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut wanted = Self {
            modes: Mode::ALL.to_vec(),
            warm_up: Duration::from_secs(20),
            measured: Duration::from_secs(60),
            kills: 6,
            only: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().with_context(|| format!("{word} what?"));
            match *word {
                "--warm-up" => wanted.warm_up = Duration::from_secs(value()?.parse()?),
                "--measured" => wanted.measured = Duration::from_secs(value()?.parse()?),
                "--kills" => wanted.kills = value()?.parse()?,
                "only" => wanted.only = Some(value()?.to_owned()),
                mode => match Mode::ALL.into_iter().find(|known| known.as_str() == mode) {
                    Some(mode) => wanted.modes = vec![mode],
                    None => bail!(
                        "bench quota takes bucket|window|slices|arrival, --warm-up SECONDS, --measured SECONDS, \
                         --kills N, only ours|naive|operations|halved|tenants|kills"
                    ),
                },
            }
        }
        Ok(wanted)
    }

    fn has(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

pub(crate) async fn measure(words: &[&str]) -> anyhow::Result<()> {
    let wanted = Wanted::parse(words)?;
    let mut policies = Table::with(&Outcome::HEAD);
    for mode in &wanted.modes {
        if wanted.has("ours") {
            let outcome = product::measure(*mode, wanted.warm_up, wanted.measured).await?;
            policies.push(outcome.row(*mode, "ours", true));
        }
        if wanted.has("naive") {
            // Each has a provider of its own, so they may run side by side.
            let runs =
                Policy::ALL.map(|policy| naive::measure(*mode, policy, wanted.warm_up, wanted.measured));
            for (policy, outcome) in Policy::ALL.into_iter().zip(try_join_all(runs).await?) {
                policies.push(outcome.row(*mode, policy.as_str(), false));
            }
        }
    }
    let mut table = Table::default();
    if wanted.has("operations") {
        operations::measure(&mut table).await?;
    }
    if wanted.has("halved") {
        halved::measure(&mut table).await?;
    }
    if wanted.has("tenants") {
        tenants::measure(&mut table).await?;
    }
    if wanted.has("kills") {
        kills::measure(&mut table, wanted.kills).await?;
    }
    println!("{policies}\n{table}");
    Ok(())
}
