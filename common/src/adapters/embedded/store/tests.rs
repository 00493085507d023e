use super::*;
use crate::follow::Follower;
use crate::model::{AgentName, JobInput, JobSpec, Message, OnBusy, Output, Role, Status};
use crate::ports::{Conversations, Expected, JobReader, Lookup};

fn question(text: &str) -> Accept {
    let message = Message { role: Role::User, content: text.to_owned() };
    let spec = JobSpec {
        id: JobId::new(),
        tenant: TenantId::default(),
        input: JobInput::Chat { messages: vec![message] },
        agent: AgentName::rag(),
        lane: Lane::Interactive,
        conversation_id: Some(crate::model::ConversationId::new()),
        collection: None,
        filter: None,
        deadline: Duration::from_secs(120),
        not_before: None,
        max_output_tokens: None,
        metadata: None,
        replay_of: None,
        traceparent: None,
    };
    Accept {
        spec,
        known_conversation: false,
        on_busy: OnBusy::Enqueue,
        replays_only: false,
        idempotency: None,
        expected: Expected::default(),
    }
}

#[tokio::test]
async fn a_job_lives_through_a_reopened_store_and_its_reader_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Arc::new(Folder::open(dir.path()).unwrap());
    let store = EmbeddedStore::open(&folder, StoreOptions::default()).unwrap();
    let tenant = TenantId::default();
    let accept = question("谁建了磨坊?");
    let id = accept.spec.id;
    let conversation = accept.spec.conversation_id.unwrap();
    assert!(matches!(store.accept(accept.clone()).await.unwrap(), Accepted::Created(_)));
    assert!(matches!(store.accept(accept).await.unwrap(), Accepted::Existing(_)));
    let worker = WorkerId::new();
    let Claimed::Run(first) = store.claim(&tenant, id, Claim::new(worker)).await.unwrap() else {
        panic!("a queued job is claimed")
    };
    assert!(matches!(store.claim(&tenant, id, Claim::new(worker)).await.unwrap(), Claimed::Busy));
    drop(store);

    let store = EmbeddedStore::open(&folder, StoreOptions::default()).unwrap();
    store.due().await;
    let run = store.claim_due(Lane::Interactive, Claim::new(worker)).await.unwrap().unwrap();
    assert_eq!((run.job.attempt, run.job.deaths), (2, 1));
    let delta = vec![EventBody::OutputTextDelta { text: "答案".to_owned() }];
    let seq = run.job.last_seq + 1;
    assert_eq!(store.append(&first.lease, seq, delta.clone()).await.unwrap(), Appended::Fenced);
    let reader: Arc<dyn JobReader> = store.clone();
    let mut follower = Follower::new(reader, tenant.clone(), id, 0);
    for seq in 1..=3 {
        assert_eq!(follower.next().await.unwrap().unwrap().seq, seq);
    }
    assert_eq!(store.append(&run.lease, seq, delta.clone()).await.unwrap(), Appended::Ok);
    assert_eq!(store.append(&run.lease, seq, delta).await.unwrap(), Appended::Duplicate);
    assert_eq!(follower.next().await.unwrap().unwrap().kind, "output_text.delta");
    let terminal = Terminal {
        output: Some(Output::answer("答案", true, Vec::new())),
        ..Terminal::bare(Status::Completed)
    };
    let by = By::Owner { epoch: run.lease.epoch, first_seq: seq + 1, tail: Vec::new() };
    assert_eq!(store.close(&tenant, id, by, terminal).await.unwrap(), Closed::Ok);
    assert_eq!(follower.next().await.unwrap().unwrap().kind, "job.completed");
    assert!(follower.next().await.unwrap().is_none());
    let Lookup::Found(job) = JobReader::get(&*store, &tenant, id).await.unwrap() else {
        panic!("the job is kept")
    };
    assert_eq!((job.status, job.last_seq), (Status::Completed, 5));
    let history = store.history(&tenant, conversation, 10).await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(JobStore::delete(&*store, &tenant, id).await.unwrap());
    assert_eq!(JobReader::get(&*store, &tenant, id).await.unwrap(), Lookup::Gone);
}
