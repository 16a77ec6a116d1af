//! What the pods of the cluster tests run.
//!
//! ```text
//! workload serve [--port 8080] [--name NAME]      answers on TCP, HTTP and UDP
//! workload call HOST:PORT [--http|--udp] [--line TEXT] [--patience MS]
//! workload hold HOST:PORT [--for SECONDS] [--line TEXT] [--patience MS]
//! ```
//!
//! `serve` takes its name from the host name, which is the pod's. A TCP
//! connection sends one line: `GET /ready` is answered with 200, or with 503
//! while the file `/tmp/unready` exists; any other `GET` and any other line is
//! answered with `NAME saw PEER`; after `hold` every further line is sent back.
//!
//! `call` prints the answer. `hold` keeps one connection open and sends a
//! numbered line every 100 ms. What they say is `hello-plain` or the line given, so
//! that it is found on a wire. Both end with status 1 and one word first
//! (`refused`, `reset`, `timeout`, `closed`, `unreachable`) when it goes wrong.

mod client;
mod serve;

use std::{env, process::ExitCode, time::Duration};

const USAGE: &str = "usage: workload serve [--port N] [--name NAME]
       workload call HOST:PORT [--http|--udp] [--line TEXT] [--patience MS]
       workload hold HOST:PORT [--for SECONDS] [--line TEXT] [--patience MS]";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let (verb, rest) = args.split_first().ok_or(USAGE)?;
    match verb.as_str() {
        "serve" => {
            let name = option(rest, "--name").map_or_else(host_name, ToOwned::to_owned);
            serve::run(number(rest, "--port", 8080)?, &name)
        }
        "call" | "hold" => {
            let to = rest.first().ok_or(USAGE)?;
            let to = client::resolve(to).map_err(|error| format!("{to}: {error}"))?;
            let patience = Duration::from_millis(number(rest, "--patience", 10_000)?);
            let line = option(rest, "--line").unwrap_or("hello-plain");
            let answer = if verb == "hold" {
                let limit = option(rest, "--for").map(str::parse).transpose();
                let limit = limit.map_err(|error| format!("--for: {error}\n{USAGE}"))?;
                client::hold(to, line, patience, limit.map(Duration::from_secs))
            } else if flag(rest, "--http") {
                client::http(to, patience)
            } else if flag(rest, "--udp") {
                client::udp(to, patience)
            } else {
                client::call(to, line, patience)
            };
            println!("{}", answer.map_err(|error| client::describe(&error))?);
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn host_name() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    text.trim().into()
}

fn flag(args: &[String], name: &str) -> bool {
    args.iter().any(|arg| arg == name)
}

fn option<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).map(String::as_str)
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    args: &[String],
    name: &str,
    default: T,
) -> Result<T, String> {
    option(args, name).map_or(Ok(default), |text| {
        text.parse()
            .map_err(|error| format!("{name} {text}: {error}\n{USAGE}"))
    })
}
