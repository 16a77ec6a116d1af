//! The CNI plugin: asks the agent of this node, synchronously, while a pod is
//! made or removed, and hands on what the plugins before it made.
//!
//! It holds no credentials and changes nothing itself. When the agent does not
//! answer it decides by two files that it shares with the agent: a list of
//! namespaces that it reads (`away`) and notes that it writes (`notes`).

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    process::ExitCode,
    time::{Duration, Instant},
};

mod away;
mod call;
mod conf;
mod env;
mod error;
mod notes;
mod result;
mod stdin;
mod verbs;

use conf::{Conf, asked_version};
pub use env::Lookup;
use env::{Env, Verb};
pub use error::{CniError, Code};
use result::Version;

/// For standard input, until the configuration says how long all may take.
const STDIN: Duration = Duration::from_secs(10);

const ABOUT: &str = "\
sluice-cni asks the Sluice agent of this node to capture a pod's traffic.
It is a CNI plugin, to be run by a container runtime, last in a chain.
CNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0
";

/// What a run ends with.
#[derive(Debug, Eq, PartialEq)]
pub struct Ending {
    pub stdout: String,
    pub stderr: String,
    pub failed: bool,
}

/// The whole program: standard input and the environment in, standard output out.
pub fn plugin() -> ExitCode {
    let begin = Instant::now();
    error::report_panics();
    let lookup = |name: &str| std::env::var_os(name);
    let ending = run(&lookup, begin, |deadline| {
        stdin::read(io::stdin(), deadline)
    });
    if !ending.stderr.is_empty() {
        let _ = io::stderr().write_all(ending.stderr.as_bytes());
    }
    if !print(&ending.stdout) || ending.failed {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Writes the document, whole. False if nobody can have read it.
fn print(document: &str) -> bool {
    if document.is_empty() {
        return true;
    }
    let mut stdout = io::stdout().lock();
    let line = format!("{document}\n");
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// One call, with this environment, that began then. `stdin` reads standard input
/// until the instant that it is given.
pub fn run(
    lookup: Lookup<'_>,
    begin: Instant,
    stdin: impl FnOnce(Instant) -> Result<Vec<u8>, CniError>,
) -> Ending {
    let verb = Verb::read(lookup);
    if verb == Ok(Verb::About) {
        return Ending {
            stdout: String::new(),
            stderr: ABOUT.to_owned(),
            failed: false,
        };
    }
    // Read first: an error repeats the version that was asked for.
    let stdin = stdin(begin + STDIN);
    let asked = stdin.as_deref().ok().and_then(asked_version);
    let version = asked.as_deref().unwrap_or(Version::NEWEST.as_str());
    let mut stderr = String::new();
    let done = verb.and_then(|verb| match verb {
        Verb::About => Ok(String::new()),
        Verb::Version => Ok(versions(version)),
        verb => {
            let env = Env::read(verb, lookup)?;
            dispatch(verb, &env, &stdin?, begin, &mut stderr)
        }
    });
    let failed = done.is_err();
    Ending {
        stdout: done.unwrap_or_else(|error| error.to_json(version)),
        stderr,
        failed,
    }
}

fn versions(asked: &str) -> String {
    let supported = Version::ALL.map(|version| format!("{:?}", version.as_str()));
    format!(
        r#"{{"cniVersion":"{asked}","supportedVersions":[{}]}}"#,
        supported.join(",")
    )
}

fn dispatch(
    verb: Verb,
    env: &Env,
    stdin: &[u8],
    begin: Instant,
    stderr: &mut String,
) -> Result<String, CniError> {
    let conf = Conf::parse(stdin)?;
    if !env.netns_override && is_our_own(&env.netns) {
        return Err(CniError::new(
            Code::Environment,
            format!(
                "CNI_NETNS {:?} is the network namespace of this plugin itself",
                env.netns
            ),
        )
        .details("set CNI_NETNS_OVERRIDE=1 if that is meant"));
    }
    let deadline = begin + conf.timeout;
    match verb {
        Verb::Add => verbs::add(&conf, env, deadline, stderr),
        Verb::Del => {
            verbs::del(&conf, env, stderr);
            Ok(String::new())
        }
        Verb::Check if conf.version.has_check() => {
            verbs::check(&conf, env, deadline).map(|()| String::new())
        }
        Verb::Status if conf.version.has_status_and_gc() => {
            verbs::status(&conf, env).map(|()| String::new())
        }
        Verb::Gc if conf.version.has_status_and_gc() => {
            verbs::gc(&conf, env, deadline).map(|()| String::new())
        }
        Verb::Check | Verb::Status | Verb::Gc | Verb::About | Verb::Version => {
            Err(not_in(verb, conf.version))
        }
    }
}

fn not_in(verb: Verb, version: Version) -> CniError {
    let verb = format!("{verb:?}").to_uppercase();
    CniError::new(
        Code::Version,
        format!(
            "CNI version {:?} of the network configuration has no {verb}",
            version.as_str()
        ),
    )
    .details("CHECK came with 0.4.0, STATUS and GC came with 1.1.0")
}

/// A path that leads nowhere is not ours; the agent says what is wrong with it.
fn is_our_own(netns: &str) -> bool {
    let identity = |path: &str| {
        fs::metadata(path)
            .map(|found| (found.dev(), found.ino()))
            .ok()
    };
    !netns.is_empty() && identity(netns).is_some_and(|it| Some(it) == identity("/proc/self/ns/net"))
}

#[cfg(test)]
mod tests;
