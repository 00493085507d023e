//! `millhand search`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Client;
use crate::args::SearchArgs;
use crate::terminal::{at, one_line, print, print_json, printable};

/// Characters of a passage that are shown.
const SNIPPET: usize = 240;

pub(crate) async fn run(args: SearchArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.client)?;
    let url = client.url(["v1", "collections", args.collection.as_str(), "search"]);
    let found = client.post(url, &json!({ "query": args.query, "limit": args.limit })).await?;
    if args.client.json {
        return print_json(&found);
    }
    print(&render(&found))
}

fn render(found: &Value) -> String {
    let results = found["results"].as_array().map_or(&[] as &[_], Vec::as_slice);
    if results.is_empty() {
        return "Nothing found.\n".to_owned();
    }
    let mut text = String::new();
    for (number, passage) in (1..).zip(results) {
        let score = passage["score"].as_f64().unwrap_or_default();
        let (document, title) = (printable(at(passage, &["document"])), printable(at(passage, &["title"])));
        let snippet = one_line(at(passage, &["text"]), SNIPPET);
        let _ = writeln!(text, "{number}. {document}  {title}  ({score:.2})\n   {snippet}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_numbered_and_short() {
        let found = json!({"results": [
            {"document": "mill/开放时间.md", "title": "开放时间", "text": "周一\n闭馆。", "score": 1.5},
        ]});
        insta::assert_snapshot!(render(&found), @r"
        1. mill/开放时间.md  开放时间  (1.50)
           周一 闭馆。
        ");
        insta::assert_snapshot!(render(&json!({"results": []})), @"Nothing found.");
    }
}
