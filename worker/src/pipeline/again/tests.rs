use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const CALM: Standing =
    Standing { text_shown: false, time_left: MINUTE, limited: false, others: false, jitter: 0.5 };

fn limited(seconds: u64) -> ModelError {
    ModelError::RateLimited { retry_after: Some(Duration::from_secs(seconds)), limits: Box::default() }
}

fn once(err: &ModelError, standing: Standing) -> Next {
    next(err, standing, &mut Tries::default(), || true)
}

#[test]
fn errors_that_pass_are_tried_twice_before_text_once_after_and_then_elsewhere() {
    let mut tries = Tries::default();
    let mut again =
        |text_shown| next(&ModelError::TimedOut, Standing { text_shown, ..CALM }, &mut tries, || true);
    let wait = Duration::from_millis(550);
    assert_eq!([again(false), again(false)], [Next::Again(wait); 2]);
    assert_eq!(again(false), Next::Elsewhere);
    assert_eq!([again(true), again(true)], [Next::Again(wait), Next::Elsewhere]);
    let drawn = [0.0, 1.0].map(|jitter| once(&ModelError::TimedOut, Standing { jitter, ..CALM }));
    assert_eq!(drawn, [Next::Again(MIN_WAIT), Next::Again(MAX_WAIT)]);
}

#[test]
fn without_budget_or_time_no_call_is_made_again_in_place() {
    let err = ModelError::Unavailable("HTTP 500".to_owned());
    assert_eq!(next(&err, CALM, &mut Tries::default(), || false), Next::Elsewhere);
    let late = Standing { time_left: Duration::from_millis(200), ..CALM };
    let mut asked = false;
    let took = next(&err, late, &mut Tries::default(), || {
        asked = true;
        true
    });
    assert_eq!((took, asked), (Next::Elsewhere, false), "the budget is for calls that are made");
}

#[test]
fn what_no_call_would_mend_is_given_up_and_what_another_pool_may_take_goes_there() {
    let said = || "x".to_owned();
    for err in [ModelError::Rejected(said()), ModelError::Filtered(said()), ModelError::Unauthorized] {
        assert_eq!(once(&err, CALM), Next::GiveUp);
    }
    let elsewhere = [
        ModelError::NoCredit(said()),
        ModelError::TooLarge(said()),
        ModelError::Overloaded { retry_after: Some(Duration::from_secs(1)) },
    ];
    for err in elsewhere {
        assert_eq!(once(&err, CALM), Next::Elsewhere);
    }
}

#[test]
fn a_rate_limit_is_waited_for_where_it_holds_nobody_up_and_never_too_short() {
    let Next::Again(wait) = once(&limited(2), CALM) else { panic!("not in place") };
    assert!(wait >= Duration::from_secs(2));
    assert!(matches!(once(&limited(30), CALM), Next::Yield(wait) if wait >= Duration::from_secs(30)));
    let late = Standing { time_left: Duration::from_secs(3), ..CALM };
    assert!(matches!(once(&limited(5), late), Next::Yield(_)));
    let shared = Standing { limited: true, ..CALM };
    assert_eq!(once(&limited(2), shared), Next::Yield(Duration::from_secs(2)), "the limiter keeps the time");
    let silent = ModelError::RateLimited { retry_after: None, limits: Box::default() };
    assert_eq!(once(&silent, shared), Next::Yield(LIMITED_WAIT));
    assert_eq!(once(&silent, CALM), Next::Yield(Duration::from_secs(3)));
}

#[test]
fn a_rate_limit_of_more_than_two_minutes_is_not_waited_for_while_another_pool_may_serve() {
    let others = Standing { others: true, limited: true, ..CALM };
    assert_eq!(once(&limited(121), others), Next::Elsewhere);
    assert_eq!(once(&limited(120), others), Next::Yield(TOO_LONG));
    assert!(matches!(once(&limited(121), CALM), Next::Yield(_)), "there is no other");
}

