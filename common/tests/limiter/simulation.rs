//! Workers on one quota, in virtual time: jobs come faster than the quota allows, are pulled when the
//! forecast says so, wait a moment in place or are given back until their time, call, and now and then
//! die with their call.

use std::collections::VecDeque;

use millhand_common::limiter::Pool;
use millhand_common::ports::{Amounts, Asking, LimitFacts, LimitPolicy, Reserved, Said, Used};
use uuid::Uuid;

use crate::provider::{Manner, Provider};

/// Numbers that are the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// In 0..most.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most.max(1)
    }

    pub(crate) fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) policy: LimitPolicy,
    pub(crate) phase: u64,
    pub(crate) full: bool,
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    /// Each with its own gate, and as many slots of these.
    pub(crate) workers: usize,
    pub(crate) slots: usize,
    /// Tokens of a small prompt; every tenth is `large` times as long.
    pub(crate) input: u64,
    pub(crate) large: u64,
    /// What is reserved for a prompt, in percent of what it takes.
    pub(crate) bound_percent: u64,
    /// The most that is asked for, and the share of it that is written, in percent.
    pub(crate) max_output: u64,
    pub(crate) written_percent: u64,
    /// The longest that a call takes.
    pub(crate) longest_ms: u64,
    /// Calls whose worker dies, in percent.
    pub(crate) dying_percent: u64,
    /// Jobs for each job that the quota allows, in percent.
    pub(crate) load_percent: u64,
    /// What the provider says, and does that nobody configured.
    pub(crate) manner: Manner,
}

struct Job {
    ticket: Uuid,
    input: u64,
    output: u64,
    arrived: u64,
    not_before: u64,
    is_large: bool,
}

/// A slot's job: waits, or calls.
enum Slot {
    Free,
    /// In place, until then; since when.
    Waiting(Job, u64, u64),
    Calling {
        call: Uuid,
        used: (u64, u64),
        writes: VecDeque<u64>,
        arrives: Option<u64>,
        ends: u64,
        dies: bool,
    },
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) calls: u64,
    pub(crate) given_back: u64,
    pub(crate) small_wait_ms: f64,
    pub(crate) large_wait_ms: f64,
    pub(crate) parked_ms: u64,
    pub(crate) slot_ms: u64,
}

const STEP: u64 = 5;
const IN_PLACE: u64 = 250;
/// From a gate that opens until the job asks: it is claimed, and prepared.
const PULL: u64 = 15;

/// What a worker knows of the quota: as `worker/src/quota/gate.rs` has it.
#[derive(Clone, Copy, Default)]
struct Gate {
    asked: Option<u64>,
    room: u32,
    look_again: Option<u64>,
}

impl Gate {
    const FRESH: u64 = 50;

    /// Whether to pull one job more, beside `undecided` that were pulled here and have not been let in.
    fn opens(&mut self, pool: &mut Pool, undecided: u32, now: u64) -> bool {
        if self.room == 0 || self.asked.is_none_or(|asked| asked + Self::FRESH <= now) {
            if self.look_again.is_some_and(|at| now < at) || self.asked == Some(now) {
                return false;
            }
            let offer = pool.offer(now, 16);
            self.asked = Some(now);
            self.room = offer.calls.saturating_sub(undecided);
            let opens_in = u64::try_from(offer.opens_in.as_millis()).unwrap();
            self.look_again = (self.room == 0).then_some(now + opens_in.max(Self::FRESH));
        }
        let opens = self.room > 0;
        self.room -= u32::from(opens);
        opens
    }

    fn wake(&mut self) {
        self.look_again = None;
    }
}

