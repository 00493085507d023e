//! `just chaos [rabbitmq|kafka] [ROUNDS]`: every fault under load, again and again, on real servers; prints
//! what was attempted, accepted, lost and doubled, and how long takeovers took. It ends at the first broken
//! promise, with everything that was seen of it.

use std::time::Instant;

use anyhow::bail;
use millhand_tests::faults::{Fault, Kind, Report, System, run};

/// Jobs of one run at least, and strikes in it.
const JOBS: usize = 600;
const STRIKES: usize = 6;
/// Of the faults that last for seconds.
const LONG_STRIKES: usize = 2;
/// Rounds when nothing is said: more than 20,000 jobs and 200 faults over both brokers.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mut kinds, mut rounds) = (vec![Kind::RabbitMq, Kind::Kafka], ROUNDS);
    for arg in &args {
        match arg.as_str() {
            "rabbitmq" => kinds = vec![Kind::RabbitMq],
            "kafka" => kinds = vec![Kind::Kafka],
            number => match number.parse() {
                Ok(number) => rounds = number,
                Err(_) => bail!("chaos takes `rabbitmq` or `kafka`, and a number of rounds"),
            },
        }
    }
    let started = Instant::now();
    let mut all = Report::default();
    print_head();
    for kind in kinds {
        for round in 1..=rounds {
            let mut system = System::start(kind).await;
            for fault in Fault::of(kind) {
                let strikes = if fault.is_quick() { STRIKES } else { LONG_STRIKES };
                let name = format!("{fault:?}-{round}");
                let report = run(&mut system, *fault, JOBS, strikes, &name).await;
                print(&format!("{kind:?} {fault:?}"), &report);
                all.add(&report);
            }
        }
    }
    print("all", &all);
    println!("no promise was broken in {} s", started.elapsed().as_secs());
    Ok(())
}

fn print_head() {
    println!(
        "{:30} {:>9} {:>9} {:>5} {:>8} {:>8} {:>10} {:>8} {:>7} {:>12} {:>12}",
        "fault",
        "attempted",
        "accepted",
        "lost",
        "doubled",
        "strikes",
        "taken over",
        "resumed",
        "fenced",
        "takeover p50",
        "takeover p99"
    );
}

fn print(name: &str, report: &Report) {
    let quantile =
        |quantile| report.takeover(quantile).map_or_else(String::new, |millis| format!("{millis} ms"));
    println!(
        "{name:30} {:>9} {:>9} {:>5} {:>8} {:>8} {:>10} {:>8} {:>7} {:>12} {:>12}",
        report.accepted + report.refused as usize,
        report.accepted,
        // The checks of a run end the program when there is one.
        0,
        0,
        report.strikes,
        report.taken_over,
        report.resumed,
        report.fenced,
        quantile(0.5),
        quantile(0.99)
    );
}
