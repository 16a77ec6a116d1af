//! ADD, DEL and CHECK.

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
pub(crate) fn del(conf: &Conf<'_>, env: &Env, deadline: Instant, stderr: &mut String) {
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

fn prev_result<'a>(conf: &Conf<'a>) -> Result<PrevResult<'a>, CniError> {
    let raw = conf.prev_result.ok_or_else(|| {
        CniError::new(
            Code::Config,
            "prevResult is missing in the network configuration",
        )
        .details("sluice-cni makes no interfaces: it must come after a plugin that does")
    })?;
    PrevResult::parse(raw)
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
    if let Err(error) = notes::append(&conf.notes_file, what, env, result) {
        let file = conf.notes_file.display();
        complain(stderr, &format!("no note for the agent in {file}: {error}"));
    }
}

fn complain(stderr: &mut String, what: &str) {
    stderr.push_str("sluice-cni: ");
    stderr.push_str(what);
    stderr.push('\n');
}
