//! The truth about jobs in Redis (7.0 or later, one server or a cluster).
//!
//! Every operation is one Lua script (`lua/*.lua`, put together in `scripts.rs`): it happens whole or
//! not at all, on the server's clock, and with `appendfsync always` it is on disk before anybody hears
//! of it, because the server writes its log before it answers a client or a subscriber.
//!
//! # Keys
//!
//! A key is `<prefix>:{s<n>}:<name>`; `n` is the CRC-32 of the tenant modulo 64, so all that one
//! operation touches lies in one slot. `<r>` is `<tenant>:<uuid>` of a job, `<c>` of a conversation:
//! the tenant is part of every name, so another tenant's job is simply not there.
//!
//! | name | type | holds |
//! |---|---|---|
//! | `job:<r>` | hash | the record, see below |
//! | `spec:<r>` | string | the [`JobSpec`](crate::model::JobSpec), JSON, never changed |
//! | `out:<r>` | string | output, usage and error of a terminal job, JSON |
//! | `cites:<r>` | string | documents the output cites, by space |
//! | `log:<r>` | stream | the log: entry `<seq>-0`, field `e` = `<attempt> <at> <type> <data>` |
//! | `jobs:<tenant>`, `live:<tenant>`, `ended:<status>:<tenant>` | zset | jobs of a tenant by version: all, open ones, ended ones |
//! | `keys:<tenant>` | hash | idempotency key → `<uuid> <digest>` |
//! | `conv:<c>` | string | when the conversation was made |
//! | `convs:<tenant>` | zset | conversations of a tenant, by id |
//! | `open:<c>`, `turns:<c>`, `told:<c>` | zset | jobs of a conversation by version: open ones in order, all that are kept, those that are history |
//! | `idle:<lane>`, `blocked:<lane>`, `held:<lane>` | zset | each open job is in one: may start (by when), waits for its turn, has an owner (by the lease's end) |
//! | `timers:<lane>` | zset | due index: jobs that become due, by time |
//! | `ready:<lane>:<tenant>` | zset | due index: jobs that are due, by version; 0 for those that lost their owner |
//! | `heads:<lane>`, `shown:<lane>` | zset, hash | the first ready job of each tenant that may run one more, by the tenant's turn; how each tenant is shown there |
//! | `waiting:<lane>` | zset | tenants by how many of their jobs are in the due index |
//! | `shares` | hash | tenant → `<weight> <most that may run>`; that of the empty name holds for the others |
//! | `served` | zset | for an hour, tenants by when their last job began |
//! | `running` | hash | tenant → jobs that have an owner |
//! | `owner:<worker>` | set | jobs this worker owns |
//! | `deadlines`, `obey` | zset | open jobs by deadline; cancelled ones by when the owner must have obeyed |
//! | `finished`, `logs` | zset | terminal jobs, and those whose log is held, by their end: retention |
//! | `gone` | zset | ids no longer kept, by when they went: 410 instead of 404 |
//! | `letters`, `letter-of` | zset, hash | dead letters by id; their tenants |
//! | `cited` | hash | document → jobs that cite it |
//! | `usage` | hash | `<day> <tenant> <calls\|input\|output\|nano> <model>` → sum |
//! | `budget:<day>` | hash | for two days: `<spent\|held> <tenant>` → billionths of a dollar |
//! | `totals` | hash | `<lane> <arrived\|ended\|busy\|calls>` → sum, for ever |
//! | `paused` | set | lanes of which nothing is claimed; in every shard |
//! | `version` | string | the last version given |
//! | `op:<uuid>` | string | for a minute, what a claim from the due index or a removal answered |
//!
//! Outside the shards: `<prefix>:{workers}:alive`, `:info`, `:drain` and `:paused` (who lives, until when, who is
//! to drain, and the paused lanes once more), and
//! `<prefix>:{keys}` (API keys, and the secret
//! that processes share), `<prefix>:{s0}:format`, the version of this layout; a store of another version is refused.
//!
//! Channels: `<prefix>:{s<n>}:news:<r>` (sharded) carries each event as `<seq> <attempt> <at> <type>
//! <data>`, a line each; `<prefix>:due` the number of a shard in which a job became due;
//! `<prefix>:signals` what the store wants from a worker; `<prefix>:{workers}:lives:<worker>` (sharded) nothing:
//! it has a subscriber as long as the worker lives.
//!
//! Fields of a record: `version status lane conv key attempt deaths epoch created started finished
//! expires ready_at last_seq wait wait_at cancel trimmed buried replayed`, while it is owned `owner until
//! op challenged claimed`, `due` and `place`, which say where the indexes above have it, and of its money `held call
//! calls input output nano counted` (`lua/prelude.lua`). Moments are milliseconds; a `wait_at`
//! without `wait` is when a worker is expected to be free. All fields are short, so that Redis keeps the record in one small block.

mod address;
mod answers;
mod budget;
mod claims;
mod conversations;
mod crowd;
mod due;
mod fault;
mod feed;
mod jobs;
mod keys;
mod letters;
mod limiter;
mod link;
mod options;
mod presence;
mod reader;
mod reply;
mod scripts;
mod server;
mod store;
mod sweep;

pub use answers::{AnswerOptions, RedisAnswers};
pub use limiter::{LimiterOptions, RedisLimiter};
pub use options::{OpenError, RedisOptions, StoreClock};
pub use store::RedisStore;
