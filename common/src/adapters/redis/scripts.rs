//! The scripts, each put together from the parts it uses.

use std::sync::LazyLock;

/// A script as the server gets it.
pub(super) struct Script {
    pub(super) source: String,
    pub(super) sha: String,
}

impl Script {
    fn new(flags: &str, parts: &[&str]) -> Self {
        let source = format!("#!lua{flags}\n{}", parts.join("\n"));
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { source, sha }
    }
}

macro_rules! part {
    ($name:literal) => {
        include_str!(concat!("lua/", $name, ".lua"))
    };
}

macro_rules! scripts {
    ($($name:ident $flags:literal = $($part:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($flags, &[part!("prelude"), $(part!($part)),+]));)*
    };
}

// Accepting needs room; whatever finishes accepted work runs regardless of it.
scripts! {
    ACCEPT "" = "due" "ending" "insert" "accept";
    REPLAY "" = "due" "insert" "replay";
    HINTED " flags=allow-oom" = "hinted";
    UNHINTED " flags=allow-oom" = "due" "unhinted";
    CLAIM " flags=allow-oom" = "due" "ending" "claiming" "claim";
    CLAIM_DUE " flags=allow-oom" = "due" "ending" "claiming" "claim_due";
    HEADS " flags=allow-oom" = "due" "heads";
    CHALLENGE " flags=allow-oom" = "due" "challenging" "challenge";
    RENEW " flags=allow-oom" = "due" "renew";
    APPEND " flags=allow-oom" = "append";
    RELEASE " flags=allow-oom" = "due" "ending" "release";
    CLOSE " flags=allow-oom" = "due" "ending" "close";
    HOLD " flags=allow-oom" = "hold";
    CANCEL " flags=allow-oom" = "due" "ending" "cancel";
    REMOVE " flags=allow-oom" = "removing" "remove";
    REMOVE_CONVERSATION " flags=allow-oom" = "removing" "remove_conversation";
    SWEEP " flags=allow-oom" = "due" "ending" "challenging" "removing" "sweep";
    STAMP " flags=allow-oom" = "stamp";
    PRESENT " flags=allow-oom" = "present";
    PAUSE " flags=allow-oom" = "pause";
    DRAIN " flags=allow-oom" = "drain";
    FORGET " flags=allow-oom" = "forget";
    DROP_LETTER " flags=allow-oom" = "drop_letter";
    CONVERSATION " flags=allow-oom" = "conversation";
    SHARES " flags=allow-oom" = "shares";
    WORKERS " flags=no-writes" = "workers";
    LINES " flags=no-writes" = "lines";
    DEPTH " flags=no-writes" = "depth";
    TENANTS " flags=no-writes" = "due" "tenants";
    SPENDING " flags=no-writes" = "spending";
    OVERDUE " flags=no-writes" = "overdue";
    GET " flags=no-writes" = "get";
    LOG " flags=no-writes" = "log";
    LIST " flags=no-writes" = "list";
    CONVERSATIONS " flags=no-writes" = "conversations";
    TOLD " flags=no-writes" = "told";
    LETTERS " flags=no-writes" = "letters";
}

/// The scripts of the limiter, which have a prelude of their own.
pub(super) mod limit {
    use super::{LazyLock, Script};

    macro_rules! limits {
        ($($name:ident $flags:literal = $($part:literal)+;)*) => {
            $(pub(crate) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new($flags, &[part!("limit_pool"), $(part!($part)),+]));)*
        };
    }

    // Quota is of use to work that was accepted: it runs regardless of room.
    limits! {
        RESERVE " flags=allow-oom" = "limit_reserve";
        SETTLE " flags=allow-oom" = "limit_settle";
        EXTEND " flags=allow-oom" = "limit_extend";
        OBSERVE " flags=allow-oom" = "limit_observe";
        FORECAST " flags=no-writes" = "limit_openings" "limit_forecast";
        OFFER " flags=allow-oom" = "limit_openings" "limit_offer";
        QUOTA " flags=no-writes" = "limit_quota";
        LEVELS " flags=no-writes" = "limit_levels";
    }
}

/// The scripts of the answer cache, which need no prelude.
pub(super) mod answer {
    use super::{LazyLock, Script};

    macro_rules! answers {
        ($($name:ident $flags:literal = $part:literal;)*) => {
            $(pub(crate) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new($flags, &[part!($part)]));)*
        };
    }

    // What takes room is refused where there is none.
    answers! {
        ASK "" = "answer_ask";
        RENEW " flags=allow-oom" = "answer_renew";
        LAND "" = "answer_land";
        ABANDON " flags=allow-oom" = "answer_abandon";
    }
}
