use std::time::Duration;

use async_trait::async_trait;
use millhand_common::model::AgentName;
use millhand_common::ports::{
    Asking, ChatModel, ChatRequest, ChatStream, Forecast, Levels, LimitPolicy, ModelError, RateLimiter,
    Reserved, Said, StoreError, Used,
};
use uuid::Uuid;

use super::*;

/// A model that nobody calls, and a limiter that nobody asks.
struct Nothing;

#[async_trait]
impl ChatModel for Nothing {
    fn name(&self) -> &str {
        "nothing"
    }

    fn origin(&self) -> &str {
        "http://nowhere/v1"
    }

    async fn stream(&self, _: ChatRequest) -> Result<ChatStream, ModelError> {
        Err(ModelError::TimedOut)
    }
}

#[async_trait]
impl RateLimiter for Nothing {
    async fn reserve(&self, _: &Asking) -> Result<Reserved, StoreError> {
        Ok(Reserved::Granted)
    }

    async fn settle(&self, _: Uuid, _: Used) -> Result<(), StoreError> {
        Ok(())
    }

    async fn extend(&self, _: Uuid) -> Result<(), StoreError> {
        Ok(())
    }

    async fn observe(&self, _: Uuid, _: &Said) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forecast(&self) -> Result<Forecast, StoreError> {
        Ok(Forecast { calls: 1, opens_in: Duration::ZERO })
    }

    async fn offer(&self, _most: u32) -> Result<Forecast, StoreError> {
        Ok(Forecast { calls: 1, opens_in: Duration::ZERO })
    }

    async fn quota(&self) -> Result<Option<millhand_common::ports::Quota>, StoreError> {
        Ok(None)
    }

    async fn levels(&self) -> Result<Levels, StoreError> {
        Ok(Levels::default())
    }
}

fn unlimited(name: &str) -> Arc<Pool> {
    Pool::new(name, Arc::new(Nothing), None)
}

fn limited(name: &str) -> Arc<Pool> {
    let quota = Quota::new(Arc::new(Nothing), LimitPolicy::default(), 1);
    Pool::new(name, Arc::new(Nothing), Some(quota))
}

fn agent(model: Option<&str>) -> Agent {
    Agent { model: model.map(str::to_owned), ..Agent::built_in().remove(0) }
}

fn job() -> JobSpec {
    let job = serde_json::json!({
        "id": millhand_common::model::JobId::new(), "tenant": "default", "lane": "interactive",
        "agent": AgentName::rag(), "deadline": "1m", "input": {"kind": "chat", "messages": []},
    });
    serde_json::from_value(job).unwrap()
}

fn classes(json: serde_json::Value) -> BTreeMap<String, Class> {
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn pulling_waits_for_the_pools_that_agents_ask_first() {
    let spare = serde_json::json!({"smart": {"pools": {"large": 1}, "fallback": ["spare"]}});
    let pools = || vec![limited(DEFAULT), limited("large"), unlimited("spare")];
    let routes = Routes::new(pools(), classes(spare));
    let gates = |agents: &[Agent]| routes.gates(agents, false).len();
    assert_eq!(gates(&[agent(None)]), 1);
    assert_eq!(gates(&[agent(None), agent(Some("smart")), agent(Some("smart"))]), 2, "each once");
    let mixed = serde_json::json!({"smart": {"pools": {"large": 1, "spare": 1}}});
    let routes = Routes::new(pools(), classes(mixed));
    assert!(routes.gates(&[agent(Some("smart"))], false).is_empty(), "one of them is not limited");
}

#[tokio::test]
async fn an_agent_without_a_class_has_the_default_class_the_default_pool_or_no_model() {
    let job = job();
    let names = |routes: &Routes, agent: &Agent| {
        let route = routes.of(agent, &job, false)?;
        Some(route.pools.iter().map(|pool| pool.name().to_owned()).collect::<Vec<_>>().join(" "))
    };
    let pools = || vec![unlimited(DEFAULT), unlimited("spare")];
    let plain = Routes::new(pools(), BTreeMap::new());
    assert_eq!(names(&plain, &agent(None)).as_deref(), Some(DEFAULT));
    let configured = serde_json::json!({"default": {"pools": {"default": 1}, "fallback": ["spare"]}});
    let routes = Routes::new(pools(), classes(configured));
    assert_eq!(names(&routes, &agent(None)).as_deref(), Some("default spare"));
    let none = Routes::new(vec![unlimited("spare")], BTreeMap::new());
    assert_eq!(names(&none, &agent(None)), None);
}

#[tokio::test(start_paused = true)]
async fn a_sick_pool_lets_one_call_in_and_opens_at_its_first_word() {
    let pool = unlimited("p");
    for _ in 0..20 {
        pool.enter().unwrap().ended(Some(&ModelError::TimedOut));
    }
    assert_eq!(pool.enter().err(), Some(NoEntry::Shut(Duration::from_secs(5))));
    tokio::time::advance(Duration::from_secs(5)).await;
    let lost = pool.enter().unwrap();
    assert!(pool.enter().is_err(), "one at a time");
    drop(lost);
    let mut probe = pool.enter().unwrap();
    assert!(pool.enter().is_err());
    probe.answering();
    assert!(pool.enter().is_ok());
    probe.ended(None);
    assert_eq!(pool.shut_for(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pool_with_too_much_to_do_gets_fewer_calls_at_a_time() {
    let pool = unlimited("p");
    let overloaded = ModelError::Overloaded { retry_after: None };
    let mut calls: Vec<_> = (0..10).map(|_| pool.enter().unwrap()).collect();
    tokio::time::advance(Duration::from_millis(10)).await;
    calls.drain(..5).for_each(|call| call.ended(Some(&overloaded)));
    let mut more = Vec::new();
    let refused = loop {
        match pool.enter() {
            Ok(pass) => more.push(pass),
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, more.len()), (NoEntry::Full, 2), "seven of ten, five of which go on");
    drop(more.pop());
    let next = pool.enter();
    assert!(next.is_ok(), "a call that ends makes room");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(pool.enter().is_ok(), "and so does a second in which nothing was said");
}

#[tokio::test]
async fn under_load_the_smaller_class_is_asked_first_and_pulling_waits_for_it() {
    let configured = serde_json::json!({
        "smart": {"pools": {"large": 1}, "fallback": ["spare"], "under_load": "small"},
        "small": {"pools": {"tiny": 1}, "fallback": ["large"]},
    });
    let pools = vec![limited("large"), limited("spare"), unlimited("tiny")];
    let routes = Routes::new(pools, classes(configured));
    let asked = |under_load| {
        let route = routes.of(&agent(Some("smart")), &job(), under_load).unwrap();
        let pools: Vec<_> = route.pools.iter().map(|pool| pool.name().to_owned()).collect();
        (pools.join(" "), route.smaller, routes.gates(&[agent(Some("smart"))], under_load).len())
    };
    assert_eq!(asked(false), ("large spare".to_owned(), 0, 1));
    assert_eq!(asked(true), ("tiny large spare".to_owned(), 1, 0), "tiny is not limited");
    let small = routes.of(&agent(Some("small")), &job(), true).unwrap();
    assert_eq!(small.smaller, 0, "nothing is smaller than it");
}
