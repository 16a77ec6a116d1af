//! ADD, DEL, CHECK, STATUS and GC.

use std::time::{Duration, Instant};

use crate::{
    away::{self, Decision, is_excluded},
    call::{self, Answer},
    conf::Conf,
    env::Env,
    error::{CniError, Code},
    notes::{self, What},
    result::PrevResult,
};

/// An excluded pod is only noted by the agent, so nothing waits for it.
const EXCLUDED: Duration = Duration::from_millis(500);
/// A DEL that the agent does not answer is noted instead, so it need not wait
/// for as long as an ADD.
const DEL: Duration = Duration::from_secs(5);
/// STATUS is to be over within 100 ms, the start of this program included.
const STATUS: Duration = Duration::from_millis(75);

/// The result to hand on, once the pod may start.
pub(crate) fn add(
    conf: &Conf<'_>,
    env: &Env,
    deadline: Instant,
    stderr: &mut String,
) -> Result<String, CniError> {
    let result = prev_result(conf)?;
    let document = result.render(conf.version)?.into_owned();
    let excluded = is_excluded(conf, &env.pod);
    let deadline = if excluded {
        deadline.min(Instant::now() + EXCLUDED)
    } else {
        deadline
    };
    match call::add(conf, env, &result, excluded, deadline) {
        Answer::Done => {}
        // It may be the agent's own pod, or the proxy's: nothing may stop it.
        Answer::Refused(error) if excluded => complain(stderr, &error.msg),
        Answer::Refused(error) => return Err(error),
        Answer::Away(why) => match decide(conf, env, &why) {
            Decision::Pass => complain(stderr, &why),
            Decision::PassAndNote => {
                complain(stderr, &why);
                note(conf, env, What::Passed, Some(&result), stderr);
            }
            Decision::Fail(error) => return Err(error),
        },
    }
    Ok(document)
}

/// Succeeds whatever the agent says: a pod that cannot be removed helps nobody,
/// and the agent finds out by itself or from the note.
pub(crate) fn del(conf: &Conf<'_>, env: &Env, stderr: &mut String) {
    let deadline = Instant::now() + DEL.min(conf.timeout);
    let why = match call::del(conf, env, deadline) {
        Answer::Done => return,
        Answer::Refused(error) => error.msg,
        Answer::Away(why) => why,
    };
    complain(stderr, &why);
    // What there was to remove is in `prevResult`, if it is given and sound.
    let result = conf.prev_result.and_then(|raw| PrevResult::parse(raw).ok());
    note(conf, env, What::Del, result.as_ref(), stderr);
}

/// Whether what ADD promised still holds.
pub(crate) fn check(conf: &Conf<'_>, env: &Env, deadline: Instant) -> Result<(), CniError> {
    let result = prev_result(conf)?;
    if is_excluded(conf, &env.pod) {
        return Ok(());
    }
    match call::check(conf, env, &result, deadline) {
        Answer::Done => Ok(()),
        Answer::Refused(error) => Err(error),
        Answer::Away(why) => match decide(conf, env, &why) {
            Decision::Pass | Decision::PassAndNote => Ok(()),
            Decision::Fail(error) => Err(error),
        },
    }
}

/// Whether pods can be added. An agent that does not answer at once cannot
/// promise it, whatever namespaces pass without it.
pub(crate) fn status(conf: &Conf<'_>, env: &Env) -> Result<(), CniError> {
    match call::status(conf, env, Instant::now() + STATUS) {
        Answer::Done => Ok(()),
        Answer::Refused(error) if error.code == Code::NotRoot => Err(error),
        Answer::Refused(error) => Err(CniError {
            code: Code::NotAvailable,
            ..error
        }),
        Answer::Away(why) => Err(CniError::new(
            Code::NotAvailable,
            "the Sluice agent of this node does not answer, so pods of the mesh cannot start here",
        )
        .details(format!("{why}; {}", away::SEE_TO))),
    }
}

/// Has the agent forget what the runtime does not know any more. Nothing is
/// noted for an agent that is away: the list would be old when it is back.
pub(crate) fn gc(conf: &Conf<'_>, env: &Env, deadline: Instant) -> Result<(), CniError> {
    let valid = conf.valid_attachments()?;
    match call::gc(conf, env, valid, deadline) {
        Answer::Done => Ok(()),
        Answer::Refused(error) => Err(error),
        Answer::Away(why) => Err(CniError::new(
            Code::TryLater,
            format!(
                "nothing of network {:?} is collected: the Sluice agent of this node does not \
                 answer",
                conf.network
            ),
        )
        .details(format!("{why}; {}", away::SEE_TO))),
    }
}

fn prev_result<'a>(conf: &Conf<'a>) -> Result<PrevResult<'a>, CniError> {
    match conf.prev_result {
        Some(raw) => PrevResult::parse(raw),
        None if conf.standalone => Ok(PrevResult::nothing()),
        None => Err(CniError::new(
            Code::Config,
            "prevResult is missing in the network configuration",
        )
        .details(
            "sluice-cni makes no interfaces: it must come after a plugin that does, or say \
             \"standalone\": true where Multus calls it",
        )),
    }
}

fn decide(conf: &Conf<'_>, env: &Env, why: &str) -> Decision {
    away::decide(conf, &env.pod, why, |namespace| {
        away::look_up(&conf.namespaces_file, namespace)
    })
}

fn note(
    conf: &Conf<'_>,
    env: &Env,
    what: What,
    result: Option<&PrevResult<'_>>,
    stderr: &mut String,
) {
    if let Err(error) = notes::append(&conf.notes_file, &conf.network, what, env, result) {
        let file = conf.notes_file.display();
        complain(stderr, &format!("no note for the agent in {file}: {error}"));
    }
}

fn complain(stderr: &mut String, what: &str) {
    stderr.push_str("sluice-cni: ");
    stderr.push_str(what);
    stderr.push('\n');
}
