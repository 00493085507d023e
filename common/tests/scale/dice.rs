//! Chance that falls the same way on every machine: no logarithm, whose last digit is not the same everywhere.

use fastrand::Rng;

/// Of an exponential distribution of mean 1, by comparing uniform numbers (von Neumann 1951).
pub(crate) fn exponential(dice: &mut Rng) -> f64 {
    let mut whole = 0.0;
    loop {
        let first = dice.f64();
        let (mut last, mut falling) = (first, 1);
        loop {
            let next = dice.f64();
            if next >= last {
                break;
            }
            (last, falling) = (next, falling + 1);
        }
        if falling % 2 == 1 {
            return whole + first;
        }
        whole += 1.0;
    }
}

/// Seconds that an answer takes, by share of the answers: most are short, one in a hundred is long. The
/// mean is 9.4 s, and they vary about as much.
const ANSWERS: [(f64, f64); 7] =
    [(0.0, 1.5), (0.25, 4.5), (0.5, 7.0), (0.75, 11.0), (0.9, 17.0), (0.99, 35.0), (1.0, 60.0)];

pub(crate) fn answer_seconds(dice: &mut Rng) -> f64 {
    along(&ANSWERS, dice.f64())
}

/// A line through points; flat before the first and after the last. Two points at one place are a jump.
pub(crate) fn along(points: &[(f64, f64)], at: f64) -> f64 {
    let next = points.partition_point(|(x, _)| *x <= at);
    match (next.checked_sub(1).map(|before| points[before]), points.get(next)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (at - x0) / (x1 - x0),
        (Some((_, y)), None) => y,
        (None, Some((_, y))) => *y,
        (None, None) => 0.0,
    }
}
