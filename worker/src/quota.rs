//! The model's quota as a worker uses it: asked for before each call, settled after it, and looked at
//! before work is pulled. A job that has to wait gives its slot back.

mod bounds;
mod gate;
mod limited;
mod settler;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use millhand_common::model::{JobError, JobId, Usage};
use millhand_common::ports::{
    Amounts, Asking, GRANT_TTL, LimitFacts, LimitPolicy, ModelError, RateLimiter, Reserved, Said, Used,
};
use millhand_common::telemetry;
use millhand_common::tokens;
use uuid::Uuid;

use crate::attempt::Attempt;
use gate::Gate;
pub(crate) use gate::{needs_none, opened, pulled};
pub use limited::Limited;
pub(crate) use limited::Turn;
use settler::{Settler, Task};

/// A job keeps its slot this long for quota that is on its way: giving it back and taking it again is not
/// free. Longer waits are for the queue. With twice that, a simulated fleet that is held to its quota spent
/// four times as much of its slots on waiting, and used no more of the quota.
pub(crate) const IN_PLACE: Duration = Duration::from_millis(250);
/// The same for a job whose step was said to begin: giving it back would look as if the call had been made.
pub(crate) const IN_PLACE_ONCE_BEGUN: Duration = Duration::from_secs(5);
/// While the limiter is away there are no new calls; it is asked again after this long.
const AWAY_PAUSE: Duration = Duration::from_millis(250);
/// And after this long the job is given back, if the store can take it.
const AWAY_PATIENCE: Duration = Duration::from_secs(10);
/// When a job that was given back for it comes again.
const AWAY_WAIT: Duration = Duration::from_secs(1);

/// What all calls of one pool may take, those of other processes included.
pub struct Quota {
    limiter: Arc<dyn RateLimiter>,
    policy: LimitPolicy,
    /// The longest answer of a job that does not say one.
    max_output_tokens: u32,
    gate: Arc<Gate>,
    settler: Settler,
}

impl Quota {
    /// `max_output_tokens` bounds the answers of jobs that do not bound them, where output is limited: what
    /// has no upper bound cannot be reserved.
    #[must_use]
    pub fn new(limiter: Arc<dyn RateLimiter>, policy: LimitPolicy, max_output_tokens: u32) -> Arc<Self> {
        let gate = Arc::new(Gate::default());
        let settler = Settler::start(Arc::clone(&limiter), Arc::clone(&gate));
        Arc::new(Self { limiter, policy, max_output_tokens, gate, settler })
    }

