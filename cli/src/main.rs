//! `millhand`, the one binary: parse, wire, run, exit code. The only place that picks adapters.

mod args;
mod client;
mod config;
mod doctor;
mod folder;
mod keys;
mod provider;
mod server;
mod terminal;

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::{Cli, Command, ConfigCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        // Whoever reads our output has seen enough, as `head` has.
        Err(err) if is_broken_pipe(&err) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(err: &anyhow::Error) -> bool {
    err.downcast_ref::<io::Error>().is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        // Before anything else: it is started for every document.
        Command::ParseDocument => Ok(millhand_worker::ingest::parse_child_main()),
        Command::Up(args) => server::up(args),
        Command::Api(args) => server::api(&args),
        Command::Worker(args) => server::worker(&args),
        Command::Scale(args) => server::scale(&args),
        Command::Scaler(args) => server::scaler(&args),
        Command::Provider(args) => provider::run(*args),
        Command::Config(args) => {
            let ConfigCommand::Check { config, json } = args.command;
            config::report(config.as_deref(), json).map(done)
        }
        Command::Backup(args) => wait_for(folder::backup(args)).map(done),
        Command::Migrate(args) => wait_for(folder::migrate(args)).map(done),
        Command::Keys(args) => wait_for(keys::run(args)).map(done),
        Command::Ingest(args) => wait_for(client::ingest::run(args)),
        Command::Search(args) => wait_for(client::search::run(args)).map(done),
        Command::Ask(args) => wait_for(client::ask::run(args)),
        Command::Jobs(args) => wait_for(client::jobs::run(args)).map(done),
        Command::Workers(args) => wait_for(client::operate::workers(args)).map(done),
        Command::Lanes(args) => wait_for(client::operate::lanes(args)).map(done),
        Command::Top(args) => wait_for(client::top::run(args)).map(done),
        Command::Doctor(args) => wait_for(doctor::run(args)),
        Command::DeadLetters(args) => wait_for(client::dead_letters::run(args)).map(done),
    }
}

/// Runs a client: one thread is enough to wait for a server.
fn wait_for<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    install_crypto();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// Makes TLS usable in this process; more than once does no harm.
fn install_crypto() {
    // An error means that a provider is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_tells_a_newcomer_what_there_is() {
        let text = |path: &[&str]| {
            let mut command = Cli::command();
            command.build();
            let mut found = &mut command;
            for name in path {
                found = found.find_subcommand_mut(name).unwrap();
            }
            // The environment of whoever runs the tests is not part of it.
            found.render_help().to_string()
        };
        insta::assert_snapshot!(text(&[]), @r#"
        Runs chat agents as queued jobs that survive crashes, and answers from your documents

        Usage: millhand [OPTIONS]
               millhand <COMMAND>

        Commands:
          up            Serve everything in one process: HTTP, queue, worker, storage, search
          api           Serve HTTP only, on a shared store and queue
          worker        Work on jobs only, from a shared store and queue
          scale         Run workers on this machine, as many as there is use for
          scaler        Tell KEDA how many workers there should be
          ingest        Add files and folders to a collection, and wait until they can be asked
          search        Find passages
          ask           Ask a question; the answer is printed as it comes, then its sources
          jobs          List, show, follow and cancel jobs
          dead-letters  List, show, replay and drop jobs that failed for good
          workers       List workers, and have one drain
          lanes         List, pause and resume the lanes of the queue
          top           Show what the system does, live
          doctor        Look at every part that is configured: what is wrong, and what to type
          keys          Make, list and revoke the keys that the API asks for
          provider      Serve a model provider in a box: limits, faults and bills without a model
          config        Look at the configuration
          backup        Copy the data folder into a new one, also while a server runs on it
          migrate       Bring the data folder to this version's format
          help          Print this message or the help of the given subcommand(s)

        Options:
              --config <FILE>  Configuration file; otherwise ./millhand.toml if it is there
              --admin <ADDR>   Address for operators: metrics, queues, dead letters [default: 127.0.0.1:8081]; port 0 = any
              --insecure       Serve addresses other than loopback although there are no keys
              --listen <ADDR>  Address for clients [default: 127.0.0.1:8080]; port 0 = any
              --data <DIR>     Data folder, made when it is not there [default: ./millhand-data]
              --slots <N>      Jobs that run at a time [default: 64]
              --no-sample      Do not load the sample collection
          -h, --help           Print help
          -V, --version        Print version

        Without a command: `millhand up`. Start there, then: millhand ask "…"
        "#);
        insta::assert_snapshot!(text(&["ask"]), @"
        Ask a question; the answer is printed as it comes, then its sources

        Usage: millhand ask [OPTIONS] <QUESTION>

        Arguments:
          <QUESTION>  The question, in any language

        Options:
          -t, --collection <NAME>            Collection to answer from, may be repeated; otherwise all of yours
          -a, --agent <NAME>                 Agent to ask [default: rag]
          -c, --conversation <CONVERSATION>  Conversation to go on with
              --url <URL>                    Address of the server [env: MILLHAND_URL] [default: http://127.0.0.1:8080]
              --key <KEY>                    Credential to send, if the server asks for one [env: MILLHAND_KEY]
              --json                         Print JSON, as the server sends it
          -h, --help                         Print help
        ");
        insta::assert_snapshot!(text(&["ingest"]), @"
        Add files and folders to a collection, and wait until they can be asked

        Usage: millhand ingest [OPTIONS] --collection <NAME> <PATH>...

        Arguments:
          <PATH>...  Files, and folders with all that is in them

        Options:
          -t, --collection <NAME>  Collection to add to; made when it is not there
              --url <URL>          Address of the server [env: MILLHAND_URL] [default: http://127.0.0.1:8080]
              --key <KEY>          Credential to send, if the server asks for one [env: MILLHAND_KEY]
              --json               Print JSON, as the server sends it
          -h, --help               Print help
        ");
        insta::assert_snapshot!(text(&["dead-letters"]), @"
        List, show, replay and drop jobs that failed for good

        Usage: millhand dead-letters [OPTIONS]
               millhand dead-letters <COMMAND>

        Commands:
          list    Newest first
          show    One dead letter with its job
          replay  Run it again, as a new job
          drop    Forget it; its job stays, failed
          help    Print this message or the help of the given subcommand(s)

        Options:
          -n, --limit <LIMIT>  Most dead letters to print [default: 20]
              --url <URL>      Admin address of the server [env: MILLHAND_ADMIN_URL] [default: http://127.0.0.1:8081]
              --key <KEY>      Credential to send, if the server asks for one [env: MILLHAND_KEY]
              --json           Print JSON, as the server sends it
          -h, --help           Print help
        ");
    }

    #[test]
    fn no_command_is_up() {
        let cli = Cli::parse_from(["millhand", "--listen", "127.0.0.1:0", "--no-sample"]);
        assert!(cli.command.is_none() && cli.up.no_sample && cli.up.listen.is_some());
        assert!(Cli::try_parse_from(["millhand", "--no-sample", "jobs"]).is_err());
    }
}
