//! Workers, jobs and a provider, one event after the other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use millhand_common::scale::{Observed, Totals};

use crate::dice::{along, answer_seconds, exponential};
use crate::outcome::Outcome;
use crate::provider::Provider;
use crate::rules::{Rule, Seen};
use crate::scenario::{Scenario, settings};

/// What running jobs get after their worker was told to stop; then they go back, with what they have done.
const DRAIN_MS: u64 = 20_000;
/// Points of each line that is drawn.
pub(crate) const SAMPLES: u64 = 200;

/// A question.
#[derive(Clone, Copy)]
struct Job {
    arrived: u64,
    /// Its time in a slot.
    takes: u64,
}

/// One that waits.
struct Ready {
    job: Job,
    since: u64,
    /// Of its time; less than all of it when it was given back.
    left: u64,
}

struct Running {
    run: u64,
    job: Job,
    started: u64,
    ends: u64,
}

struct Worker {
    number: u64,
    is_up: bool,
    drains: bool,
    running: Vec<Running>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    /// Worker.
    IsUp(u64),
    /// Worker, run.
    Ends(u64, u64),
    /// Worker.
    IsKilled(u64),
    /// A call may start.
    Refilled,
    Decides,
    Sampled,
}

struct World<'a> {
    scenario: &'a Scenario,
    now: u64,
    /// The earliest first; of one time the first made first.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    dice: Rng,
    most_arrivals: f64,
    queue: VecDeque<Ready>,
    workers: Vec<Worker>,
    provider: Provider,
    waits_for_refill: bool,
    totals: Totals,
    outcome: Outcome,
}

/// Runs a scenario under a rule. The same seed is the same load, whatever the rule.
pub(crate) fn run(scenario: &Scenario, seed: u64, rule: &mut dyn Rule) -> Outcome {
    let mut world = World {
        scenario,
        now: 0,
        events: BinaryHeap::new(),
        numbers: 0,
        dice: Rng::with_seed(seed),
        most_arrivals: scenario.arrivals.iter().fold(0.0, |most: f64, (_, rate)| most.max(*rate)),
        queue: VecDeque::new(),
        workers: Vec::new(),
        provider: Provider::default(),
        waits_for_refill: false,
        totals: Totals::default(),
        outcome: Outcome::default(),
    };
    world.expect_arrival();
    world.at(0, Event::Decides);
    world.at(0, Event::Sampled);
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        if at >= scenario.seconds * 1000 {
            break;
        }
        world.pass(at);
        world.happen(event, rule);
    }
    world.pass(scenario.seconds * 1000);
    let running = world.workers.iter().flat_map(|worker| worker.running.iter().map(|running| running.job));
    let open: Vec<Job> = world.queue.iter().map(|ready| ready.job).chain(running).collect();
    for job in open {
        world.outcome.ended(job.delay(world.now));
    }
    world.outcome
}

impl Job {
    /// What it took beyond its own time, if it ended now.
    fn delay(&self, now: u64) -> u64 {
        (now - self.arrived).saturating_sub(self.takes)
    }
}

