//! The fields of a submit, read by hand where that gives a better message.

use std::time::{Duration, SystemTime};

use millhand_common::model::{CollectionName, Filter, Message, OneOrMany, Role, Timestamp};
use serde_json::Value;

use super::{DEFAULT_DEADLINE_SECONDS, collection_not_found};
use crate::error::ApiError;
use crate::json;

const MAX_DEADLINE_SECONDS: u64 = 86_400;
/// How far ahead a job may be scheduled.
const MAX_SCHEDULE: Duration = Duration::from_secs(366 * 86_400);
const MAX_COLLECTIONS: usize = 32;

pub(super) fn messages(
    input: Value,
    most: usize,
    known_conversation: bool,
) -> Result<Vec<Message>, ApiError> {
    let messages: Vec<Message> = match input {
        Value::String(content) => vec![Message { role: Role::User, content }],
        input @ Value::Array(_) => json::typed(input)?,
        _ => {
            return Err(ApiError::invalid(
                "`input` is a text, or a list of messages with `role` and `content`.",
            ));
        }
    };
    let Some(last) = messages.last() else { return Err(ApiError::invalid("`input` holds no message.")) };
    if most < messages.len() {
        return Err(ApiError::invalid(format!("`input` holds more than {most} messages.")));
    }
    if messages.iter().any(|message| is_blank(&message.content)) {
        return Err(ApiError::invalid("`input` is blank."));
    }
    if last.role != Role::User {
        return Err(ApiError::invalid("The last message of `input` must be the user's."));
    }
    if known_conversation && messages.len() != 1 {
        return Err(ApiError::invalid("With `conversation_id`, `input` is one new message of the user."));
    }
    Ok(messages)
}

/// Nothing a person could read: white space, control and zero-width characters only.
pub(crate) fn is_blank(text: &str) -> bool {
    let invisible = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}')
    };
    text.chars().all(invisible)
}

pub(super) fn deadline(seconds: Option<u64>) -> Result<Duration, ApiError> {
    match seconds.unwrap_or(DEFAULT_DEADLINE_SECONDS) {
        seconds @ 1..=MAX_DEADLINE_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(ApiError::invalid(format!("`deadline_seconds` is 1-{MAX_DEADLINE_SECONDS}."))),
    }
}

pub(crate) fn filter(value: Value) -> Result<Filter, ApiError> {
    serde_json::from_value(value).map_err(|error| {
        let rule = "a filter names `name`, `source` or `metadata.KEY` and for each a text, a number, a truth \
                    value or a list of these";
        // An untagged enum only says that nothing matched.
        let reason =
            if error.to_string().contains("untagged") { String::new() } else { format!(" ({error})") };
        ApiError::invalid(format!("`filter` is not one: {rule}{reason}."))
    })
}

pub(super) fn collections(value: Value) -> Result<OneOrMany<CollectionName>, ApiError> {
    let one = |value: Value| match value {
        Value::String(name) if is_blank(&name) => Err(ApiError::invalid("`collection` is blank.")),
        // What cannot be a name is not the name of a collection.
        Value::String(name) => CollectionName::try_from(name).map_err(|_| collection_not_found()),
        _ => Err(ApiError::invalid("`collection` is a name or a list of names.")),
    };
    match value {
        Value::Array(names) if names.is_empty() || MAX_COLLECTIONS < names.len() => {
            Err(ApiError::invalid(format!("`collection` lists 1-{MAX_COLLECTIONS} names.")))
        }
        Value::Array(names) => names.into_iter().map(one).collect::<Result<_, _>>().map(OneOrMany::Many),
        value => one(value).map(OneOrMany::One),
    }
}

/// An RFC 3339 moment with any offset.
pub(super) fn moment(text: &str) -> Result<Timestamp, ApiError> {
    let moment = parse_moment(text).ok_or_else(|| {
        ApiError::invalid(
            "`not_before` is a moment like `2027-01-31T08:00:00Z` or `2027-01-31T08:00:00+01:00`.",
        )
    })?;
    let latest = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + MAX_SCHEDULE;
    if latest.as_millis() < u128::from(moment.as_millis()) {
        return Err(ApiError::invalid("`not_before` is more than 366 days ahead."));
    }
    Ok(moment)
}

fn parse_moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = Timestamp::try_from(text.to_owned()) {
        return Some(moment);
    }
    let split = text.len().checked_sub(6)?;
    let (local, offset) = (text.get(..split)?, text.get(split..)?);
    let (sign, clock) = (offset.get(..1)?, offset.get(1..)?);
    let (hours, minutes) = clock.split_once(':')?;
    let number = |digits: &str, most: u64| {
        let valid = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        valid.then(|| digits.parse::<u64>().ok()).flatten().filter(|number| *number <= most)
    };
    let away = Duration::from_secs(number(hours, 23)? * 3600 + number(minutes, 59)? * 60);
    let local = Timestamp::try_from(format!("{local}Z")).ok()?;
    match sign {
        "+" => Some(local - away),
        "-" => Some(local + away),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_moment_may_have_any_offset() {
        let utc = parse_moment("2026-11-24T18:55:00Z").unwrap();
        assert_eq!(parse_moment("2026-11-24T19:55:00+01:00"), Some(utc));
        assert_eq!(parse_moment("2026-11-24T13:25:00-05:30"), Some(utc));
        for bad in [
            "",
            "tomorrow",
            "2026-11-24",
            "2026-11-24T18:55:00+1:00",
            "2026-11-24T18:55:00+24:00",
            "二〇二六",
        ] {
            assert_eq!(parse_moment(bad), None, "{bad}");
        }
        assert_eq!(moment("9999-12-31T23:59:59Z").unwrap_err().status, 422);
    }

    #[test]
    fn input_is_a_text_or_messages_that_end_with_the_user() {
        let check = |input: Value| messages(input, 3, false).map(|messages| messages.len());
        assert_eq!(check(json!("它什么时候出版？")).unwrap(), 1);
        let dialogue = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"}]);
        assert_eq!(check(dialogue.clone()).unwrap(), 3);
        assert!(messages(dialogue, 3, true).is_err());
        for bad in [
            json!(""),
            json!(" \u{3000}\n\u{200b}"),
            json!([]),
            json!(7),
            json!(null),
            json!([{"role": "system", "content": "obey"}]),
            json!([{"role": "assistant", "content": "last"}]),
            json!([{"role": "user", "content": "a", "name": "x"}]),
            json!([{"role": "user", "content": 1}]),
            json!(vec![json!({"role": "user", "content": "a"}); 4]),
        ] {
            assert_eq!(check(bad.clone()).unwrap_err().status, 422, "{bad}");
        }
    }

    #[test]
    fn filters_and_collections_are_checked() {
        assert!(filter(json!({"name": "a", "metadata.year": [2024, "甲", true]})).is_ok());
        for bad in [json!({"title": "a"}), json!({"name": {"gt": 1}}), json!({"metadata.": 1}), json!("a")] {
            assert_eq!(filter(bad).unwrap_err().status, 422);
        }
        assert!(collections(json!(["手册", "b"])).is_ok());
        assert_eq!(collections(json!("../etc")).unwrap_err().status, 404);
        for bad in [json!([]), json!(""), json!(1), json!([1]), json!(vec!["c"; 33])] {
            assert_eq!(collections(bad).unwrap_err().status, 422);
        }
    }
}
