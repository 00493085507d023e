//! The child's side of parsing: one process, one document, hard limits.

use std::io::{self, BufRead, BufWriter, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::parse::parse;

pub(super) const MEMORY_BYTES: u64 = 512 << 20;
pub(super) const CPU_SECONDS: u64 = 60;
/// Longest name and content type that are believed.
const MAX_HEADER_BYTES: u64 = 64 << 10;

/// First line of what the child reads; `bytes` of the document follow it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) content_type: Option<String>,
    pub(super) bytes: usize,
}

/// `millhand parse-document`: reads one request from standard input, writes a JSON
/// `Result<CanonicalText, ParseError>` to standard output.
///
/// The process first limits itself to 512 MiB of memory and 60 s of processor time, and ends when its
/// standard input does: whoever started it holds that open for as long as it wants the answer. (The
/// kernel's parent-death signal would come when the thread that started it ends, which is no reason.)
#[must_use]
pub fn parse_child_main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        // The reason goes to the parent alone, which tells what kind of end this was.
        Err(err) => {
            let _ = writeln!(io::stderr(), "{err}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> io::Result<()> {
    limit(Resource::As, MEMORY_BYTES)?;
    limit(Resource::Cpu, CPU_SECONDS)?;
    limit(Resource::Core, 0)?;
    // A panic message may quote the document.
    std::panic::set_hook(Box::new(|_| {}));
    let (request, document) = read_request()?;
    std::thread::Builder::new().stack_size(64 << 10).spawn(end_with_parent)?;
    let result = parse(&request.name, request.content_type.as_deref(), &document);
    drop(document);
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut out, &result)?;
    out.flush()
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })?)
}

fn read_request() -> io::Result<(Request, Vec<u8>)> {
    let mut input = io::stdin().lock();
    let mut header = String::new();
    input.by_ref().take(MAX_HEADER_BYTES).read_line(&mut header)?;
    let request: Request = serde_json::from_str(&header)?;
    let mut document = Vec::new();
    input.by_ref().take(request.bytes as u64).read_to_end(&mut document)?;
    if document.len() < request.bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((request, document))
}

fn end_with_parent() {
    let mut byte = [0];
    // Nothing follows the document, so any return is the end of the input.
    let _ = io::stdin().lock().read(&mut byte);
    std::process::exit(1);
}
