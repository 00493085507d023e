//! What tokens cost: a dated table of well-known models, under what the configuration says. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Usd;

/// The day of the built-in table. It goes with every call that is booked.
pub const VERSION: &str = "2026-11-29";

const MILLION: u128 = 1_000_000;

/// Dollars for a million input and output tokens, as the makers publish them for their own APIs: without
/// discounts for caches and batches, and without surcharges for very long prompts.
const PUBLISHED: &[(&str, &str, &str)] = &[
    ("claude-haiku-4-5", "1", "5"),
    ("claude-opus-4-1", "15", "75"),
    ("claude-opus-4-5", "5", "25"),
    ("claude-opus-4-6", "5", "25"),
    ("claude-opus-4-7", "5", "25"),
    ("claude-opus-4-8", "5", "25"),
    ("claude-opus-5", "5", "25"),
    ("claude-sonnet-4", "3", "15"),
    ("claude-sonnet-4-5", "3", "15"),
    ("claude-sonnet-4-6", "3", "15"),
    ("claude-sonnet-5", "2", "10"),
    ("gemini-2.5-flash", "0.30", "2.50"),
    ("gemini-2.5-pro", "1.25", "10"),
    ("gpt-4-turbo", "10", "30"),
    ("gpt-4.1", "2", "8"),
    ("gpt-4.1-mini", "0.40", "1.60"),
    ("gpt-4.1-nano", "0.10", "0.40"),
    ("gpt-4o", "2.50", "10"),
    ("gpt-4o-mini", "0.15", "0.60"),
    ("gpt-5", "1.25", "10"),
    ("gpt-5-mini", "0.25", "2"),
    ("gpt-5-nano", "0.05", "0.40"),
    ("gpt-5.1", "1.25", "10"),
    ("gpt-5.2", "1.75", "14"),
    ("gpt-5.4", "2.50", "15"),
    ("gpt-5.4-mini", "0.75", "4.50"),
    ("gpt-5.4-nano", "0.20", "1.25"),
    ("gpt-5.5", "5", "30"),
    ("o3", "2", "8"),
    ("o4-mini", "1.10", "4.40"),
];

/// The same of models that read and do not write: embedders and rerankers, in dollars for a million tokens.
const PUBLISHED_READERS: &[(&str, &str)] = &[
    ("embed-v4.0", "0.12"),
    ("gemini-embedding-001", "0.15"),
    ("mistral-embed", "0.10"),
    ("rerank-2.5", "0.05"),
    ("rerank-2.5-lite", "0.02"),
    ("text-embedding-3-large", "0.13"),
    ("text-embedding-3-small", "0.02"),
    ("text-embedding-ada-002", "0.10"),
    ("voyage-3-large", "0.18"),
    ("voyage-3.5", "0.06"),
    ("voyage-3.5-lite", "0.02"),
];

/// What a model's tokens cost, in billionths of a dollar for a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub input: u64,
    pub output: u64,
}

impl Price {
    #[must_use]
    pub fn per_million(input: Usd, output: Usd) -> Self {
        Self { input: input.nano(), output: output.nano() }
    }

    /// What so many tokens cost, in billionths of a dollar; a part of one counts as one.
    #[must_use]
    pub fn cost(self, input_tokens: u64, output_tokens: u64) -> u64 {
        let of = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let parts = of(input_tokens, self.input).saturating_add(of(output_tokens, self.output));
        u64::try_from(parts.div_ceil(MILLION)).unwrap_or(u64::MAX)
    }
}

/// All prices there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    own: BTreeMap<String, Price>,
}

impl Prices {
    /// The built-in table under these.
    #[must_use]
    pub fn new(own: BTreeMap<String, Price>) -> Self {
        Self { own }
    }

    /// How many come from the configuration.
    #[must_use]
    pub fn own(&self) -> usize {
        self.own.len()
    }

    /// The price of a model; of a dated one (`gpt-4o-2024-08-06`), if it is in no table, that of its name
    /// without the date.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Price> {
        self.named(model).or_else(|| self.named(undated(model)?))
    }

    /// What a model that writes and is in no table is taken to cost: the dearest there is, so that nothing is
    /// counted too low.
    #[must_use]
    pub fn ceiling(&self) -> Price {
        let all = self.own.values().copied().chain(PUBLISHED.iter().map(published));
        all.fold(Price::default(), |most, price| Price {
            input: most.input.max(price.input),
            output: most.output.max(price.output),
        })
    }

    /// The same of an embedder or a reranker: the dearest of their kind. One that writes costs a hundred times as
    /// much, and would spend budgets on nothing.
    #[must_use]
    pub fn reader_ceiling() -> Price {
        let dearest = PUBLISHED_READERS.iter().map(read).max_by_key(|price| price.input);
        dearest.unwrap_or_default()
    }

    fn named(&self, model: &str) -> Option<Price> {
        let writes = || PUBLISHED.iter().find(|(name, ..)| *name == model).map(published);
        let reads = || PUBLISHED_READERS.iter().find(|(name, _)| *name == model).map(read);
        self.own.get(model).copied().or_else(writes).or_else(reads)
    }
}

