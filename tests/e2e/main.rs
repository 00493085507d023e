//! One module per promise made to users.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod accepted;
mod backup;
mod brownout;
mod cache;
mod cluster;
mod cluster_script;
mod compose;
mod cost;
mod crash;
mod credentials;
mod damage;
mod deadlines;
mod fairness;
mod faq;
mod follow_up;
mod full_disk;
mod grounded;
mod history;
mod ingress_is_stateless;
mod kubernetes;
mod limits;
mod meaning;
mod mixes;
mod newcomer;
mod nginx;
mod operate;
mod order;
mod overload;
mod poison;
mod provider;
mod react;
mod retries;
mod routing;
mod scale;
mod scaler;
mod secrets;
mod shutdown;
mod sick_provider;
mod storm;
mod streams;
mod sync_failure;
mod traces;
mod turns;
mod watch;