fn ending(then: OnUnavailable, why: Vec<(&str, Why)>) -> Ending {
    without_pool("smart", then, why, Duration::ZERO, 0.0)
}

fn shut(seconds: u64) -> Why {
    Why::Shut(Duration::from_secs(seconds), "it failed".to_owned())
}

#[test]
fn a_job_without_a_pool_waits_for_the_first_that_may_be_well_again() {
    let waits = |why| match ending(OnUnavailable::Wait, why) {
        Ending::Failure(Failure::NoModel { after }) => after.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(waits(vec![("a", shut(9)), ("b", shut(4))]), 4);
    assert_eq!(waits(vec![("a", shut(900))]), 15, "it may be well elsewhere before");
    let failed = Why::Failed(ModelError::TimedOut);
    assert_eq!(waits(vec![("a", shut(9)), ("b", failed)]), 9);
    let asked = Why::Failed(ModelError::Overloaded { retry_after: Some(Duration::from_secs(40)) });
    assert_eq!(waits(vec![("a", asked)]), 40, "never earlier than asked");
    let old = without_pool("smart", OnUnavailable::Wait, vec![("a", shut(900))], MINUTE * 10, 0.0);
    assert!(matches!(old, Ending::Failure(Failure::NoModel { after }) if after == MINUTE * 5 / 2));
}

#[test]
fn a_call_that_failed_a_few_times_is_another_attempt_which_counts() {
    let why = vec![("a", Why::Failed(ModelError::TimedOut))];
    let Ending::Failure(Failure::Retry { error, .. }) = ending(OnUnavailable::Wait, why) else {
        panic!("not a retry")
    };
    assert_eq!(error.code, "model_timeout");
}

#[test]
fn who_shall_not_wait_is_answered_or_failed_at_once() {
    let why = || vec![("a", shut(9)), ("b", Why::Failed(ModelError::NoCredit("pay".to_owned())))];
    assert!(matches!(ending(OnUnavailable::Extractive, why()), Ending::Quotations));
    let Ending::Failure(Failure::Fatal(error)) = ending(OnUnavailable::Fail, why()) else {
        panic!("not failed")
    };
    assert_eq!((error.code.as_str(), error.retryable), ("model_unavailable", true));
    insta::assert_snapshot!(error.message, @"no model of the class `smart` can answer now: pool `a` is left alone for 9 s: it failed; pool `b`: model's account has no credit: pay");
}

#[test]
fn a_pool_that_will_have_quota_is_waited_for_whatever_the_others_do() {
    let later = Why::Later(Duration::from_secs(200));
    let why = vec![("a", later), ("b", shut(3))];
    let ending = ending(OnUnavailable::Fail, why);
    assert!(matches!(ending, Ending::Failure(Failure::NoQuota { after }) if after.as_secs() == 200));
}

#[test]
fn a_request_that_fits_no_pool_fails_with_the_numbers() {
    let never = JobError::new("model_limit_too_small", "asks for 9 of 5", false);
    let why =
        vec![("a", Why::Failed(ModelError::TooLarge("too long".to_owned()))), ("b", Why::TooLarge(never))];
    let Ending::Failure(Failure::Fatal(error)) = ending(OnUnavailable::Extractive, why) else {
        panic!("not failed")
    };
    assert_eq!((error.code.as_str(), error.message.as_str()), ("model_limit_too_small", "asks for 9 of 5"));
}

#[test]
fn a_refused_key_names_the_variable_of_its_pool() {
    let message = |pool| match refused(&ModelError::Unauthorized, pool) {
        Failure::Fatal(error) => error.message,
        other => panic!("{other:?}"),
    };
    assert!(message("default").contains("MILLHAND_MODEL__API_KEY or OPENAI_API_KEY"));
    assert!(message("spare").ends_with("set MILLHAND_MODELS__SPARE__API_KEY"));
}
