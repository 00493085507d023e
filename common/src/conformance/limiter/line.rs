//! Who comes when.

use super::{Subject, again, asking, ms, tokens};
use crate::ports::{Amounts, Forecast, LimitPolicy, Reserved, Used};

/// C9: nothing that comes later delays it.
pub async fn a_place_is_kept_for_the_one_who_has_it(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    let large = asking(500, 0);
    assert_eq!(on.reserve(&large).await, Reserved::At(ms(5_000)));
    for _ in 0..49 {
        on.advance(100);
        assert!(matches!(on.ask(5, 0).await, Reserved::At(wait) if wait > ms(50)));
    }
    on.advance(100);
    assert_eq!(on.reserve(&again(&large)).await, Reserved::Granted);
}

/// C9: in the order in which they asked.
pub async fn those_behind_come_after_large_or_small(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    assert_eq!(on.ask(300, 0).await, Reserved::At(ms(3_000)));
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(3_100)));
    assert_eq!(on.ask(400, 0).await, Reserved::At(ms(7_100)));
    assert_eq!(on.ask(5_200, 0).await, Reserved::At(ms(59_100)));
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(59_200)));
}

/// The job was given back meanwhile and runs elsewhere.
pub async fn another_worker_takes_the_place_of_the_same_step(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { concurrency: Some(1), ..tokens(6_000) }).await;
    let step = asking(100, 0);
    assert_eq!(on.reserve(&step).await, Reserved::At(ms(1_000)));
    assert_eq!(on.reserve(&again(&step)).await, Reserved::At(ms(1_000)), "it has one place");
    on.advance(1_000);
    let (mine, others) = (again(&step), again(&step));
    assert_eq!(on.reserve(&mine).await, Reserved::Granted);
    assert!(matches!(on.reserve(&others).await, Reserved::Park(_)), "one call runs");
    on.settle(mine.call, Used::Exactly(Amounts::call(100, 0))).await;
    assert_eq!(on.reserve(&others).await, Reserved::At(ms(1_000)), "another call has to be paid for");
}

/// The job was cancelled meanwhile.
pub async fn a_place_that_is_not_taken_is_given_up_whole(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    let gone = asking(100, 0);
    assert_eq!(on.reserve(&gone).await, Reserved::At(ms(1_000)));
    on.advance(5_999);
    assert_eq!(on.forecast().await.calls, 5);
    on.advance(1);
    on.granted(600, 0).await;
    assert_eq!(on.reserve(&again(&gone)).await, Reserved::At(ms(1_000)));
}

/// Small calls cannot keep a large one from ever being alone.
pub async fn who_waits_for_others_to_end_is_next(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let running = on.granted(1_000, 0).await;
    on.advance(20_000);
    let large = asking(5_500, 0);
    assert!(matches!(on.reserve(&large).await, Reserved::Park(_)), "not beside the other");
    assert!(matches!(on.ask(10, 0).await, Reserved::Park(_)), "it is next");
    on.settle(running, Used::Nothing).await;
    assert_eq!(on.reserve(&again(&large)).await, Reserved::Granted);
    on.granted(10, 0).await;
}

/// What pull gating goes by.
pub async fn the_forecast_says_when_to_come(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    on.granted(60, 40).await;
    assert_eq!(on.forecast().await, Forecast { calls: 9, opens_in: ms(0) });
    on.granted(500, 400).await;
    let Forecast { calls, opens_in } = on.forecast().await;
    // Lately calls were of 100 and of 900, and now they are taken for 200.
    assert_eq!((calls, opens_in), (0, ms(1_000)));
    on.advance(1_000);
    assert_eq!(on.forecast().await.calls, 0);
    on.advance(1_000);
    assert_eq!(on.forecast().await.calls, 1);
    let place = asking(400, 0);
    assert_eq!(on.reserve(&place).await, Reserved::At(ms(2_000)));
    assert_eq!(on.forecast().await.calls, 0);
    on.advance(2_000);
    assert_eq!(on.forecast().await.calls, 1, "whoever has a place must come and take it");
}

/// Else all workers come for the same room, and all but one in vain.
pub async fn a_pull_is_offered_once(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(5_000);
    on.granted(100, 0).await;
    assert_eq!(on.offer(3).await, Forecast { calls: 3, opens_in: ms(0) });
    assert_eq!(on.offer(3).await, Forecast { calls: 1, opens_in: ms(0) });
    assert_eq!(on.offer(3).await, Forecast { calls: 0, opens_in: ms(10) });
    assert_eq!(on.forecast().await.calls, 4, "it changes nothing");
    on.granted(100, 0).await;
    assert_eq!(on.offer(3).await.calls, 0, "who came took one of the four, and three are left for three");
    on.advance(100);
    assert_eq!(on.offer(9).await.calls, 3, "nobody came for these");
}

/// The one that keeps the others back must not be kept back by that.
pub async fn who_waits_for_others_to_end_is_called(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let running = on.granted(1_000, 0).await;
    on.advance(20_000);
    let large = asking(5_500, 0);
    assert!(matches!(on.reserve(&large).await, Reserved::Park(_)));
    assert_eq!(on.offer(9).await, Forecast { calls: 0, opens_in: ms(1_000) });
    on.settle(running, Used::Nothing).await;
    assert_eq!(on.offer(9).await.calls, 1, "it alone");
    assert_eq!(on.reserve(&again(&large)).await, Reserved::Granted);
    let other = asking(5_500, 0);
    assert!(matches!(on.reserve(&other).await, Reserved::Park(_)));
    on.advance(1_000);
    assert_eq!(on.offer(9).await.calls, 1, "its time is over: whoever comes next is asked");
}