impl World<'_> {
    fn at(&mut self, at: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((at, self.numbers, event)));
    }

    /// Time passes, and workers are paid for it.
    fn pass(&mut self, now: u64) {
        self.outcome.worker_ms += self.workers.len() as u64 * (now - self.now);
        self.now = now;
    }

    fn happen(&mut self, event: Event, rule: &mut dyn Rule) {
        match event {
            Event::Arrives => self.arrive(),
            Event::IsUp(number) => {
                if let Some(worker) = self.worker(number) {
                    worker.is_up = true;
                }
            }
            Event::Ends(number, run) => self.end(number, run),
            Event::IsKilled(number) => self.kill(number),
            Event::Refilled => self.waits_for_refill = false,
            Event::Decides => self.decide(rule),
            Event::Sampled => self.sample(),
        }
        self.workers.retain(|worker| !worker.drains || !worker.running.is_empty());
        self.start_jobs();
        if self.queue.is_empty() && self.workers.iter().all(|worker| worker.running.is_empty()) {
            self.outcome.idle_since.get_or_insert(self.now);
        } else {
            self.outcome.idle_since = None;
        }
    }

    fn worker(&mut self, number: u64) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.number == number)
    }

    /// Arrivals of the highest rate, of which a lower one leaves some out.
    fn expect_arrival(&mut self) {
        let wait = exponential(&mut self.dice) / self.most_arrivals;
        self.at(self.now + (wait * 1000.0) as u64, Event::Arrives);
    }

    fn arrive(&mut self) {
        self.expect_arrival();
        let (chance, seconds) = (self.dice.f64(), answer_seconds(&mut self.dice));
        let now = self.now as f64 / 1000.0;
        if chance * self.most_arrivals >= along(&self.scenario.arrivals, now) {
            return;
        }
        let takes = (seconds * along(&self.scenario.slowness, now) * 1000.0) as u64;
        let job = Job { arrived: self.now, takes };
        self.totals.arrived += 1;
        self.queue.push_back(Ready { job, since: self.now, left: takes });
    }

    fn end(&mut self, number: u64, run: u64) {
        let (now, stuck) = (self.now, self.scenario.stuck);
        let Some(worker) = self.worker(number) else { return };
        let Some(at) = worker.running.iter().position(|running| running.run == run) else { return };
        if let Some((from, to)) = stuck.map(|(from, to)| ((from * 1000.0) as u64, (to * 1000.0) as u64))
            && (from..to).contains(&now)
        {
            // It ends at some moment of the ten seconds after.
            let ends = to + run % 100 * 100;
            worker.running[at].ends = ends;
            self.at(ends, Event::Ends(number, run));
            return;
        }
        let running = worker.running.swap_remove(at);
        self.outcome.ended(running.job.delay(now));
        self.totals.ended += 1;
        self.totals.calls += 1;
        self.totals.busy += Duration::from_millis(now - running.started);
    }

    fn kill(&mut self, number: u64) {
        let now = self.now;
        let Some(worker) = self.worker(number) else { return };
        let given_back: Vec<Running> = worker.running.drain(..).collect();
        for Running { job, ends, .. } in given_back {
            self.outcome.given_back += 1;
            self.queue.push_front(Ready { job, since: now, left: ends.saturating_sub(now) });
        }
    }

    /// As many as there are slots and calls for, the emptiest worker first.
    fn start_jobs(&mut self) {
        let slots = settings().slots as usize;
        while !self.queue.is_empty() {
            let can_take = |worker: &&Worker| worker.is_up && !worker.drains && worker.running.len() < slots;
            let free = self.workers.iter().filter(can_take).min_by_key(|worker| worker.running.len());
            let Some(number) = free.map(|worker| worker.number) else { return };
            let rate = self.rate();
            if let Err(refilled) = self.provider.take(self.now, rate) {
                self.wake_at(refilled);
                return;
            }
            let Ready { job, left, .. } = self.queue.pop_front().unwrap();
            self.numbers += 1;
            let (run, started, ends) = (self.numbers, self.now, self.now + left);
            self.worker(number).unwrap().running.push(Running { run, job, started, ends });
            self.outcome.started();
            self.at(ends, Event::Ends(number, run));
        }
    }

    fn rate(&self) -> f64 {
        Provider::rate(self.scenario, self.now)
    }

    /// One of these at a time is enough.
    fn wake_at(&mut self, at: u64) {
        if !self.waits_for_refill {
            self.waits_for_refill = true;
            self.at(at, Event::Refilled);
        }
    }

    fn decide(&mut self, rule: &mut dyn Rule) {
        self.at(self.now + rule.every_ms(), Event::Decides);
        let seen = self.look();
        let wanted = rule.decide(&seen);
        self.outcome.decided(self.now, seen.observed.workers, wanted);
        for _ in seen.observed.workers..wanted {
            self.numbers += 1;
            let number = self.numbers;
            self.workers.push(Worker { number, is_up: false, drains: false, running: Vec::new() });
            self.at(self.now + settings().start_up.as_millis() as u64, Event::IsUp(number));
        }
        // The idlest go first; of equals the youngest.
        for _ in wanted..seen.observed.workers {
            let now = self.now;
            let kept = self.workers.iter_mut().rev().filter(|worker| !worker.drains);
            let worker = kept.min_by_key(|worker| (worker.is_up, worker.running.len())).unwrap();
            worker.drains = true;
            let number = worker.number;
            self.at(now + DRAIN_MS, Event::IsKilled(number));
        }
    }

    fn look(&mut self) -> Seen {
        let now = self.now;
        let rate = self.rate();
        let quota = self.provider.quota(now, rate);
        let kept = || self.workers.iter().filter(|worker| !worker.drains);
        let running = self.workers.iter().map(|worker| worker.running.len() as u64).sum();
        let observed = Observed {
            workers: kept().count() as u32,
            ready: self.queue.len() as u64,
            due_soon: 0,
            running,
            oldest_ready: Duration::from_millis(self.queue.front().map_or(0, |ready| now - ready.since)),
            totals: self.totals,
            quota: Some(quota),
        };
        let up = kept().filter(|worker| worker.is_up).count() as u32;
        let running_up: usize = kept().map(|worker| worker.running.len()).sum();
        Seen {
            now: Duration::from_millis(now),
            observed,
            busy_slots_per_worker: running_up as f64 / f64::from(up.max(1)),
        }
    }

    fn sample(&mut self) {
        let every = self.scenario.seconds * 1000 / SAMPLES;
        self.at(self.now + every, Event::Sampled);
        let possible = self.rate() * every as f64 / 1000.0;
        let workers = self.workers.iter().filter(|worker| !worker.drains).count();
        self.outcome.sample(self.now, self.queue.len(), workers, possible);
    }
}
