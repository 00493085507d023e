use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use millhand_common::model::{Sampling, TenantId};
use millhand_common::ports::{ChatMessage, ChatModel, ChatRequest, ChatRole, ChatStream, ModelError};

use super::*;

/// A cache that answers as it is told, then keeps silent.
#[derive(Default)]
struct Told {
    answers: Mutex<VecDeque<Result<Asked, StoreError>>>,
    leads: std::sync::atomic::AtomicBool,
    heard: Mutex<Vec<String>>,
}

impl Told {
    fn with(answers: impl IntoIterator<Item = Result<Asked, StoreError>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    fn hear(&self, what: String) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn hears(&self, what: &str) {
        while !self.heard().iter().any(|heard| heard == what) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl AnswerCache for Told {
    async fn ask(&self, _: &AnswerKey, _: Uuid, _: Duration) -> Result<Asked, StoreError> {
        let next = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn renew(&self, _: &AnswerKey, _: Uuid, _: Duration) -> Result<bool, StoreError> {
        self.hear("renew".to_owned());
        Ok(self.leads.load(std::sync::atomic::Ordering::SeqCst))
    }

    async fn land(&self, _: &AnswerKey, _: Uuid, answer: &str, keep: Duration) -> Result<bool, StoreError> {
        self.hear(format!("land {answer} for {keep:?}"));
        Ok(true)
    }

    async fn abandon(&self, _: &AnswerKey, _: Uuid) -> Result<(), StoreError> {
        self.hear("abandon".to_owned());
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn call() -> AnswerKey {
    AnswerKey::new(TenantId::default(), &"call")
}

fn answer(text: &str) -> Shared {
    let usage = Usage { input_tokens: 3, output_tokens: 2, nano_usd: 0 };
    Shared::Answer { text: text.to_owned(), usage }
}

async fn lead(told: &Arc<Told>) -> Flight {
    let cache = Cache::new(told.clone(), HOUR);
    let Part::Lead(flight) = cache.part(call(), || {}).await else { panic!("not the leader") };
    flight
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_what_the_leader_gets_and_takes_the_lead_when_it_gets_nothing() {
    let kept = serde_json::to_string(&answer("水 [[none]]")).unwrap();
    let told = Told::with([Ok(Asked::Follow), Ok(Asked::Follow), Ok(Asked::Kept(kept))]);
    let followed = std::sync::atomic::AtomicU32::new(0);
    let follows = || {
        followed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    let cache = Cache::new(told.clone(), HOUR);
    let Part::Given(given) = cache.part(call(), follows).await else { panic!("nothing was given") };
    assert_eq!((given, followed.into_inner()), (answer("水 [[none]]"), 1));
    assert_eq!(told.heard(), [""; 0], "who never led has nothing to give up");

    lead(&Told::with([Ok(Asked::Follow), Ok(Asked::Lead)])).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_says_that_it_goes_on_and_one_that_lost_the_lead_stops_saying_so() {
    let told = Told::with([Ok(Asked::Lead)]);
    told.leads.store(true, std::sync::atomic::Ordering::SeqCst);
    let flight = lead(&told).await;
    flight.during(tokio::time::sleep(RENEW_EVERY * 5 / 2)).await;
    assert_eq!(told.heard(), ["renew", "renew"]);
    told.leads.store(false, std::sync::atomic::Ordering::SeqCst);
    flight.during(tokio::time::sleep(RENEW_EVERY * 9 / 2)).await;
    assert_eq!(told.heard(), ["renew", "renew", "renew"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_call_comes_to_is_kept_and_what_comes_to_nothing_is_given_up() {
    let told = Told::with([Ok(Asked::Lead)]);
    lead(&told).await.land(Some(answer("x"))).await;
    let kept = r#"land {"answer":{"text":"x","usage":{"input_tokens":3,"output_tokens":2,"cost_usd":0.0}}} for 3600s"#;
    assert_eq!(told.heard(), [kept]);

    let told = Told::with([Ok(Asked::Lead)]);
    lead(&told).await.land(Some(Shared::Refused(JobError::new("model_error", "no", false)))).await;
    let kept = r#"land {"refused":{"code":"model_error","message":"no","retryable":false}} for 5s"#;
    assert_eq!(told.heard(), [kept]);

    for nothing in [None, Some(answer(&"x".repeat(MOST_BYTES)))] {
        let told = Told::with([Ok(Asked::Lead)]);
        let flight = lead(&told).await;
        // The task that gives up lives with the cache.
        let _cache = Arc::clone(&flight.cache);
        flight.land(nothing).await;
        told.hears("abandon").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_may_have_been_given_is_given_up_when_its_asker_is_dropped() {
    let told = Told::with([]);
    let cache = Cache::new(told.clone(), HOUR);
    let asking = tokio::time::timeout(Duration::from_secs(1), cache.part(call(), || {})).await;
    assert!(asking.is_err(), "nobody answered");
    told.hears("abandon").await;
}

#[tokio::test(start_paused = true)]
async fn without_the_cache_the_call_is_made() {
    let away = || Err(StoreError::Unreachable("gone".to_owned()));
    for answers in [vec![away()], vec![Ok(Asked::Follow), Err(StoreError::Full)]] {
        let cache = Cache::new(Told::with(answers), HOUR);
        assert!(matches!(cache.part(call(), || {}).await, Part::Alone));
    }
    let cache = Cache::new(Told::with([Ok(Asked::Kept("rubbish".to_owned()))]), HOUR);
    assert!(matches!(cache.part(call(), || {}).await, Part::Alone));
}

/// A model that is never called.
#[derive(Clone, Copy)]
struct Named {
    origin: &'static str,
    name: &'static str,
}

#[async_trait]
impl ChatModel for Named {
    fn name(&self) -> &str {
        self.name
    }

    fn origin(&self) -> &str {
        self.origin
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream, ModelError> {
        Err(ModelError::TimedOut)
    }
}

#[test]
fn everything_that_changes_an_answer_changes_its_key() {
    let message = |role, content: &str| ChatMessage::new(role, content.to_owned());
    let ask = |content: &str| vec![message(ChatRole::System, "rules"), message(ChatRole::User, content)];
    let sampling = |temperature, seed| Sampling { temperature, seed };
    let (ours, cold) = (TenantId::default(), sampling(Some(0.0), None));
    let model = Named { origin: "http://a/v1", name: "m" };
    let first = key(&ours, &model, &ask("q"), cold, None);
    assert_eq!(first, key(&ours, &model, &ask("q"), cold, None));
    let elsewhere = Named { origin: "http://b/v1", ..model };
    let named = Named { name: "m2", ..model };
    let split = vec![message(ChatRole::System, "rules"), message(ChatRole::Assistant, "q")];
    let others = [
        key(&"other".parse().unwrap(), &model, &ask("q"), cold, None),
        key(&ours, &elsewhere, &ask("q"), cold, None),
        key(&ours, &named, &ask("q"), cold, None),
        key(&ours, &model, &ask("q "), cold, None),
        key(&ours, &model, &split, cold, None),
        key(&ours, &model, &ask("q"), sampling(Some(0.1), None), None),
        key(&ours, &model, &ask("q"), sampling(Some(0.0), Some(0)), None),
        key(&ours, &model, &ask("q"), sampling(Some(0.0), Some(1)), None),
        key(&ours, &model, &ask("q"), cold, Some(10)),
        key(&ours, &model, &ask("q"), cold, Some(11)),
    ];
    let all: std::collections::HashSet<String> =
        others.iter().chain([&first]).map(ToString::to_string).collect();
    assert_eq!(all.len(), others.len() + 1);
}
