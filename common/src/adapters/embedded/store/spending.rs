//! Money: what calls have used is booked as their events are written, in the same transaction, and what
//! they may use is held in memory, where the call's own event brings it back after a restart.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use crate::model::{
    CallStarted, CallUsed, Certainty, EventBody, JobId, Spent, TenantId, Timestamp, Usage, Written,
};
use crate::ports::{Budget, Held, Hold, Lease, Spending, StoreError};

use super::super::engine::{Fault, Tx};
use super::super::schema::LIVE;
use super::EmbeddedStore;
use super::append::{owned_last_seq, write};
use super::record;
use super::state::Live;

/// The two events that say what is spent.
const CALLED: &str = "model.called";
const USED: &str = "usage.updated";

/// What a live job has spent, and what its open call may.
#[derive(Clone, Debug, Default)]
pub(super) struct Money {
    pub(super) spent: Spent,
    /// What counts against the job's budget: what was held, where nobody knows what was used.
    counted: u64,
    open: Option<Open>,
    hold: Option<OnHold>,
}

/// A call that was begun and is not over.
#[derive(Clone, Debug)]
struct Open {
    /// Of its first event.
    seq: u64,
    day: String,
}

#[derive(Clone, Debug)]
struct OnHold {
    day: String,
    nano_usd: u64,
}

impl Money {
    fn opened(&mut self, seq: u64, today: String) {
        let day = self.hold.as_ref().map_or(today, |hold| hold.day.clone());
        self.open = Some(Open { seq, day });
    }

    /// What of it counts against budgets.
    fn used(&mut self, used: &CallUsed) -> u64 {
        let held = self.hold.take().map_or(0, |hold| hold.nano_usd);
        let counted =
            if used.certainty == Certainty::Exact { used.nano_usd } else { used.nano_usd.max(held) };
        self.open = None;
        self.counted += counted;
        self.spent.add(used);
        counted
    }
}

/// What each tenant has spent on the last day on which it spent anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Days(HashMap<TenantId, Day>);

#[derive(Clone, Debug, Default)]
struct Day {
    day: String,
    spent: u64,
    held: u64,
}

impl Days {
    /// The tenant's sums of `day`, or of a later one: a clock that steps back gives nothing.
    fn of(&mut self, tenant: &TenantId, day: &str) -> &mut Day {
        let sums = self.0.entry(tenant.clone()).or_default();
        if sums.day.as_str() < day {
            *sums = Day { day: day.to_owned(), ..Day::default() };
        }
        sums
    }

    fn hold(&mut self, tenant: &TenantId, hold: &OnHold) {
        self.of(tenant, &hold.day).held += hold.nano_usd;
    }

    fn give_back(&mut self, tenant: &TenantId, hold: &OnHold) {
        let sums = self.of(tenant, &hold.day);
        if sums.day == hold.day {
            sums.held = sums.held.saturating_sub(hold.nano_usd);
        }
    }

    fn spend(&mut self, tenant: &TenantId, day: &str, nano_usd: u64) {
        let sums = self.of(tenant, day);
        if sums.day == day {
            sums.spent += nano_usd;
        }
    }
}

/// Takes note of an event that was just written, if it says something of money.
pub(super) fn note(tx: &mut Tx<'_>, job: JobId, kind: &str, data: &str) -> rusqlite::Result<()> {
    let today = || tx.now.day();
    let Some(live) = tx.state.get_mut(job) else { return Ok(()) };
    match kind {
        CALLED => live.money.opened(live.last_seq, today()),
        USED => {
            let Ok(used) = serde_json::from_str::<CallUsed>(data) else { return Ok(()) };
            let day = live.money.open.as_ref().map_or_else(today, |open| open.day.clone());
            let (hold, tenant) = (live.money.hold.clone(), live.tenant.clone());
            let counted = live.money.used(&used);
            if let Some(hold) = hold {
                tx.state.days.give_back(&tenant, &hold);
            }
            tx.state.days.spend(&tenant, &day, counted);
            book(tx.db, &day, &tenant, &used, counted)?;
        }
        _ => {}
    }
    Ok(())
}

fn book(
    db: &Connection,
    day: &str,
    tenant: &TenantId,
    used: &CallUsed,
    counted: u64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO spending (day, tenant, model, calls, input_tokens, output_tokens, nano_usd, counted)
         VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7)
         ON CONFLICT (day, tenant, model) DO UPDATE SET calls = calls + 1,
             input_tokens = input_tokens + ?4, output_tokens = output_tokens + ?5,
             nano_usd = nano_usd + ?6, counted = counted + ?7",
    )?
    .execute(params![
        day,
        tenant.as_str(),
        used.model,
        used.input_tokens,
        used.output_tokens,
        used.nano_usd,
        counted
    ])?;
    Ok(())
}