pub(crate) fn run(plan: &Plan) -> (Provider, Outcome) {
    let mut dice = Dice::new(plan.seed);
    let mut provider = Provider::new(plan.policy.clone(), plan.phase, plan.full, plan.manner);
    let mut pool = Pool::new(plan.policy.clone(), 0);
    let mut queue: VecDeque<Job> = VecDeque::new();
    let mut slots: Vec<Slot> = (0..plan.slots).map(|_| Slot::Free).collect();
    let mut gates = vec![Gate::default(); plan.workers];
    let mut outcome = Outcome::default();
    let (mut waits, mut arrivals) = ([(0u64, 0u64); 2], 0.0);
    let mut number = 0u128;
    let mut now = 0;
    while now < plan.seconds * 1000 {
        now += STEP;
        arrivals += arrivals_in(plan, STEP);
        while arrivals >= 1.0 {
            arrivals -= 1.0;
            number += 1;
            queue.push_back(some_job(plan, &mut dice, number, now));
        }
        let mut undecided = vec![0; plan.workers];
        for (at, slot) in slots.iter().enumerate() {
            undecided[at % plan.workers] += u32::from(matches!(slot, Slot::Waiting(..)));
        }
        for (at, slot) in slots.iter_mut().enumerate() {
            let worker = at % plan.workers;
            if let Slot::Free = slot
                && let Some(at) = queue.iter().position(|job| job.not_before <= now)
                && gates[worker].opens(&mut pool, undecided[worker], now)
                && let Some(job) = queue.remove(at)
            {
                undecided[worker] += 1;
                *slot = Slot::Waiting(job, now + PULL, now + PULL);
            }
            let was_free = matches!(slot, Slot::Free);
            *slot = match std::mem::replace(slot, Slot::Free) {
                Slot::Free => Slot::Free,
                Slot::Waiting(job, until, since) if until > now => Slot::Waiting(job, until, since),
                Slot::Waiting(mut job, _, since) => {
                    number += 1;
                    let call = Uuid::from_u128(number << 64);
                    let amounts = Amounts::call(job.input * plan.bound_percent / 100, plan.max_output);
                    match pool.reserve(now, &Asking { call, ticket: job.ticket, amounts }) {
                        Reserved::Granted => {
                            let (sum, count) = &mut waits[usize::from(job.is_large)];
                            (*sum, *count) = (*sum + now - job.arrived, *count + 1);
                            outcome.calls += 1;
                            gates[worker].wake();
                            outcome.parked_ms += now - since;
                            some_call(plan, &mut dice, call, &job, now)
                        }
                        later @ (Reserved::At(wait) | Reserved::Park(wait)) => {
                            let until = now + u64::try_from(wait.as_millis()).unwrap();
                            if until <= since + IN_PLACE && matches!(later, Reserved::At(_)) {
                                Slot::Waiting(job, until, since)
                            } else {
                                outcome.given_back += 1;
                                outcome.parked_ms += now - since;
                                job.not_before = until;
                                let place = queue.iter().position(|other| other.arrived > job.arrived);
                                queue.insert(place.unwrap_or(queue.len()), job);
                                Slot::Free
                            }
                        }
                        never @ Reserved::Never { .. } => panic!("{never:?}"),
                    }
                }
                calling @ Slot::Calling { .. } => go_on(calling, plan, &mut pool, &mut provider, now),
            };
            if !was_free && matches!(slot, Slot::Free) {
                gates[worker].wake();
            }
            outcome.slot_ms += STEP;
        }
    }
    let mean = |(sum, count): (u64, u64)| sum as f64 / count.max(1) as f64;
    (outcome.small_wait_ms, outcome.large_wait_ms) = (mean(waits[0]), mean(waits[1]));
    (provider, outcome)
}

/// So many that the scarcest dimension is asked for `load_percent` of what there is.
fn arrivals_in(plan: &Plan, millis: u64) -> f64 {
    let input = plan.input as f64 * (9 + plan.large) as f64 / 10.0;
    let written = if plan.manner == Manner::Arrival { 100 } else { plan.written_percent };
    let output = plan.max_output as f64 * written as f64 / 100.0;
    let each = [1.0, input, output, input + output];
    let limits = plan.policy.per_minute.iter().zip(each);
    let allowed = limits.filter_map(|(limit, each)| Some((*limit)? as f64 / each));
    let per_minute = allowed.fold(f64::INFINITY, f64::min);
    let per_minute = if per_minute.is_finite() { per_minute } else { 600.0 };
    per_minute * plan.load_percent as f64 / 100.0 * millis as f64 / 60_000.0
}

fn some_job(plan: &Plan, dice: &mut Dice, number: u128, now: u64) -> Job {
    let is_large = dice.hits(10);
    let input = plan.input * if is_large { plan.large } else { 1 };
    let spread = (plan.max_output * plan.written_percent / 100).max(1);
    let output = (spread / 2 + dice.below(spread)).min(plan.max_output);
    Job { ticket: Uuid::from_u128(number), input, output, arrived: now, not_before: now, is_large }
}

fn some_call(plan: &Plan, dice: &mut Dice, call: Uuid, job: &Job, now: u64) -> Slot {
    let arrives = now + dice.below(200);
    let took = 50 + dice.below(plan.longest_ms);
    let dies = dice.hits(plan.dying_percent);
    // All at once at the end is the hardest; evenly is the rule.
    let late = dice.hits(20);
    let mut writes: Vec<u64> = (0..job.output)
        .map(|n| if late { arrives + took - 1 } else { arrives + took * n / job.output.max(1) })
        .collect();
    if dies {
        writes.truncate(writes.len() / 2);
    }
    let ends = arrives + took + dice.below(100);
    Slot::Calling {
        call,
        used: (job.input, job.output),
        writes: writes.into(),
        arrives: Some(arrives),
        ends,
        dies,
    }
}

fn go_on(slot: Slot, plan: &Plan, pool: &mut Pool, provider: &mut Provider, now: u64) -> Slot {
    let Slot::Calling { call, used, mut writes, mut arrives, ends, dies } = slot else { return slot };
    if arrives.is_some_and(|at| at <= now) {
        arrives = None;
        let is_let_in = provider.admit(now, used.0, plan.max_output);
        let facts = LimitFacts { tokens: provider.says(), ..LimitFacts::default() };
        if !is_let_in {
            let wait = Some(provider.retry_after(used.0, plan.max_output));
            pool.observe(now, call, &Said::Limited { wait, facts });
            pool.settle(now, call, Used::Refused);
            return Slot::Free;
        }
        if plan.manner != Manner::Silent {
            pool.observe(now, call, &Said::Answered(facts));
        }
    }
    if arrives.is_none() {
        let mut tokens = 0;
        while writes.front().is_some_and(|at| *at <= now) {
            writes.pop_front();
            tokens += 1;
        }
        provider.write(now, tokens);
    }
    if ends <= now && writes.is_empty() && arrives.is_none() {
        provider.end();
        if !dies {
            pool.settle(now, call, Used::Exactly(Amounts::call(used.0, used.1)));
        }
        return Slot::Free;
    }
    if !dies && (now / STEP).is_multiple_of(1_000) {
        pool.extend(now, call);
    }
    Slot::Calling { call, used, writes, arrives, ends, dies }
}
