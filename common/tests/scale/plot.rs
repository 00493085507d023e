//! Lines as pictures: four panels over one axis of time, as SVG.

use std::fmt::Write;

use crate::outcome::Sample;
use crate::scenario::Scenario;

/// One rule's line.
pub(crate) struct Line<'a> {
    pub(crate) name: &'static str,
    pub(crate) samples: &'a [Sample],
    /// Panels reach as high as these; other lines may leave them.
    pub(crate) sets_scale: bool,
}

/// Colours that colour-blind eyes tell apart (Okabe and Ito), and dashes for black and white.
const STYLES: [(&str, &str); 3] = [("#0072b2", ""), ("#d55e00", "6 3"), ("#777777", "2 3")];

const WIDTH: f64 = 860.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const PANEL: f64 = 118.0;
const GAP: f64 = 42.0;

type Of = fn(&Sample) -> f64;
const PANELS: [(&str, Of); 4] = [
    ("jobs that wait", |sample| sample.depth),
    ("workers", |sample| sample.workers),
    ("wait of the jobs that end, mean in s", |sample| sample.wait_s),
    ("quota used, %", |sample| sample.quota * 100.0),
];

pub(crate) fn svg(scenario: &Scenario, lines: &[Line<'_>]) -> String {
    let height = TOP + 4.0 * (PANEL + GAP) + 6.0;
    let mut out = String::new();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{}: {}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>",
        scenario.name, scenario.about
    )
    .unwrap();
    let mut x = LEFT;
    for (line, style) in lines.iter().zip(STYLES) {
        writeln!(out, "<path d=\"M{x} 16h30\" {}/>", stroke(style)).unwrap();
        writeln!(out, "<text x=\"{}\" y=\"20\">{}</text>", x + 36.0, line.name).unwrap();
        x += 60.0 + 8.0 * line.name.len() as f64;
    }
    for (at, (title, of)) in PANELS.into_iter().enumerate() {
        panel(&mut out, scenario, lines, TOP + at as f64 * (PANEL + GAP), title, of);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, scenario: &Scenario, lines: &[Line<'_>], top: f64, title: &str, of: Of) {
    let bottom = top + PANEL;
    let setting = lines.iter().filter(|line| line.sets_scale).flat_map(|line| line.samples);
    let (step, most) = scale(setting.map(of).fold(1.0, f64::max));
    let span = scenario.seconds as f64;
    let x = |seconds: f64| LEFT + seconds / span * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| bottom - (value / most).min(1.06) * PANEL;
    writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>", top - 5.0).unwrap();
    let mut value = 0.0;
    while value <= most {
        let at = y(value);
        writeln!(out, "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/>", WIDTH - RIGHT).unwrap();
        let (text_x, text_y) = (LEFT - 6.0, at + 4.0);
        writeln!(out, "<text x=\"{text_x}\" y=\"{text_y:.1}\" text-anchor=\"end\">{value}</text>").unwrap();
        value += step;
    }
    let (unit, name) = if span > 3.0 * 3600.0 { (3600.0, "h") } else { (60.0, "min") };
    let (step, _) = scale(span / unit * 0.6);
    let mut mark = 0.0;
    while mark <= span / unit {
        let (at, text_y) = (x(mark * unit), bottom + 14.0);
        writeln!(out, "<path d=\"M{at:.1} {bottom}v3\" stroke=\"#999\"/>").unwrap();
        writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{text_y}\" font-size=\"10\" text-anchor=\"middle\">{mark} {name}</text>"
        )
        .unwrap();
        mark += step;
    }
    // Ours is drawn last, on top.
    for (line, style) in lines.iter().zip(STYLES).rev() {
        let points = line
            .samples
            .iter()
            .map(|sample| format!("{:.1},{:.1}", x(sample.at_ms as f64 / 1000.0), y(of(sample))));
        let points: Vec<String> = points.collect();
        writeln!(out, "<polyline points=\"{}\" {}/>", points.join(" "), stroke(style)).unwrap();
    }
}

fn stroke((colour, dashes): (&str, &str)) -> String {
    format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-dasharray=\"{dashes}\"")
}

/// Round steps, and the top: three to six steps for the largest value.
fn scale(largest: f64) -> (f64, f64) {
    let mut step = 0.25;
    for factor in [2.0, 2.0, 2.5, 2.0].into_iter().cycle() {
        if largest / step <= 5.0 {
            break;
        }
        step *= factor;
    }
    (step, (largest / step).ceil().max(1.0) * step)
}
