//! The same store on a real cluster of three masters: clauses of the suite that touch every kind of key,
//! and what only a cluster has.

use std::collections::HashSet;
use std::sync::Arc;

use millhand_common::adapters::redis::RedisStore;
use millhand_common::conformance::store::{
    Subject, accept, cancel, chat, claim, close, completed, conversations, dead_letters, fairness, lease,
    load, log, new_tenant, read, spending, time,
};
use millhand_common::model::{Lane, WorkerId};
use millhand_common::ports::{Claim, JobStore};
use millhand_tests::servers::RedisCluster;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use super::faults::{follow_through, write_through};
use super::{alone, subject};

async fn cluster() -> &'static RedisCluster {
    static CLUSTER: OnceCell<RedisCluster> = OnceCell::const_new();
    CLUSTER.get_or_init(RedisCluster::start).await
}

async fn open() -> Subject {
    let options = alone();
    let clock = options.clock.clone();
    subject(RedisStore::open(&cluster().await.url(), options).await.unwrap(), clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_keeps_its_promises_on_a_cluster() {
    accept::the_same_key_and_body_answer_the_same_job(&open().await).await;
    accept::an_interrupt_ends_what_runs_and_waits(&open().await).await;
    accept::versions_and_stamps_rise_together(&open().await).await;
    claim::a_repeated_claim_answers_the_first_one(&open().await).await;
    claim::a_conversation_runs_in_turn(&open().await).await;
    claim::an_unconfirmed_hint_makes_the_job_due(&open().await).await;
    claim::a_confirmed_hint_leaves_the_due_index(&open().await).await;
    claim::a_hint_that_nobody_acts_on_makes_the_job_due(&open().await).await;
    lease::a_worker_that_is_gone_loses_its_jobs(&open().await).await;
    lease::a_challenged_owner_that_renews_keeps_its_job(&open().await).await;
    lease::the_old_owner_cannot_write_a_byte(&open().await).await;
    cancel::a_running_job_is_cancelled_by_its_owner(&open().await).await;
    time::text_before_the_deadline_is_kept_as_incomplete(&open().await).await;
    spending::usage_is_counted_by_tenant_model_and_day(&open().await).await;
    spending::an_open_call_is_booked_whoever_ends_the_job(&open().await).await;
    spending::what_nobody_knows_counts_whole_against_a_budget(&open().await).await;
    close::a_kept_job_protects_what_it_cites(&open().await).await;
    log::a_subscriber_hears_all_that_is_written_after(&open().await).await;
    log::followers_miss_nothing_while_the_log_grows(&open().await).await;
    log::a_follower_resumes_after_any_event(&open().await).await;
    dead_letters::a_replay_makes_one_new_job(&open().await).await;
    dead_letters::letters_are_listed_newest_first(&open().await).await;
    conversations::messages_are_read_in_pages(&open().await).await;
    conversations::a_deleted_conversation_takes_its_jobs_with_it(&open().await).await;
    read::one_tenant_never_sees_another_s(&open().await).await;
    read::jobs_are_listed_newest_first_and_filtered(&open().await).await;
    load::depth_agrees_with_the_truth(&open().await).await;
    read::workers_that_live_are_listed(&open().await).await;
    fairness::the_least_served_tenant_is_next(&open().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_many_tenants_lies_on_all_masters_and_all_of_it_is_found() {
    let options = alone();
    let (clock, prefix) = (options.clock.clone(), options.prefix.clone());
    let store = RedisStore::open(&cluster().await.url(), options).await.unwrap();
    let on = subject(Arc::clone(&store), clock.clone());
    let mut open = HashSet::new();
    for _ in 0..60 {
        open.insert(on.accept(chat(&new_tenant(), "q")).await.spec.id);
    }
    for node in &cluster().await.nodes {
        let keys = node.says("KEYS *").unwrap();
        assert!(keys.contains(&format!("{prefix}:{{s")), "a master that holds none of 60 tenants");
    }
    on.wait(std::time::Duration::from_secs(6)).await;
    while !open.is_empty() {
        let run = store.claim_due(Lane::Interactive, Claim::new(WorkerId::new())).await.unwrap();
        let run = run.expect("all are due");
        assert!(open.remove(&run.job.spec.id), "each comes once");
        on.finish(&run, completed("a")).await;
    }
    assert!(store.claim_due(Lane::Interactive, Claim::new(WorkerId::new())).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_miss_nothing_when_the_master_of_their_job_is_killed_and_comes_back() {
    let mut own = RedisCluster::start().await;
    let options = alone();
    let (clock, prefix) = (options.clock.clone(), options.prefix.clone());
    let store = RedisStore::open(&own.url(), options).await.unwrap();
    let on = subject(Arc::clone(&store), clock);
    let job = on.accept(chat(&new_tenant(), "q")).await;
    let run = on.claim(&job, WorkerId::new()).await;
    let mut readers = JoinSet::new();
    for _ in 0..5 {
        readers.spawn(follow_through(Arc::clone(&store), job.clone()));
    }
    let holds = |keys: &str| keys.contains(&format!("{prefix}:{{s")) && keys.contains(":log:");
    let master = own.nodes.iter_mut().find(|node| holds(&node.says("KEYS *").unwrap())).unwrap();
    write_through(&store, &run.lease, 60, async |batch| {
        if batch == 30 {
            master.kill9();
            master.restart().await;
        }
    })
    .await;
    let whole = on.log(&job).await;
    assert_eq!(whole.len(), 123);
    while let Some(reader) = readers.join_next().await {
        let (events, errors) = reader.unwrap();
        assert_eq!(events, whole, "with {errors} errors on the way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_over_tls_does_all_of_a_job_and_shows_it_live() {
    let cluster = RedisCluster::start_with_tls().await;
    let open = async || {
        let options = alone();
        let clock = options.clock.clone();
        subject(RedisStore::open(&cluster.url(), options).await.unwrap(), clock)
    };
    accept::versions_and_stamps_rise_together(&open().await).await;
    lease::a_worker_that_is_gone_loses_its_jobs(&open().await).await;
    log::a_subscriber_hears_all_that_is_written_after(&open().await).await;
    spending::usage_is_counted_by_tenant_model_and_day(&open().await).await;
    let untrusted =
        cluster.url().split(',').map(|one| one.split('?').next().unwrap()).collect::<Vec<_>>().join(",");
    let err = RedisStore::open(&untrusted, alone()).await.err().expect("it is refused");
    assert!(err.to_string().contains("certificate"), "{err}");
}
