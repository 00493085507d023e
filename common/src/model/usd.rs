//! Money: billionths of a dollar, whole ones, so that sums are exact. Only the wire says dollars.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serializer};

const NANOS: u64 = 1_000_000_000;
/// More digits than a billionth has cannot be kept.
const DECIMALS: usize = 9;

/// An amount of money, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

impl Usd {
    /// Larger amounts could not be told exactly in JSON.
    pub const MOST: Self = Self(1_000_000 * NANOS);

    #[must_use]
    pub const fn from_nano(nano: u64) -> Self {
        Self(nano)
    }

    /// In billionths of a dollar.
    #[must_use]
    pub const fn nano(self) -> u64 {
        self.0
    }

    /// Decimal dollars like `0.15`, exactly; `None` for anything else, for more than nine decimals and for
    /// more than [`Self::MOST`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > DECIMALS || !digits(whole) || !digits(part) {
            return None;
        }
        let part: u64 = format!("{part:0<DECIMALS$}").parse().ok()?;
        let nano = whole.parse::<u64>().ok()?.checked_mul(NANOS)?.checked_add(part)?;
        Some(Self(nano)).filter(|usd| *usd <= Self::MOST)
    }

    /// The nearest amount that can be kept; zero for what is negative or no number.
    #[must_use]
    pub fn nearest(dollars: f64) -> Self {
        // A cast saturates, and takes what is no number for zero.
        Self((dollars * NANOS as f64).round() as u64)
    }

    #[must_use]
    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }
}

/// `$0.15`, with all digits that are not zero.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / NANOS, format!("{:0DECIMALS$}", self.0 % NANOS));
        let part = part.trim_end_matches('0');
        if part.is_empty() { write!(f, "${whole}") } else { write!(f, "${whole}.{part:0<2}") }
    }
}

/// From a number or a text of decimal dollars.
impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dollars;

        impl Visitor<'_> for Dollars {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "dollars like 0.15, at most {} and with at most {DECIMALS} decimals", Usd::MOST)
            }

            fn visit_u64<E: Error>(self, whole: u64) -> Result<Usd, E> {
                self.visit_str(&whole.to_string())
            }

            fn visit_i64<E: Error>(self, whole: i64) -> Result<Usd, E> {
                self.visit_str(&whole.to_string())
            }

            fn visit_f64<E: Error>(self, dollars: f64) -> Result<Usd, E> {
                // The shortest text that means this number is what was written.
                self.visit_str(&dollars.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Usd, E> {
                Usd::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Dollars)
    }
}

/// Billionths in memory, decimal dollars on the wire: exact up to a million dollars.
pub(super) mod dollars {
    use super::{Deserialize, Deserializer, Serializer, Usd};

    pub(crate) fn serialize<S: Serializer>(nano: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(Usd::from_nano(*nano).as_dollars())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        f64::deserialize(deserializer).map(|dollars| Usd::nearest(dollars).nano())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        let nano = |text| Usd::parse(text).map(Usd::nano);
        assert_eq!(nano("0.15"), Some(150_000_000));
        assert_eq!(nano("0.000000001"), Some(1));
        assert_eq!((nano("15"), nano("1000000")), (Some(15 * NANOS), Some(1_000_000 * NANOS)));
        for wrong in ["", ".5", "-1", "1e3", "0.0000000001", "1,5", "1000000.1", "NaN", "$1"] {
            assert_eq!(nano(wrong), None, "{wrong}");
        }
        let read = |json: &str| serde_json::from_str::<Usd>(json).map(Usd::nano).ok();
        assert_eq!(
            (read("0.1"), read("3"), read("\"0.30\"")),
            (Some(NANOS / 10), Some(3 * NANOS), Some(300_000_000))
        );
        assert_eq!((read("-0.1"), read("-3"), read("1e-12"), read("true")), (None, None, None, None));
    }

    #[test]
    fn amounts_are_shown_with_all_their_digits() {
        let shown = |nano| Usd::from_nano(nano).to_string();
        assert_eq!([shown(0), shown(1), shown(150_000_000)], ["$0", "$0.000000001", "$0.15"]);
        assert_eq!([shown(2_500_000_000), shown(3 * NANOS)], ["$2.50", "$3"]);
    }

    proptest! {
        #[test]
        fn the_wire_loses_nothing(nano in 0..=Usd::MOST.nano()) {
            let usd = Usd::from_nano(nano);
            prop_assert_eq!(Usd::nearest(usd.as_dollars()), usd);
            let text = serde_json::to_string(&usd.as_dollars()).unwrap();
            prop_assert_eq!(Usd::nearest(serde_json::from_str(&text).unwrap()), usd);
            prop_assert_eq!(Usd::parse(&usd.to_string()[1..]), Some(usd));
        }
    }
}
