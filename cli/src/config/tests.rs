use std::path::PathBuf;

use super::*;

fn with(file: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("millhand.toml");
    std::fs::write(&path, file).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(&path), variables)
}

/// The error as a person reads it, with the file's folder left out.
fn refusal(file: &str, variables: &[(&str, &str)]) -> String {
    let err = with(file, variables).unwrap_err().to_string();
    let words = err.split(' ').map(|word| match word.rfind("/millhand.toml") {
        Some(at) => format!("FOLDER{}", &word[at..]),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
    let loaded = with(
        "[worker]\nslots = 3\ndrain_timeout = \"5s\"\n[api]\nlisten = \"127.0.0.1:1\"\n",
        &[("MILLHAND_WORKER__SLOTS", "7"), ("MILLHAND_ADMIN__LISTEN", "127.0.0.1:2"), ("MILLHAND_URL", "x")],
    )
    .unwrap();
    assert_eq!(loaded.config.worker.slots, 7);
    assert_eq!(loaded.config.worker.drain_timeout.as_secs(), 5);
    assert_eq!(loaded.config.api.listen.port(), 1);
    assert_eq!(loaded.config.admin.listen.port(), 2);
    assert_eq!(loaded.config.retention.jobs.as_secs(), 7 * 86_400);
}

#[test]
fn an_empty_variable_is_absent() {
    let loaded = with("[worker]\nslots = 3\n", &[("MILLHAND_WORKER__SLOTS", ""), ("OPENAI_BASE_URL", "")]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.config.worker.slots, 3);
    assert_eq!(loaded.config.model.base_url, None);
}

#[test]
fn what_others_call_the_model_fills_what_is_absent() {
    let url = ("OPENAI_BASE_URL", "http://other/v1");
    let key = ("OPENAI_API_KEY", "123456");
    let model = with("[model]\nname = \"m\"\n", &[url, key]).unwrap().config.model;
    assert_eq!(model.base_url.as_deref(), Some("http://other/v1"));
    assert_eq!(model.api_key.as_ref().map(Secret::expose), Some("123456"), "a key of digits stays text");
    let own = ("MILLHAND_MODEL__BASE_URL", "http://own/v1");
    let model = with("[model]\nname = \"m\"\n", &[url, own]).unwrap().config.model;
    assert_eq!(model.base_url.as_deref(), Some("http://own/v1"));
}

#[test]
fn a_key_alone_never_switches_to_paid_calls() {
    let model = with("", &[("OPENAI_API_KEY", "sk-1")]).unwrap().config.model;
    assert_eq!((model.base_url, model.name), (None, None));
}

#[test]
fn half_a_model_stops_the_start_and_says_what_to_do() {
    insta::assert_snapshot!(refusal("", &[("OPENAI_BASE_URL", "http://x/v1")]), @"`model.base_url` is set (in the file, as MILLHAND_MODEL__BASE_URL or OPENAI_BASE_URL) but `model.name` is not: set MILLHAND_MODEL__NAME to the model to call, or remove the base URL to answer without a model");
    insta::assert_snapshot!(refusal("[model]\nname = \"m\"\n", &[("OPENAI_API_KEY", "sk-1")]), @"`model.name` is set but `model.base_url` is not: set MILLHAND_MODEL__BASE_URL or OPENAI_BASE_URL, e.g. to https://api.openai.com/v1, or remove the name to answer without a model");
    insta::assert_snapshot!(refusal("[model]\nname = \"m\"\nbase_url = \"localhost:8000\"\n", &[]), @"`model.base_url` is not an address that starts with http:// or https://, e.g. https://api.openai.com/v1");
}

#[test]
fn an_unknown_key_names_itself_its_place_and_the_nearest() {
    insta::assert_snapshot!(refusal("[worker]\nslot = 3\n", &[]), @"unknown key `worker.slot` in FOLDER/millhand.toml: did you mean `worker.slots`?");
    insta::assert_snapshot!(refusal("[workers]\nslots = 3\n", &[]), @"unknown key `workers` in FOLDER/millhand.toml: did you mean `worker`?");
    insta::assert_snapshot!(refusal("", &[("MILLHAND_MODLE__NAME", "m")]), @"unknown key `modle` in the environment variable MILLHAND_MODLE: did you mean `model`?");
    insta::assert_snapshot!(refusal("", &[("MILLHAND_RETENTION__FOREVER", "yes")]), @"unknown key `retention.forever` in the environment variable MILLHAND_RETENTION__FOREVER: known here are jobs, events");
}

#[test]
fn a_bad_value_names_its_key_and_place() {
    insta::assert_snapshot!(refusal("[worker]\nslots = \"many\"\n", &[]), @r#"`worker.slots` in FOLDER/millhand.toml: invalid type: found string "many", expected u32"#);
    insta::assert_snapshot!(refusal("", &[("MILLHAND_RETENTION__JOBS", "soon")]), @r#"`retention.jobs` in the environment variable MILLHAND_RETENTION__JOBS: invalid value string "soon", expected a duration"#);
    insta::assert_snapshot!(refusal("[broker]\nkind = \"rabbit\"\n", &[]), @"`broker.kind` in FOLDER/millhand.toml: `rabbit` is none of embedded, rabbitmq, kafka");
    let name = refusal("[agents.\"a b\"]\n", &[]);
    assert!(name.contains("`agents.a b`") && name.contains("agent name is 1-64"), "{name}");
    let syntax = refusal("[api\n", &[]);
    assert!(syntax.starts_with("FOLDER/millhand.toml is not TOML:") && syntax.contains("line 1"), "{syntax}");
}

#[test]
fn what_comes_later_is_refused_now() {
    insta::assert_snapshot!(refusal("[index]\nkind = \"chroma\"\nurl = \"http://x\"\n", &[]), @r#"`index.kind = "chroma"` comes with a later version"#);
    insta::assert_snapshot!(refusal("[telemetry]\notlp_endpoint = \"localhost:4317\"\n", &[]), @"`telemetry.otlp_endpoint` is no address of a collector: it takes OTLP over HTTP, e.g. at http://localhost:4318");
}

#[test]
fn a_part_on_a_server_and_its_address_go_together() {
    insta::assert_snapshot!(refusal("", &[("MILLHAND_STORE__KIND", "redis")]), @"`store.kind` names a server, but `store.url` is not set: set it or MILLHAND_STORE__URL, e.g. to redis://host:6379");
    insta::assert_snapshot!(refusal("[index]\nurl = \"postgres://x\"\n", &[]), @"`index.url` is set, but this index has no address: remove it, or set `index.kind`");
    let shared =
        "[broker]\nkind = \"kafka\"\nurl = \"a:9092\"\n[store]\nkind = \"redis\"\nurl = \"redis://x\"\n";
    assert!(with(shared, &[]).is_ok());
}

#[test]
fn a_broker_has_an_address_of_its_kind_and_a_name_that_it_takes() {
    let kind = ("MILLHAND_BROKER__KIND", "rabbitmq");
    let url = ("MILLHAND_BROKER__URL", "amqps://me:canary@rabbit/mill");
    let loaded = with("", &[kind, url]).unwrap();
    assert_eq!(loaded.config.broker.name(), "millhand.jobs");
    assert!(!format!("{loaded:?}").contains("canary"));
    let other = with("[broker]\nname = \"two.jobs\"\n", &[kind, url]).unwrap();
    assert_eq!(other.config.broker.name(), "two.jobs");
    insta::assert_snapshot!(refusal("", &[kind]), @"`broker.kind` names a server, but `broker.url` is not set: set it or MILLHAND_BROKER__URL, e.g. to amqp://user:password@host:5672");
    insta::assert_snapshot!(refusal("", &[kind, ("MILLHAND_BROKER__URL", "me:canary@rabbit:5672")]), @"`broker.url` is not an address of RabbitMQ: it starts with amqp://, or amqps:// for TLS, e.g. amqp://user:password@host:5672");
    insta::assert_snapshot!(refusal("", &[kind, url, ("MILLHAND_BROKER__NAME", "a b")]), @"`broker.name` is 1-200 characters of a-z, A-Z, 0-9, `.`, `_` and `-`: choose another");
    insta::assert_snapshot!(refusal("[broker]\nname = \"x\"\n", &[]), @"`broker.name` is set, but this broker has no queues to name: remove it, or set `broker.kind`");
}

#[test]
fn keys_come_from_the_environment_only_and_are_never_shown() {
    insta::assert_snapshot!(refusal("[model]\napi_key = \"sk-1\"\n", &[]), @"`model.api_key` stands in FOLDER/millhand.toml, but keys come from the environment only: remove it there and set MILLHAND_MODEL__API_KEY");
    let variables = [
        ("MILLHAND_MODEL__API_KEY", "sk-canary"),
        ("OPENAI_BASE_URL", "http://x/v1"),
        ("MILLHAND_MODEL__NAME", "m"),
    ];
    let loaded = with("[worker]\nslots = 3\n", &variables).unwrap();
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("sk-canary"), "{shown}");
    let set: Vec<_> = loaded.set.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
    assert_eq!(
        set,
        [
            ("model.api_key", "***"),
            ("model.base_url", "\"http://x/v1\""),
            ("model.name", "\"m\""),
            ("worker.slots", "3")
        ]
    );
    assert_eq!(loaded.set[1].place, "the environment variable OPENAI_BASE_URL");
}

#[test]
fn agents_are_added_to_and_change_the_built_in_ones() {
    let file =
        "[agents.rag]\ninstructions = \"Be brief.\"\n[agents.law]\nkind = \"chat\"\ndescription = \"d\"\n";
    let agents = with(file, &[]).unwrap().config.agents();
    let names: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
    assert_eq!(names, ["rag", "chat", "react", "law"]);
    assert_eq!(agents[0].instructions.as_deref(), Some("Be brief."));
    assert!(!agents[0].description.is_empty());
}

#[test]
fn agents_are_deterministic_when_they_say_so_and_their_answers_are_kept_unless_they_say_not() {
    let model = [("MILLHAND_MODEL__NAME", "m"), ("OPENAI_BASE_URL", "http://x/v1")];
    let file = "[cache]\nttl = \"5m\"\n[agents.rag]\ntemperature = 0\nseed = -7\n[agents.fresh]\ntemperature = 0.0\n\
                cache = false\n[agents.bold]\ntemperature = 1.5\n";
    let config = with(file, &model).unwrap().config;
    let agents = config.agents();
    let rag = &agents[0];
    assert_eq!((rag.sampling.temperature, rag.sampling.seed), (Some(0.0), Some(-7)));
    assert_eq!(config.agents_with_cache(), [AgentName::rag()]);
    assert_eq!(config.cache.ttl.as_secs(), 300);
    let from_environment = ("MILLHAND_AGENTS__CHAT__TEMPERATURE", "0");
    let config = with("", &[model[0], model[1], from_environment]).unwrap().config;
    assert_eq!(config.agents_with_cache(), [AgentName::chat()]);
    let off =
        with(&format!("{file}[agents.chat]\n"), &[model[0], model[1], ("MILLHAND_CACHE__ENABLED", "false")]);
    assert_eq!(off.unwrap().config.agents_with_cache(), []);
    assert_eq!(with("", &model).unwrap().config.agents_with_cache(), [], "by default the model samples");

    insta::assert_snapshot!(refusal("[agents.rag]\ntemperature = 2.1\n", &[]), @"`agents.rag.temperature` is between 0 and 2; leave it out to have the model's own");
    insta::assert_snapshot!(refusal("[agents.rag]\ncache = true\n", &[]), @"`agents.rag.cache` is true, but only answers at temperature 0 are kept: set `agents.rag.temperature = 0`, or remove `cache`");
    insta::assert_snapshot!(refusal("[cache]\nttl = \"0s\"\n", &[]), @r#"`cache.ttl` is between 1 second and 7 days, e.g. "1h"; to make every call set `cache.enabled = false`"#);
    assert!(refusal("[agents.rag]\ntemperature = nan\n", &[]).contains("between 0 and 2"));
}

#[test]
fn tenants_share_by_weight_and_cap_and_refusals_say_what_to_do() {
    let file = "[fairness]\nmax_running = 8\n[tenants.acme]\nweight = 3\n[tenants.small]\nmax_running = 1\nmax_queued = 5\n\
                [api.admission]\nmax_wait_batch = \"10m\"\n";
    let config = with(file, &[("MILLHAND_API__ADMISSION__MAX_WAIT_INTERACTIVE", "5s")]).unwrap().config;
    let share = |name: &str| {
        let share = config.shares().of(&name.parse().unwrap());
        (share.weight, share.max_running, share.max_queued)
    };
    assert_eq!(share("acme"), (3, Some(8), None));
    assert_eq!(share("small"), (1, Some(1), Some(5)));
    assert_eq!(share("another"), (1, Some(8), None));
    let admission = &config.api.admission;
    assert_eq!(admission.max_wait_interactive.map(|wait| wait.as_secs()), Some(5));
    assert_eq!(admission.max_wait_batch.map(|wait| wait.as_secs()), Some(600));

    insta::assert_snapshot!(refusal("[tenants.acme]\nweight = 101\n", &[]), @"`tenants.acme.weight` is between 1 and 100: 1 is the weight of every other tenant");
    insta::assert_snapshot!(refusal("[fairness]\nmax_running = 0\n", &[]), @"`fairness.max_running` is 0, so no job of the tenant could ever run: leave it out to have no limit");
    assert!(refusal("[tenants.acme]\nmax_queued = 0\n", &[]).contains("`tenants.acme.max_queued` is 0"));
    assert!(
        refusal("[api.admission]\nexpected_jobs_per_second = 0\n", &[]).contains("until that is measured")
    );
    assert!(refusal("[api.admission]\nmax_wait_batch = \"0s\"\n", &[]).contains("max_wait_batch` is zero"));
}

#[test]
fn how_often_a_tenant_may_submit_is_its_own_or_that_of_all() {
    let file = "[api.admission]\nsubmits_per_minute = 600\n[tenants.small]\nsubmits_per_minute = 60\n";
    let shares = with(file, &[]).unwrap().config.shares();
    let pace = |tenant: &str| shares.of(&tenant.parse().unwrap()).submits_per_minute;
    assert_eq!((pace("small"), pace("another")), (Some(60), Some(600)));
    insta::assert_snapshot!(refusal("[tenants.small]\nsubmits_per_minute = 0\n", &[]), @"`tenants.small.submits_per_minute` is 0, so nothing could ever be submitted: leave it out to have no limit");
    assert!(
        refusal("[api.admission]\nsubmits_per_minute = 0\n", &[])
            .contains("`api.admission.submits_per_minute` is 0")
    );
}

#[test]
fn a_brownout_has_rising_steps_and_the_wait_that_admission_allows() {
    use millhand_common::brownout::Step;
    let file = "[brownout]\nsteps = [\"fewer_passages\", \"refuse_all\"]\nrefuse_all_at = 1\n\
                [api.admission]\nmax_wait_interactive = \"20s\"\n";
    let brownout = with(file, &[("MILLHAND_BROWNOUT__RISE_AFTER", "2s")]).unwrap().config.brownout();
    assert_eq!(brownout.steps, [Step::FewerPassages, Step::RefuseAll]);
    assert_eq!((brownout.longest_wait().as_secs(), brownout.rise_after.as_secs()), (20, 2));
    let own = with("[brownout]\nsteps = []\nlongest_wait = \"9s\"\n", &[]).unwrap().config.brownout();
    assert_eq!((own.steps.len(), own.longest_wait().as_secs()), (0, 9));
    let default = with("", &[]).unwrap().config.brownout();
    assert_eq!((default.steps.as_slice(), default.longest_wait().as_secs()), (&[Step::Coalesce][..], 60));

    assert!(refusal("[brownout]\nrefuse_batch_at = 0.2\n", &[]).contains("none less than the one before"));
    assert!(refusal("[brownout]\ncoalesce_at = 0.0\n", &[]).contains("leave it out of `brownout.steps`"));
    insta::assert_snapshot!(refusal("[brownout]\nfall_after = \"0s\"\n", &[]), @"`brownout.fall_after` is between 1 second and 1 hour, e.g. \"30s\"");
    assert!(refusal("[brownout]\nmax_output_tokens = 0\n", &[]).contains("max_output_tokens` is 0"));
    assert!(refusal("[brownout]\nsteps = [\"panic\"]\n", &[]).contains("coalesce"));

    let pools =
        "[model]\nbase_url = \"http://a/v1\"\nname = \"m\"\n[routes.smart]\npools = { default = 1 }\n";
    insta::assert_snapshot!(refusal(&format!("{pools}under_load = \"small\"\n"), &[]), @"`routes.smart.under_load` names no other class: `small` is to be one of `[routes]`, and not itself; there is none yet");
    let small = format!("{pools}under_load = \"small\"\n[routes.small]\npools = {{ default = 1 }}\n");
    assert!(with(&small, &[]).is_ok());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let err = load(Some(&PathBuf::from("/nowhere/m.toml")), []).unwrap_err();
    insta::assert_snapshot!(err, @"cannot read the configuration file /nowhere/m.toml");
}

#[test]
fn a_slow_model_is_waited_for_as_long_as_it_is_said() {
    let model = with("[model]\nfirst_token_timeout = \"3m\"\n", &[("MILLHAND_MODEL__IDLE_TIMEOUT", "500ms")]);
    let model = model.unwrap().config.model;
    assert_eq!((model.first_token_timeout.as_secs(), model.idle_timeout.as_millis()), (180, 500));
    assert!(refusal("[model]\nidle_timeout = \"0s\"\n", &[]).contains("model.idle_timeout"));
}

#[test]
fn limits_are_read_from_file_and_environment_and_checked() {
    let file = "[model.limits]\nrequests_per_minute = 60\nmode = \"window\"\n";
    let loaded = with(file, &[("MILLHAND_MODEL__LIMITS__TOKENS_PER_MINUTE", "20000")]).unwrap();
    let policy = loaded.config.model.limits.unwrap().policy();
    assert_eq!(policy.per_minute, [Some(60), None, None, Some(20_000)]);
    assert_eq!((policy.concurrency, policy.burst_seconds), (None, 1));
    insta::assert_snapshot!(refusal("[model.limits]\nconcurrency = 0\n", &[]), @"`model.limits.concurrency` is between 1 and 4294967295; leave it out where the provider has no such limit");
    insta::assert_snapshot!(refusal("[model.limits]\nburst_seconds = 61\n", &[]), @"`model.limits.burst_seconds` is between 1 and 60; leave it out where the provider has no such limit");
    insta::assert_snapshot!(refusal("[model.limits]\ntokens = 1\n", &[]), @"unknown key `model.limits.tokens` in FOLDER/millhand.toml: known here are requests_per_minute, tokens_per_minute, input_tokens_per_minute, output_tokens_per_minute, concurrency, mode, burst_seconds");
}

/// Two pools beside `[model]`.
const POOLS: &str = "[model]\nbase_url = \"http://a/v1\"\nname = \"m\"\n\
    [models.spare]\nbase_url = \"http://b/v1\"\nname = \"m\"\n\
    [models.canary]\nbase_url = \"http://a/v1\"\nname = \"m-2\"\n";

fn refused_with_pools(more: &str) -> String {
    refusal(&format!("{POOLS}{more}"), &[])
}

#[test]
fn pools_and_classes_come_from_file_and_environment_with_keys_of_their_own() {
    let file = format!(
        "{POOLS}[models.spare.limits]\nconcurrency = 4\n[routes.smart]\npools = {{ default = 9, canary = 1 }}\n\
         fallback = [\"spare\"]\non_unavailable = \"extractive\"\n[[routes.smart.rules]]\ntenants = [\"acme\"]\n\
         pools = {{ spare = 1 }}\n[agents.rag]\nmodel = \"smart\"\n"
    );
    let variables =
        [("MILLHAND_MODELS__SPARE__API_KEY", "sk-canary"), ("MILLHAND_ROUTES__SMART__POOLS__CANARY", "5")];
    let loaded = with(&file, &variables).unwrap();
    let config = &loaded.config;
    let pools: Vec<_> = config.pools().map(|(name, _)| name).collect();
    assert_eq!(pools, ["default", "canary", "spare"]);
    let spare = &config.models["spare"];
    assert_eq!(spare.api_key.as_ref().map(Secret::expose), Some("sk-canary"));
    assert_eq!(spare.limits.as_ref().and_then(|limits| limits.concurrency), Some(4));
    assert_eq!((spare.idle_timeout.as_secs(), spare.max_output_tokens), (20, 2048), "as [model] has them");
    assert_eq!(config.routes["smart"].pools["canary"], 5);
    assert_eq!(config.agents()[0].model.as_deref(), Some("smart"));
    assert!(!format!("{loaded:?}").contains("sk-canary"));
}

#[test]
fn what_is_named_and_not_there_stops_the_start() {
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { large = 1 }\n"), @"`routes.smart` names the pool `large`, but there is no `[models.large]`: add it; there are default, canary, spare");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { spare = 1 }\nfallback = [\"x\"]\n"), @"`routes.smart` names the pool `x`, but there is no `[models.x]`: add it; there are default, canary, spare");
    insta::assert_snapshot!(refused_with_pools("[agents.rag]\nmodel = \"smart\"\n"), @"`agents.rag.model` names the class `smart`, but there is no `[routes.smart]`: add it; there is none yet");
    insta::assert_snapshot!(refusal("[models.b]\nbase_url = \"http://b\"\nname = \"m\"\n[routes.x]\npools = { default = 1 }\n", &[]), @"`routes.x` names the pool `default`, which is `[model]`: set its base_url and name");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npool = { spare = 1 }\n"), @"unknown key `routes.smart.pool` in FOLDER/millhand.toml: did you mean `routes.smart.pools`?");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { spare = 1 }\non_unavailable = \"quit\"\n"), @"`routes.smart.on_unavailable` in FOLDER/millhand.toml: `quit` is none of wait, extractive, fail");
}

#[test]
fn pools_and_classes_that_make_no_sense_are_refused() {
    insta::assert_snapshot!(refused_with_pools("[models.\"Big One\"]\n"), @"`models.Big One`: such a name is 1-64 of a-z, 0-9 and single `_`, so that it can be part of MILLHAND_MODELS__NAME__…: choose another");
    insta::assert_snapshot!(refused_with_pools("[models.half]\nname = \"m\"\n"), @"`models.half` needs both `base_url` and `name`: set them, or remove the section");
    insta::assert_snapshot!(refused_with_pools("[models.default]\n"), @"`models.default` is another name of `[model]`: set its keys there");
    insta::assert_snapshot!(refused_with_pools("[models.twin]\nbase_url = \"http://b/v1\"\nname = \"m\"\n"), @"the pools `spare` and `twin` are the same model of the same account, which has one quota: remove one of them and name the other in `[routes]`");
    insta::assert_snapshot!(refused_with_pools("[models.reranker]\nbase_url = \"http://r\"\nname = \"r\"\n"), @"`models.reranker` is called as the model of `[reranker]` is: choose another name");
    insta::assert_snapshot!(refused_with_pools("[embedder.limits]\noutput_tokens_per_minute = 5\n"), @"`embedder.limits.output_tokens_per_minute` is set, but this model writes nothing: leave it out");
    insta::assert_snapshot!(refused_with_pools("[reranker.limits]\nconcurrency = 0\n"), @"`reranker.limits.concurrency` is between 1 and 4294967295; leave it out where the provider has no such limit");
    insta::assert_snapshot!(refused_with_pools("[models.spare.limits]\nconcurrency = 0\n"), @"`models.spare.limits.concurrency` is between 1 and 4294967295; leave it out where the provider has no such limit");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { spare = 0 }\n"), @"`routes.smart.pools` gives no pool any weight: name one at least, e.g. pools = { default = 1 }");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { spare = 2000000 }\n"), @"a weight of `routes.smart.pools` is above 1000000: weights are shares");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { spare = 1 }\n[[routes.smart.rules]]\npools = { canary = 1 }\n"), @"a rule of `routes.smart.rules` names neither tenants nor lanes: say whom it is for, or move its pools to `routes.smart.pools`");
    insta::assert_snapshot!(refused_with_pools("[routes.smart]\npools = { spare = 1 }\non_unavailable = \"extractive\"\n[agents.chat]\nmodel = \"smart\"\n"), @r#"the agent `chat` talks without documents, so its class `smart` cannot answer with quotations: set `routes.smart.on_unavailable` to "wait" or "fail", or give it another class"#);
    insta::assert_snapshot!(refused_with_pools("[models.third]\napi_key = \"sk-1\"\n"), @"`models.third.api_key` stands in FOLDER/millhand.toml, but keys come from the environment only: remove it there and set MILLHAND_MODELS__THIRD__API_KEY");
}