    /// The right to make a call of `step`, waited for in place for at most `patience`. Dropped, it is given
    /// back.
    ///
    /// # Errors
    /// [`Denied`] when there is none soon, or never.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        attempt: &Attempt,
        step: &str,
        prompt: &[&str],
        patience: Duration,
    ) -> Result<Permit, Denied> {
        let input = tokens::at_most(prompt.iter().copied());
        let bound = bounds::output_tokens(&self.policy, self.max_output_tokens, input);
        let output = attempt.max_output_tokens(bound).unwrap_or(self.max_output_tokens);
        let ticket = ticket(attempt.job().spec.id, step);
        let admitted = self.wait_for(ticket, [input, u64::from(output)], bound, patience).await;
        self.gate.decided();
        count_yield(&admitted, input + u64::from(output));
        admitted
    }

    /// The right to make a call that takes at most so many tokens of input and output, from the place in the
    /// line that `ticket` has.
    async fn wait_for(
        self: &Arc<Self>,
        ticket: Uuid,
        [input, output]: [u64; 2],
        bound: Option<u32>,
        patience: Duration,
    ) -> Result<Permit, Denied> {
        let amounts = Amounts::call(input, output);
        let started = Instant::now();
        let most = input + output;
        // Owned before it is asked for: however this future ends, what was granted is given back.
        let mut permit = Permit::new(self, bound, most);
        loop {
            let asked = Instant::now();
            let answer = self.limiter.reserve(&Asking { call: permit.call, ticket, amounts }).await;
            histogram!(telemetry::LIMITER_RESERVE_TIME).record(asked.elapsed().as_secs_f64());
            let (wait, is_sure) = match answer {
                Ok(Reserved::Granted) => {
                    count("granted");
                    permit.granted = asked;
                    if permit.is_fresh() {
                        histogram!(telemetry::LIMITER_PARKED).record(started.elapsed().as_secs_f64());
                        return Ok(permit);
                    }
                    permit.give_back().await;
                    permit = Permit::new(self, bound, most);
                    continue;
                }
                Ok(Reserved::At(wait)) => {
                    count("at");
                    (wait, true)
                }
                Ok(Reserved::Park(wait)) => {
                    count("park");
                    (wait, false)
                }
                Ok(Reserved::Never { dimension, limit, asked }) => {
                    count("never");
                    permit.forget();
                    return Err(never(dimension.as_str(), limit, asked));
                }
                Err(err) => {
                    count("away");
                    tracing::warn!(error = %err, "limiter is away: no model call is made");
                    if started.elapsed() > AWAY_PATIENCE {
                        return Err(Denied::Later { after: AWAY_WAIT });
                    }
                    tokio::time::sleep(AWAY_PAUSE).await;
                    continue;
                }
            };
            // Nobody knows when a parked call can start: a slot is too good for that.
            if started.elapsed() + wait > patience || (!is_sure && patience <= IN_PLACE) {
                permit.forget();
                histogram!(telemetry::LIMITER_PARKED).record(started.elapsed().as_secs_f64());
                return Err(Denied::Later { after: wait });
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// A job whose call takes at most so many tokens was denied, and gives its slot back.
fn count_yield(admitted: &Result<Permit, Denied>, tokens: u64) {
    let Err(Denied::Later { after }) = admitted else { return };
    counter!(telemetry::LIMITER_YIELDS, "reason" => "quota").increment(1);
    let size = match tokens {
        0..=2_000 => "small",
        2_001..=16_000 => "medium",
        _ => "large",
    };
    histogram!(telemetry::LIMITER_WAIT, "size" => size).record(after.as_secs_f64());
}

/// A provider refused a call for its rate, and the job gives its slot back.
pub(crate) fn count_refused() {
    counter!(telemetry::LIMITER_YIELDS, "reason" => "refused").increment(1);
}

fn count(answer: &'static str) {
    counter!(telemetry::LIMITER_ANSWERS, "answer" => answer).increment(1);
}

/// Why a call is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Not before this long from now.
    Later { after: Duration },
    /// It asks for more than there can ever be.
    Never(JobError),
}

fn never(dimension: &str, limit: u64, asked: u64) -> Denied {
    let message = format!(
        "one call may take {asked} {dimension}, but no more than {limit} fit the limits: ask with a smaller \
         max_output_tokens or a shorter question, or raise the limits of the model"
    );
    Denied::Never(JobError::new("model_limit_too_small", message, false))
}

/// Names a step of a job, whichever attempt comes to it: FNV-1a of its key over the job's id.
fn ticket(job: JobId, step: &str) -> Uuid {
    let hash = step.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Uuid::from_u128(job.uuid().as_u128() ^ u128::from(hash))
}

/// What is to be settled when a permit is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for or granted, and nothing was sent.
    Unsent,
    Sent,
    Settled,
}

/// The right to make one call. Whatever becomes of it is told to the limiter.
pub(crate) struct Permit {
    quota: Arc<Quota>,
    call: Uuid,
    /// A moment before it was granted.
    granted: Instant,
    bound: Option<u32>,
    /// Tokens that the call takes at most.
    most: u64,
    state: State,
}

impl Permit {
    fn new(quota: &Arc<Quota>, bound: Option<u32>, most: u64) -> Self {
        let (call, granted) = (Uuid::now_v7(), Instant::now());
        Self { quota: Arc::clone(quota), call, granted, bound, most, state: State::Unsent }
    }

    /// Whether the call may still be sent on it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.granted.elapsed() < GRANT_TTL
    }

    /// Gives a grant back that came too late, so that the next one can be had at once.
    pub(crate) async fn give_back(mut self) {
        counter!(telemetry::LIMITER_STALE).increment(1);
        if self.quota.limiter.settle(self.call, Used::Nothing).await.is_ok() {
            self.state = State::Settled;
        }
    }

    /// The longest answer that was reserved for a job that says none.
    pub(crate) fn max_output_tokens(&self) -> Option<u32> {
        self.bound
    }

    /// The call goes out: from now on it may have cost something.
    pub(crate) fn sent(&mut self) {
        self.state = State::Sent;
        self.quota.settler.goes_on(self.call);
    }

    /// The provider let it in, and said something of its limits.
    pub(crate) fn answered(&self, facts: &LimitFacts) {
        if *facts != LimitFacts::default() {
            self.quota.settler.tell(Task::Observe(self.call, Said::Answered(*facts)));
        }
    }

    /// The call has ended as it should; without a count it may have used all.
    pub(crate) fn ended(&mut self, usage: Option<Usage>) {
        if let Some(used) =
            usage.map(|usage| usage.input_tokens + usage.output_tokens).filter(|used| *used > 0)
        {
            histogram!(telemetry::LIMITER_ASKED).record(self.most as f64 / used as f64);
        }
        self.settle(usage.map_or(Used::Unknown, |usage| {
            Used::Exactly(Amounts::call(usage.input_tokens, usage.output_tokens))
        }));
    }

    /// The call has failed, if it had not ended before.
    pub(crate) fn failed(&mut self, err: &ModelError) {
        if self.state == State::Settled {
            return;
        }
        match err {
            ModelError::RateLimited { retry_after, limits } => {
                counter!(telemetry::LIMITER_REFUSALS).increment(1);
                let said = Said::Limited { wait: *retry_after, facts: **limits };
                self.quota.settler.tell(Task::Observe(self.call, said));
                self.settle(Used::Refused);
            }
            // It holds everybody back, as a limit does; that it was not let in is sure.
            ModelError::Overloaded { retry_after: Some(wait) } => {
                let said = Said::Limited { wait: Some(*wait), facts: LimitFacts::default() };
                self.quota.settler.tell(Task::Observe(self.call, said));
                self.settle(Used::Refused);
            }
            ModelError::Overloaded { retry_after: None }
            | ModelError::NoCredit(_)
            | ModelError::TooLarge(_)
            | ModelError::Rejected(_)
            | ModelError::Filtered(_)
            | ModelError::Unauthorized => self.settle(Used::Refused),
            ModelError::Unavailable(_) | ModelError::TimedOut | ModelError::Malformed(_) => {
                self.settle(Used::Unknown);
            }
        }
    }

    /// It was never granted.
    fn forget(&mut self) {
        self.state = State::Settled;
    }

    fn settle(&mut self, used: Used) {
        if self.state != State::Settled {
            self.state = State::Settled;
            self.quota.settler.tell(Task::Settle(self.call, used));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.state {
            State::Unsent => self.settle(Used::Nothing),
            State::Sent => self.settle(Used::Unknown),
            State::Settled => {}
        }
    }
}
