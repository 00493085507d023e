//! `docs/scaling.md` and its pictures show what the code does now. `just simulate` makes them anew.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::outcome::Outcome;
use crate::plot::{Line, svg};
use crate::rules::Name;
use crate::scenario::{self, Scenario};
use crate::world::run;

/// What all that is shown was thrown with.
const SEED: u64 = 1;
/// What is drawn; the others are in the table.
const DRAWN: [Name; 3] = [Name::Millhand, Name::KedaAll, Name::CpuTuned];
const HEAD: &str = "\
| rule | wait p50 | p95 | longest | worker-hours | most workers | jobs interrupted | reversals | in 5 min steady |
|---|---|---|---|---|---|---|---|---|
";
const BEGIN: &str = "<!-- made by `just simulate` -->\n";
const END: &str = "<!-- end -->";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs")
}

#[test]
fn the_page_shows_what_the_code_does_now() {
    let (mut figures, mut files) = (String::new(), Vec::new());
    for scenario in scenario::all() {
        let outcomes = Name::ALL.map(|name| (name, run(&scenario, SEED, name.rule().as_mut())));
        figures.push_str(&section(&scenario, &outcomes));
        let lines = outcomes.iter().filter(|(name, _)| DRAWN.contains(name)).map(|(name, outcome)| Line {
            name: name.as_str(),
            samples: &outcome.samples,
            sets_scale: matches!(name, Name::Millhand | Name::KedaAll),
        });
        let lines: Vec<_> = lines.collect();
        files.push((docs().join(format!("scaling/{}.svg", scenario.name)), svg(&scenario, &lines)));
    }
    let page = docs().join("scaling.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page says where figures begin");
    let (_, after) = rest.split_once(END).expect("the page says where figures end");
    files.push((page, format!("{before}{BEGIN}{figures}\n{END}{after}")));
    for (path, made) in files {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, made).unwrap();
        } else {
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == made, "{} is old: run `just simulate`, and look at it", path.display());
        }
    }
}

fn section(scenario: &Scenario, outcomes: &[(Name, Outcome)]) -> String {
    let Scenario { name, about, steady, .. } = scenario;
    let mut out = format!("\n### {name}\n\n{about}\n\n{HEAD}");
    for (rule, outcome) in outcomes {
        let flaps = if steady.is_empty() { String::new() } else { outcome.most_flaps(steady).to_string() };
        writeln!(
            out,
            "| {} | {:.1} s | {:.1} s | {:.0} s | {:.2} | {} | {} | {} | {flaps} |",
            rule.as_str(),
            outcome.wait(0.5),
            outcome.wait(0.95),
            outcome.wait(1.0),
            outcome.worker_hours(),
            outcome.peak,
            outcome.given_back,
            outcome.reversals.len()
        )
        .unwrap();
    }
    writeln!(out, "\n![{name}](scaling/{name}.svg)").unwrap();
    out
}
