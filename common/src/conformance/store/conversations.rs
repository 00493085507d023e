//! Conversations: history in order, of answers only.

use crate::model::{ConversationId, Job, Message, Role, Status, TenantId, Terminal, WorkerId};
use crate::ports::{Lookup, StoreError, StoredMessage};

use super::{Subject, chat, completed, new_tenant};

pub async fn answers_become_history_in_order(subject: &Subject) {
    let tenant = new_tenant();
    let conversation = ConversationId::new();
    let mut expected = Vec::new();
    for turn in 1..=3 {
        let job = ask(subject, &tenant, conversation, &format!("question {turn}")).await;
        let before = subject.conversations.history(&tenant, conversation, 100).await.expect("history");
        assert_eq!(contents(&before), expected, "an open job is not history");
        let run = subject.claim(&job, WorkerId::new()).await;
        let answer = format!("答案 {turn}");
        let end = if turn == 2 {
            Terminal { status: Status::Incomplete, ..completed(&answer) }
        } else {
            completed(&answer)
        };
        subject.finish(&run, end).await;
        expected.extend([(Role::User, format!("question {turn}")), (Role::Assistant, answer)]);
    }
    let history = subject.conversations.history(&tenant, conversation, 100).await.expect("history");
    assert_eq!(contents(&history), expected);
    let last = subject.conversations.history(&tenant, conversation, 2).await.expect("history");
    assert_eq!(contents(&last), expected[4..], "the last ones, in order");
}

pub async fn only_answers_become_history(subject: &Subject) {
    let tenant = new_tenant();
    let conversation = ConversationId::new();
    for status in [Status::Failed, Status::Cancelled, Status::Expired] {
        let job = ask(subject, &tenant, conversation, "q").await;
        let run = subject.claim(&job, WorkerId::new()).await;
        subject.finish(&run, Terminal::bare(status)).await;
    }
    assert_eq!(subject.conversations.history(&tenant, conversation, 100).await.expect("history"), []);
}

pub async fn messages_are_read_in_pages(subject: &Subject) {
    let tenant = new_tenant();
    let conversation = ConversationId::new();
    for turn in 0..5 {
        let job = ask(subject, &tenant, conversation, &format!("q{turn}")).await;
        let run = subject.claim(&job, WorkerId::new()).await;
        subject.finish(&run, completed(&format!("a{turn}"))).await;
    }
    let mut cursor: Option<String> = None;
    let mut read = Vec::new();
    loop {
        let page = subject.conversations.messages(&tenant, conversation, 3, cursor.as_deref()).await;
        let Lookup::Found(page) = page.expect("messages") else { panic!("the conversation is there") };
        assert!(page.data.len() <= 3);
        read.extend(page.data);
        assert!(read.len() <= 10, "a page comes again");
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let texts: Vec<_> = read.iter().map(|stored| stored.message.content.as_str()).collect();
    assert_eq!(texts, ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3", "q4", "a4"]);
    let unknown = subject.conversations.messages(&tenant, ConversationId::new(), 3, None).await;
    assert_eq!(unknown.expect("messages"), Lookup::Unknown);
}

pub async fn conversations_are_listed_newest_first(subject: &Subject) {
    let tenant = new_tenant();
    let mut made = Vec::new();
    for _ in 0..3 {
        let id = ConversationId::new();
        subject.conversations.create(&tenant, id).await.expect("create");
        made.push(id);
    }
    // A job brings its own along.
    let job = subject.accept(chat(&tenant, "q")).await;
    made.push(job.spec.conversation_id.expect("chat"));
    made.reverse();
    let page = subject.conversations.list(&tenant, 3, None).await.expect("list");
    let ids: Vec<_> = page.data.iter().map(|conversation| conversation.id).collect();
    assert_eq!(ids, made[..3]);
    assert_eq!(page.data[0].jobs, 1);
    assert!(page.next.is_some());
    let rest = subject.conversations.list(&tenant, 3, Some(made[2])).await.expect("list");
    assert_eq!((rest.data.len(), rest.data[0].id, rest.next), (1, made[3], None));
}

pub async fn a_conversation_with_an_open_job_is_not_deleted(subject: &Subject) {
    let tenant = new_tenant();
    let job = subject.accept(chat(&tenant, "q")).await;
    let conversation = job.spec.conversation_id.expect("chat");
    let refused = subject.conversations.delete(&tenant, conversation).await;
    assert!(matches!(refused, Err(StoreError::Open)), "{refused:?}");
    assert_eq!(subject.job(&job).await, job);
}

pub async fn a_deleted_conversation_takes_its_jobs_with_it(subject: &Subject) {
    let tenant = new_tenant();
    let job = subject.accept(chat(&tenant, "q")).await;
    let conversation = job.spec.conversation_id.expect("chat");
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;
    assert!(subject.conversations.delete(&tenant, conversation).await.expect("delete"));
    let lookup = subject.reader.get(&tenant, job.spec.id).await.expect("get");
    assert_eq!(lookup, Lookup::Gone);
    let lookup = subject.conversations.get(&tenant, conversation).await.expect("get");
    assert!(!matches!(lookup, Lookup::Found(_)), "{lookup:?}");
    assert!(!subject.conversations.delete(&tenant, ConversationId::new()).await.expect("delete"));
}

async fn ask(subject: &Subject, tenant: &TenantId, conversation: ConversationId, question: &str) -> Job {
    let mut spec = chat(tenant, question);
    spec.conversation_id = Some(conversation);
    subject.accept(spec).await
}

fn contents(messages: &[StoredMessage]) -> Vec<(Role, String)> {
    messages
        .iter()
        .map(|stored| {
            let Message { role, content } = &stored.message;
            (*role, content.clone())
        })
        .collect()
}
