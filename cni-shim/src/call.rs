//! The call to the agent.

use std::{
    error::Error,
    future::Future,
    io,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use sluice_proto::agent::v1::{
    AddOutcome, AddPodRequest, Address, Attachment, CheckPodRequest, DelPodRequest, GcRequest,
    Interface, Sandbox, StatusRequest, cni_service_client::CniServiceClient,
};
use tokio::{net::UnixStream, runtime::Builder, time};
use tonic::{
    Code as Grpc, Request, Response, Status,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    conf::{self, Conf},
    env::Env,
    error::{CniError, Code},
    result::PrevResult,
};

/// The agent is told a little less than we wait, so that its reason arrives.
const MARGIN: Duration = Duration::from_millis(250);
/// Woken later than this, a program did not get to run in time.
const LATE: Duration = Duration::from_millis(5);
/// What is waited then, and how often at most.
const MORE: Duration = Duration::from_millis(75);
const STARVED: u32 = 10;

/// How a call ended.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Done,
    /// The agent answered, and refused.
    Refused(CniError),
    /// No agent: no socket, nobody behind it, or no answer in time.
    Away(String),
}

/// ADD: until the pod is captured, or certain not to be enrolled.
pub(crate) fn add(
    conf: &Conf<'_>,
    env: &Env,
    result: &PrevResult<'_>,
    excluded: bool,
    deadline: Instant,
) -> Answer {
    let left = deadline.saturating_duration_since(Instant::now());
    let told = left.saturating_sub(MARGIN).max(left / 2);
    let request = AddPodRequest {
        sandbox: Some(sandbox(conf, env)),
        interfaces: interfaces(result),
        addresses: addresses(result),
        excluded,
        // Nothing would be for ever.
        deadline_ms: u32::try_from(told.as_millis()).unwrap_or(u32::MAX).max(1),
    };
    let added = call(
        conf,
        env,
        deadline,
        async move |mut client, request| client.add_pod(request).await,
        request,
    );
    match added {
        Ok(response) if response.outcome() != AddOutcome::Unspecified => Answer::Done,
        // Better no pod than one that nobody vouches for.
        Ok(_) => Answer::Refused(CniError::new(
            Code::Refused,
            "the Sluice agent answered without saying what it did; agent and plugin do not match",
        )),
        Err(answer) => answer,
    }
}

/// DEL: the sandbox is forgotten.
pub(crate) fn del(conf: &Conf<'_>, env: &Env, deadline: Instant) -> Answer {
    let request = DelPodRequest {
        sandbox: Some(sandbox(conf, env)),
    };
    done(call(
        conf,
        env,
        deadline,
        async move |mut client, request| client.del_pod(request).await,
        request,
    ))
}

/// CHECK: what ADD promised still holds.
pub(crate) fn check(
    conf: &Conf<'_>,
    env: &Env,
    result: &PrevResult<'_>,
    deadline: Instant,
) -> Answer {
    let request = CheckPodRequest {
        sandbox: Some(sandbox(conf, env)),
        interfaces: interfaces(result),
        addresses: addresses(result),
    };
    done(call(
        conf,
        env,
        deadline,
        async move |mut client, request| client.check_pod(request).await,
        request,
    ))
}

/// STATUS: pods can be added.
pub(crate) fn status(conf: &Conf<'_>, env: &Env, deadline: Instant) -> Answer {
    done(call(
        conf,
        env,
        deadline,
        async move |mut client, request| client.status(request).await,
        StatusRequest {},
    ))
}

/// GC: sandboxes of this network that are not among `valid` are forgotten.
pub(crate) fn gc(
    conf: &Conf<'_>,
    env: &Env,
    valid: Vec<conf::Attachment>,
    deadline: Instant,
) -> Answer {
    let message = |attachment: conf::Attachment| Attachment {
        container_id: attachment.container_id,
        ifname: attachment.ifname,
    };
    let request = GcRequest {
        network: conf.network.clone(),
        valid: valid.into_iter().map(message).collect(),
    };
    done(call(
        conf,
        env,
        deadline,
        async move |mut client, request| client.gc(request).await,
        request,
    ))
}

fn done<R>(answered: Result<R, Answer>) -> Answer {
    answered.map_or_else(|answer| answer, |_| Answer::Done)
}

type Client = CniServiceClient<Channel>;