/// The job loses its owner. A call that is still open may have been paid: it is booked by what the log
/// holds of its answer. Money that no call was made on is given back.
pub(super) fn settle(tx: &mut Tx<'_>, job: JobId) -> Result<(), Fault> {
    let Some(live) = tx.state.get_mut(job) else { return Ok(()) };
    let Some(open) = &live.money.open else {
        let (hold, tenant) = (live.money.hold.take(), live.tenant.clone());
        if let Some(hold) = hold {
            tx.state.days.give_back(&tenant, &hold);
        }
        return Ok(());
    };
    let (version, seq) = (live.version, open.seq);
    let heard = tx.state.last_heard(job);
    let (mut call, mut written): (Option<CallStarted>, _) = (None, Written::default());
    for event in record::log_from(tx.db, job, version, seq)? {
        match event.body() {
            Some(EventBody::ModelCalled(started)) => call = Some(started),
            Some(EventBody::OutputTextDelta { text }) => written.add(&text, event.at),
            _ => {}
        }
    }
    if let Some(call) = call {
        write(tx, job, EventBody::UsageUpdated(call.in_doubt(written, heard)).parts())?;
    }
    Ok(())
}

fn hold(tx: &mut Tx<'_>, lease: &Lease, hold: Hold) -> Held {
    if owned_last_seq(tx, lease).is_none() {
        return Held::Fenced;
    }
    let now = tx.now;
    let Some(live) = tx.state.get_mut(lease.job) else { return Held::Fenced };
    if live.money.open.is_some() {
        return Held::Busy;
    }
    let (before, spent) = (live.money.hold.take(), live.money.counted);
    if let Some(before) = before {
        tx.state.days.give_back(&lease.tenant, &before);
    }
    let fits = |spent: u64, limit: Option<u64>| {
        limit.is_none_or(|limit| spent.saturating_add(hold.nano_usd) <= limit)
    };
    if !fits(spent, hold.per_job) {
        return Held::OverJob { spent };
    }
    let day = tx.state.days.of(&lease.tenant, &now.day());
    if !fits(day.spent, hold.per_day) {
        return Held::OverDay(Spending { spent: day.spent, held: day.held, now });
    }
    if !fits(day.spent.saturating_add(day.held), hold.per_day) {
        return Held::Busy;
    }
    let on_hold = OnHold { day: day.day.clone(), nano_usd: hold.nano_usd };
    tx.state.days.hold(&lease.tenant, &on_hold);
    if let Some(live) = tx.state.get_mut(lease.job) {
        live.money.hold = Some(on_hold);
    }
    Held::Ok
}

fn spending(tx: &mut Tx<'_>, tenant: &TenantId) -> Spending {
    let day = tx.state.days.of(tenant, &tx.now.day());
    Spending { spent: day.spent, held: day.held, now: tx.now }
}

/// What the disk holds of live jobs' money and of the last day.
pub(super) fn load(db: &Connection, jobs: &mut HashMap<JobId, Live>) -> rusqlite::Result<Days> {
    let mut days = Days::default();
    let mut statement = db.prepare(
        "SELECT day, tenant, sum(counted) FROM spending WHERE day = (SELECT max(day) FROM spending)
         GROUP BY tenant",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (day, tenant): (String, _) = (row.get(0)?, record::tenant(row.get(1)?)?);
        days.spend(&tenant, &day, row.get(2)?);
    }
    let mut statement = db.prepare(&format!(
        "SELECT jobs.id, events.seq, events.at, events.kind, events.data
         FROM jobs JOIN events ON events.job = jobs.version
         WHERE {LIVE} AND events.kind IN ('model.called', 'usage.updated')
         ORDER BY events.job, events.seq"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(live) = jobs.get_mut(&record::job_id(row.get(0)?)) else { continue };
        let (kind, data): (String, String) = (row.get(3)?, row.get(4)?);
        if kind == CALLED {
            let day = Timestamp::from_millis(row.get(2)?).day();
            let held = serde_json::from_str::<CallStarted>(&data).map_or(0, |call| call.held_nano_usd);
            live.money.hold = (held > 0).then(|| OnHold { day: day.clone(), nano_usd: held });
            live.money.opened(row.get(1)?, day);
        } else if let Ok(used) = serde_json::from_str::<CallUsed>(&data) {
            live.money.used(&used);
        }
    }
    for live in jobs.values() {
        if let Some(hold) = &live.money.hold {
            days.hold(&live.tenant, hold);
        }
    }
    Ok(days)
}

/// After a rollback: holds that no event tells of yet, of jobs that still have the same owner.
pub(super) fn keep_holds(jobs: &mut HashMap<JobId, Live>, days: &mut Days, old: &HashMap<JobId, Live>) {
    for (id, live) in jobs {
        let before = old.get(id).filter(|before| before.epoch == live.epoch && before.money.open.is_none());
        if let Some(hold) = before.and_then(|before| before.money.hold.clone())
            && live.money.open.is_none()
        {
            days.hold(&live.tenant, &hold);
            live.money.hold = Some(hold);
        }
    }
}

impl Live {
    /// What the job has spent so far, as its record says; `None` where no model was called.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.money.spent.usage()
    }
}

#[async_trait]
impl Budget for EmbeddedStore {
    async fn hold(&self, lease: &Lease, hold: Hold) -> Result<Held, StoreError> {
        let lease = lease.clone();
        self.in_memory(move |tx| Ok(self::hold(tx, &lease, hold))).await
    }

    async fn spending(&self, tenant: &TenantId) -> Result<Spending, StoreError> {
        let tenant = tenant.clone();
        self.in_memory(move |tx| Ok(self::spending(tx, &tenant))).await
    }
}
