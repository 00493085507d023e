//! What a person sees when the server is up.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::role::Role;
use crate::config::{Config, answers, jobs, search};
use crate::terminal::program;

/// What there is to know about a running server.
pub(super) struct Banner<'a> {
    pub(super) role: Role,
    /// Where clients are served, if they are.
    pub(super) api: Option<SocketAddr>,
    pub(super) admin: SocketAddr,
    pub(super) data: Option<&'a Path>,
    pub(super) connections: usize,
    pub(super) config: &'a Config,
    /// Of a supervisor: fewest and most.
    pub(super) workers: Option<(u32, u32)>,
}

const DEFAULT_PORT: u16 = 8080;

impl Banner<'_> {
    pub(super) fn render(&self) -> String {
        let what = if self.role == Role::Up {
            "millhand".to_owned()
        } else {
            format!("millhand {}", self.role.name())
        };
        let mut text = format!("{what} {} is ready\n\n", env!("CARGO_PKG_VERSION"));
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<8} {value}");
        };
        if let Some(api) = self.api {
            line("API", format!("http://{api}  (its pages: http://{api}/docs)"));
        }
        line("Admin", format!("http://{}", self.admin));
        if let Some(data) = self.data {
            line("Data", data.display().to_string());
        }
        line("Jobs", jobs(self.config));
        if self.role.works() {
            line("Answers", answers(self.config));
        }
        if !matches!(self.role, Role::Scale | Role::Scaler) {
            line("Search", search(self.config));
        }
        let slots = self.config.worker.slots;
        let workers =
            self.workers.map(|(min, max)| format!("{min} to {max} workers of {slots} jobs at a time"));
        let slots = match self.role {
            Role::Api | Role::Scale => None,
            Role::Up | Role::Worker => Some(format!("{slots} jobs at a time")),
            Role::Scaler => Some(format!("workers of {slots} jobs at a time")),
        };
        let connections = self.api.map(|_| format!("{} connections", self.connections));
        line("Limits", workers.into_iter().chain(slots).chain(connections).collect::<Vec<_>>().join(", "));
        text
    }

    /// Questions that `questions` answers, each as a command and as a request.
    pub(super) fn questions(&self, questions: &[&str]) -> String {
        let Some(api) = self.api else { return String::new() };
        let program = program();
        let url = if api.port() == DEFAULT_PORT && api.ip().is_loopback() {
            String::new()
        } else {
            format!(" --url http://{api}")
        };
        let mut text = "\nTry, in another terminal:\n\n".to_owned();
        for question in questions {
            let _ = writeln!(text, "  {program} ask{url} \"{question}\"");
        }
        text.push_str("\nor over HTTP:\n\n");
        for question in questions {
            let _ = writeln!(
                text,
                "  curl -s http://{api}/v1/jobs -H 'Prefer: wait=30' -H 'Content-Type: application/json' -d '{{\"input\": \"{question}\"}}'"
            );
        }
        let _ = writeln!(text, "\nYour own documents: {program} ingest PATH --collection NAME{url}");
        text.push_str("Stop: Ctrl-C; running jobs finish first, and nothing accepted is lost.\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_told_where_things_are_and_what_to_try() {
        let config = Config::default();
        let banner = Banner {
            role: Role::Up,
            api: Some("127.0.0.1:40000".parse().unwrap()),
            admin: "127.0.0.1:8081".parse().unwrap(),
            data: Some(Path::new("/srv/millhand-data")),
            connections: 12_000,
            config: &config,
            workers: None,
        };
        let text = format!("{}{}", banner.render(), banner.questions(&["磨坊几点开门？"]));
        let text = text.replace(&program(), "millhand").replace(env!("CARGO_PKG_VERSION"), "0.0.0");
        insta::assert_snapshot!(text, @r#"
        millhand 0.0.0 is ready

          API      http://127.0.0.1:40000  (its pages: http://127.0.0.1:40000/docs)
          Admin    http://127.0.0.1:8081
          Data     /srv/millhand-data
          Jobs     in the data folder
          Answers  no model: word-for-word quotations from the documents
          Search   by words
          Limits   64 jobs at a time, 12000 connections

        Try, in another terminal:

          millhand ask --url http://127.0.0.1:40000 "磨坊几点开门？"

        or over HTTP:

          curl -s http://127.0.0.1:40000/v1/jobs -H 'Prefer: wait=30' -H 'Content-Type: application/json' -d '{"input": "磨坊几点开门？"}'

        Your own documents: millhand ingest PATH --collection NAME --url http://127.0.0.1:40000
        Stop: Ctrl-C; running jobs finish first, and nothing accepted is lost.
        "#);
    }
}
