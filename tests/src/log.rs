//! What is true of every log a reader sees.

use serde_json::Value;

use crate::client::is_terminal;

/// Checks a whole log against its job: dense from 1, one terminal event, the last one, that says what
/// the job says; attempts that only rise; text that folds to `output.text`.
///
/// # Panics
///
/// When something of this is false, with the log.
pub fn check_log(job: &Value, log: &[String]) {
    let events: Vec<Value> = log.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    let told = || format!("\njob {job}\nlog {}", log.join("\n    "));
    assert!(is_terminal(job), "it is not over{}", told());
    let mut attempt = 0;
    let mut text = String::new();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], at as u64 + 1, "a log is dense{}", told());
        assert_eq!(event["job_id"], job["id"]);
        let kind = event["type"].as_str().unwrap_or_default();
        let ends = ["job.completed", "job.incomplete", "job.failed", "job.cancelled", "job.expired"];
        let last = at + 1 == events.len();
        assert_eq!(ends.contains(&kind), last, "one terminal event, the last one{}", told());
        match kind {
            "attempt.started" => {
                let started = event["data"]["attempt"].as_u64().unwrap_or_default();
                assert_eq!(started, attempt + 1, "attempts only rise{}", told());
                attempt = started;
                text.clear();
            }
            "output_text.delta" => text.push_str(event["data"]["text"].as_str().unwrap_or_default()),
            "output_text.reset" => {
                let length = event["data"]["length"].as_u64().unwrap_or_default();
                text.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            }
            _ => {}
        }
        if last {
            let status = job["status"].as_str().unwrap_or_default();
            assert_eq!(kind.strip_prefix("job."), Some(status), "log and record agree{}", told());
            assert_eq!(
                event["data"]["degraded"],
                job["output"]["degraded"],
                "also on what was left out{}",
                told()
            );
        }
    }
    if let Some(output) = job["output"]["text"].as_str() {
        assert_eq!(output, text, "output.text is what a reader of the log has{}", told());
    }
}