fn call<T, R, F>(
    conf: &Conf<'_>,
    env: &Env,
    deadline: Instant,
    rpc: impl FnOnce(Client, Request<T>) -> F,
    message: T,
) -> Result<R, Answer>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Answer::Refused(CniError::new(
                Code::Internal,
                format!("cannot start the machinery for a call: {error}"),
            ))
        })?;
    let mut request = Request::new(message);
    for (key, value) in &env.trace {
        // What cannot be a header is not passed on.
        if let Ok(value) = AsciiMetadataValue::try_from(value.as_str()) {
            request.metadata_mut().insert(*key, value);
        }
    }
    let socket = &conf.socket;
    if deadline <= Instant::now() {
        return Err(Answer::Away(format!(
            "there was no time left to ask {}: the network configuration took all of \
             timeoutSeconds to arrive",
            socket.display()
        )));
    }
    let answered = runtime.block_on(async {
        let answer = async {
            let stream = connect(socket).await.map_err(|error| {
                Answer::Away(format!(
                    "{} cannot be connected to: {error}",
                    socket.display()
                ))
            })?;
            let client = CniServiceClient::new(channel(stream));
            rpc(client, request)
                .await
                .map_err(|status| judge(socket, &status))
        };
        until(deadline, answer).await
    });
    match answered {
        Some(answer) => answer.map(Response::into_inner),
        None => Err(Answer::Away(format!(
            "{} has not answered in time",
            socket.display()
        ))),
    }
}

/// Waits for an answer until the deadline. When this program itself did not get
/// to run then, the agent most likely did not either: a machine that is short of
/// time is no agent that is away, and both get a little more.
async fn until<T>(deadline: Instant, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let mut end = deadline;
    for _ in 0..STARVED {
        if let Ok(answer) = time::timeout_at(end.into(), &mut answer).await {
            return Some(answer);
        }
        let now = Instant::now();
        if now < end + LATE {
            return None;
        }
        end = now + MORE;
    }
    None
}

/// Waits where the agent's queue is full: that one is busy, not away.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                time::sleep(Duration::from_millis(10)).await;
            }
            connected => return connected,
        }
    }
}

/// The connection that there is, and no second one.
fn channel(stream: UnixStream) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    Endpoint::from_static("http://sluice-agent").connect_with_connector_lazy(service_fn(
        move |_| {
            let stream = stream.take();
            async { stream.ok_or(io::Error::from(io::ErrorKind::NotConnected)) }
        },
    ))
}

/// What a status is to a container runtime: the table in
/// `sluice/agent/v1/cni.proto`.
fn judge(socket: &Path, status: &Status) -> Answer {
    // An agent's status has no source: this one is the connection's end.
    if let Some(mut source) = status.source() {
        while let Some(deeper) = source.source() {
            source = deeper;
        }
        return Answer::Away(format!("{} broke off: {source}", socket.display()));
    }
    let code = match status.code() {
        Grpc::InvalidArgument => Code::Config,
        Grpc::NotFound => Code::UnknownContainer,
        Grpc::Unavailable | Grpc::DeadlineExceeded => Code::TryLater,
        Grpc::FailedPrecondition => Code::CannotCapture,
        Grpc::PermissionDenied => Code::NotRoot,
        _ => Code::Refused,
    };
    let message = match status.message() {
        "" => "the Sluice agent gave no reason",
        message => message,
    };
    let what_now = match code {
        Code::TryLater => "it is tried again by itself",
        _ => "the log of the sluice-agent pod of this node has more",
    };
    Answer::Refused(
        CniError::new(code, message).details(format!("so says the Sluice agent; {what_now}")),
    )
}

fn sandbox(conf: &Conf<'_>, env: &Env) -> Sandbox {
    Sandbox {
        container_id: env.container_id.clone(),
        netns: env.netns.clone(),
        ifname: env.ifname.clone(),
        network: conf.network.clone(),
        pod_uid: env.pod.uid.clone(),
        pod_namespace: env.pod.namespace.clone(),
        pod_name: env.pod.name.clone(),
        standalone: conf.standalone && conf.prev_result.is_none(),
    }
}

fn interfaces(result: &PrevResult<'_>) -> Vec<Interface> {
    let message = |interface: &crate::result::Interface| Interface {
        name: interface.name.clone(),
        mac: interface.mac.clone(),
        sandbox: interface.sandbox.clone(),
    };
    result.interfaces.iter().map(message).collect()
}

fn addresses(result: &PrevResult<'_>) -> Vec<Address> {
    let message = |address: &crate::result::Address| Address {
        cidr: address.cidr.clone(),
        interface: address.interface(),
    };
    result.addresses.iter().map(message).collect()
}

#[cfg(test)]
mod tests;
