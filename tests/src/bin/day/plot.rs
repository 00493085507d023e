//! The day as a picture: five panels over one axis of time, as SVG.

use std::fmt::Write;

use crate::report::{latencies, quantile};
use crate::script::Seen;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 96.0;
const PANEL: f64 = 104.0;
const GAP: f64 = 38.0;
/// Over which quotas and quantiles are formed, in seconds.
const WINDOW: f64 = 10.0;
/// A colour that colour-blind eyes tell from grey (Okabe and Ito).
const LINE: &str = "#0072b2";

type Points = Vec<(f64, f64)>;

pub(crate) fn svg(seen: &Seen) -> String {
    let panels = panels(seen);
    let height = TOP + panels.len() as f64 * (PANEL + GAP);
    let span = seen.samples.last().map_or(1.0, |sample| sample.at.as_secs_f64());
    let x = |at: f64| LEFT + at / span * (WIDTH - LEFT - RIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>A day</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (at, name) in &seen.parts {
        let at = x(at.as_secs_f64());
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {}V{height}\" stroke=\"#999\" stroke-dasharray=\"2 3\"/>\n\
             <text x=\"{at:.1}\" y=\"{}\" font-size=\"10\" transform=\"rotate(-24 {at:.1} {})\">{name}</text>",
            TOP - 20.0,
            TOP - 24.0,
            TOP - 24.0,
        );
    }
    for (n, (title, points)) in panels.iter().enumerate() {
        let top = TOP + n as f64 * (PANEL + GAP);
        panel(&mut out, top, title, points, span, x);
    }
    out.push_str("</svg>\n");
    out
}

fn panels(seen: &Seen) -> [(&'static str, Points); 5] {
    let of = |value: fn(&crate::watch::Sample) -> f64| -> Points {
        seen.samples.iter().map(|sample| (sample.at.as_secs_f64(), value(sample))).collect()
    };
    let used = |sample: &crate::watch::Sample| {
        let at = sample.at.as_secs_f64();
        let before = seen.samples.iter().find(|before| at - before.at.as_secs_f64() <= WINDOW)?;
        let seconds = at - before.at.as_secs_f64();
        (seconds > 0.0).then(|| (at, (sample.calls - before.calls) * 6000.0 / seconds / sample.limit))
    };
    let latencies = latencies(seen);
    let p95 = |sample: &crate::watch::Sample| {
        let at = sample.at.as_secs_f64();
        let ended = latencies.iter().filter(|(came, took)| (at - WINDOW..at).contains(&(came + took)));
        let took: Vec<f64> = ended.map(|(_, took)| *took).collect();
        (!took.is_empty()).then(|| (at, quantile(took, 0.95)))
    };
    [
        ("jobs that could start", of(|sample| sample.ready)),
        ("workers", of(|sample| sample.workers)),
        ("from accept to the last token, p95 of 10 s, in s", seen.samples.iter().filter_map(p95).collect()),
        (
            "calls let in during 10 s, % of the limit as it was then (a bucket lets a burst through)",
            seen.samples.iter().filter_map(used).collect(),
        ),
        ("cost so far, in cents", of(|sample| sample.usd * 100.0)),
    ]
}

fn panel(out: &mut String, top: f64, title: &str, points: &Points, span: f64, x: impl Fn(f64) -> f64) {
    let bottom = top + PANEL;
    let (step, most) = scale(points.iter().map(|point| point.1).fold(0.01, f64::max));
    let y = |value: f64| bottom - value / most * PANEL;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>", top - 5.0);
    for mark in (0..).map(|n| f64::from(n) * step).take_while(|mark| *mark <= most + step / 2.0) {
        let at = y(mark);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/>\n<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            (mark * 100.0).round() / 100.0,
        );
    }
    let (step, _) = scale(span / 60.0);
    for mark in (0..).map(|n| f64::from(n) * step).take_while(|mark| *mark <= span / 60.0) {
        let at = x(mark * 60.0);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {bottom}v3\" stroke=\"#999\"/>\n\
             <text x=\"{at:.1}\" y=\"{}\" font-size=\"10\" text-anchor=\"middle\">{mark} min</text>",
            bottom + 14.0
        );
    }
    let line: Vec<String> =
        points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{LINE}\" stroke-width=\"1.5\"/>",
        line.join(" ")
    );
}

/// Round steps, and the top: two to five steps for the largest value.
fn scale(largest: f64) -> (f64, f64) {
    let mut step = 0.002;
    for factor in [2.5, 2.0, 2.0].into_iter().cycle() {
        if largest / step <= 5.0 {
            break;
        }
        step *= factor;
    }
    (step, (largest / step).ceil().max(1.0) * step)
}