#[test]
fn prices_and_budgets_are_exact_dollars() {
    let file = "[prices.\"gpt-4.1\"]\ninput_per_million = 0.1\noutput_per_million = \"0.000000003\"\n\
                [budgets]\nper_job_usd = 2\nper_tenant_day_usd = 0.3\n[tenants.default]\nbudget_per_day_usd = 5.25\n";
    let config = with(
        file,
        &[
            ("MILLHAND_PRICES__M-1__INPUT_PER_MILLION", "0.15"),
            ("MILLHAND_PRICES__M-1__OUTPUT_PER_MILLION", "1"),
        ],
    )
    .unwrap()
    .config;
    let price = |model| config.prices().of(model).map(|price| (price.input, price.output));
    assert_eq!(price("gpt-4.1"), Some((100_000_000, 3)), "before the built-in one");
    assert_eq!((price("m-1"), price("m-2")), (Some((150_000_000, 1_000_000_000)), None));
    assert!(price("gpt-4o").is_some());
    let limits = config.budgets().unwrap();
    let tenant = |name: &str| limits.per_day(&name.parse().unwrap());
    assert_eq!(limits.per_job, Some(2_000_000_000));
    assert_eq!((tenant("default"), tenant("other")), (Some(5_250_000_000), Some(300_000_000)));
    assert_eq!(with("", &[]).unwrap().config.budgets(), None);
    for wrong in ["-1", "\"many\"", "0.0000000001", "1000001"] {
        let said = refusal(&format!("[budgets]\nper_job_usd = {wrong}\n"), &[]);
        assert!(said.contains("`budgets.per_job_usd`") && said.contains("dollars like 0.15"), "{said}");
    }
    let half = refusal("[prices.m]\ninput_per_million = 1\n", &[]);
    assert!(half.contains("output_per_million"), "{half}");
}
