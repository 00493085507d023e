//! One module per promise made to users.

mod accepted;
mod backup;
mod crash;
mod damage;
mod deadlines;
mod full_disk;
mod history;
mod ingress_is_stateless;
mod newcomer;
mod poison;
mod secrets;
mod shutdown;
mod streams;
mod sync_failure;
mod turns;