fn read((_, input): &(&str, &str)) -> Price {
    Price::per_million(Usd::parse(input).unwrap_or(Usd::MOST), Usd::default())
}

fn published((_, input, output): &(&str, &str, &str)) -> Price {
    let usd = |text| Usd::parse(text).unwrap_or(Usd::MOST);
    Price::per_million(usd(input), usd(output))
}

/// The name before `-2024-08-06` or `-20240806`.
fn undated(model: &str) -> Option<&str> {
    let dated = |shape: &str| {
        let at = model.len().checked_sub(shape.len())?;
        let (name, date) = (model.get(..at)?, model.get(at..)?);
        let fits =
            |(byte, shape): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
        date.bytes().zip(shape.bytes()).all(fits).then_some(name)
    };
    dated("-0000-00-00").or_else(|| dated("-00000000"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(input: &str, output: &str) -> Price {
        Price::per_million(Usd::parse(input).unwrap(), Usd::parse(output).unwrap())
    }

    #[test]
    fn what_is_configured_goes_before_what_is_published() {
        let own =
            BTreeMap::from([("gpt-4o".to_owned(), price("1", "2")), ("llama".to_owned(), Price::default())]);
        let prices = Prices::new(own);
        assert_eq!(prices.of("gpt-4o"), Some(price("1", "2")));
        assert_eq!(prices.of("gpt-4o-2024-08-06"), Some(price("1", "2")));
        assert_eq!(prices.of("llama"), Some(Price::default()), "free is a price too");
        assert_eq!(prices.of("gpt-4o-mini-2024-07-18"), Some(price("0.15", "0.60")));
        assert_eq!(prices.of("claude-opus-4-1-20250805"), Some(price("15", "75")));
        assert_eq!(
            (prices.of("gpt-4o-audio-preview"), prices.of("-20250805"), prices.of("")),
            (None, None, None)
        );
    }

    #[test]
    fn an_unknown_model_costs_as_much_as_the_dearest() {
        assert_eq!(Prices::default().ceiling(), price("15", "75"));
        let prices = Prices::new(BTreeMap::from([("x".to_owned(), price("100", "1"))]));
        assert_eq!(prices.ceiling(), price("100", "75"));
        assert_eq!(Prices::reader_ceiling(), price("0.18", "0"));
        assert_eq!(prices.of("text-embedding-3-small"), Some(price("0.02", "0")));
    }

    #[test]
    fn the_built_in_table_can_be_read_and_has_each_model_once() {
        for pair in PUBLISHED.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} is out of order", pair[1].0);
        }
        for pair in PUBLISHED_READERS.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} is out of order", pair[1].0);
        }
        for (name, input) in PUBLISHED_READERS {
            assert!(Usd::parse(input).is_some(), "{name}");
        }
        for (name, input, output) in PUBLISHED {
            assert!(Usd::parse(input) <= Usd::parse(output) && Usd::parse(input).is_some(), "{name}");
        }
    }

    #[test]
    fn costs_are_whole_billionths() {
        assert_eq!(price("0.15", "0.60").cost(1000, 100), 150 * 1000 + 600 * 100);
        assert_eq!(price("0.0375", "0").cost(1, 0), 38, "a part counts as one");
        assert_eq!(Price { input: u64::MAX, output: u64::MAX }.cost(u64::MAX, u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn more_tokens_never_cost_less_and_parts_never_cost_less_than_the_whole(
            input in 0..10_000_000_u64, output in 0..10_000_000_u64, more in 0..1_000_u64,
            price in (0..100_000_000_000_u64, 0..100_000_000_000_u64),
        ) {
            let price = Price { input: price.0, output: price.1 };
            let whole = price.cost(input + more, output);
            prop_assert!(price.cost(input, output) <= whole);
            let parts = price.cost(input, output) + price.cost(more, 0);
            prop_assert!(whole <= parts && parts <= whole + 1);
        }
    }
}
