//! The ways in which a provider gives quota back.

use super::load::{self, Size};

/// The provider's own count; input and output together.
pub(super) const TOKENS_PER_MINUTE: u64 = 600_000;
/// Refill that its bucket holds, where it has one.
const BURST_SECONDS: &str = "5";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Bucket,
    Window,
    /// Nobody is told of them: a sixth of the minute in each ten seconds.
    Slices,
    /// Nobody is told of it either: all of `max_tokens` is charged when a call arrives.
    Arrival,
}

impl Mode {
    pub(super) const ALL: [Self; 4] = [Self::Bucket, Self::Window, Self::Slices, Self::Arrival];

    /// As `millhand provider` has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Window => "window",
            Self::Slices => "slices",
            Self::Arrival => "arrival",
        }
    }

    pub(super) fn provider_flags(self) -> Vec<String> {
        let limit = TOKENS_PER_MINUTE.to_string();
        let flags =
            ["--mode", self.as_str(), "--tokens-per-minute", &limit, "--burst-seconds", BURST_SECONDS];
        [&flags[..], &load::PHYSICS].concat().into_iter().map(str::to_owned).collect()
    }

    /// What an operator would write who has read the provider's pages: `mode` and `burst_seconds`.
    pub(super) fn configured(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Bucket | Self::Arrival => [("MODE", "bucket"), ("BURST_SECONDS", BURST_SECONDS)],
            Self::Window => [("MODE", "window"), ("BURST_SECONDS", "1")],
            // As by default.
            Self::Slices => [("MODE", "bucket"), ("BURST_SECONDS", "1")],
        }
    }

    /// Jobs a second that the quota allows.
    pub(super) fn allowed(self) -> f64 {
        let of = |size: Size| {
            let output = if self == Self::Arrival { load::MAX_OUTPUT_TOKENS } else { load::OUTPUT_TOKENS };
            (size.input_tokens() + output) as f64 * size.share()
        };
        TOKENS_PER_MINUTE as f64 / 60.0 / (of(Size::Small) + of(Size::Large))
    }

    /// The least share of the quota to use, in percent, and the most 429s; no aim was set for the last mode.
    pub(super) fn aims(self) -> Option<(f64, u64)> {
        match self {
            Self::Bucket | Self::Window => Some((98.0, 0)),
            Self::Slices => Some((92.0, 3)),
            Self::Arrival => None,
        }
    }
}
