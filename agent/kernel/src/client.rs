//! A small synchronous netlink client, the same for routes, packet rules and
//! socket listings.
//!
//! One call sends any number of requests in one go and reads the answers until
//! each has been answered. What the kernel refuses comes back with its own
//! words (extended acknowledgements) and the index of the request, so the
//! caller can tell which of many objects it was.

use std::{io, os::fd::AsFd, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt},
        time::TimeVal,
    },
};

mod wire;

use wire::{Answer, answers};

/// One datagram of the kernel is at most 32 KiB unless a single object is
/// larger than that.
const BUFFER: usize = 128 * 1024;
/// Room for a transaction that touches every pod, and for its answers.
const SOCKET_BUFFER: usize = 8 * 1024 * 1024;
/// The kernel answers while it handles the request; this is for a kernel that
/// waits for a lock somebody else holds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a listing may change under our hands before we give up.
const INTERRUPTED_LIMIT: usize = 8;

/// Talking to the kernel failed, or the kernel said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("cannot open a netlink socket (protocol {protocol}); CAP_NET_ADMIN is needed")]
    Open { protocol: isize, source: io::Error },
    #[error("cannot send {bytes} bytes of netlink requests")]
    Send { bytes: usize, source: io::Error },
    #[error("cannot receive a netlink answer")]
    Receive(#[source] io::Error),
    #[error("the kernel did not answer a netlink request within {TIMEOUT:?}")]
    TimedOut,
    #[error("a netlink answer of {bytes} bytes does not fit into the buffer")]
    Truncated { bytes: usize },
    #[error("a netlink answer cannot be understood: {what}")]
    Malformed { what: String },
    #[error("the listing changed {INTERRUPTED_LIMIT} times while it was read; try again")]
    Interrupted,
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl ClientError {
    /// The kernel's error number, if the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused(refused) => Some(refused.errno),
            _ => None,
        }
    }
}

/// What the kernel says to a request that it does not carry out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", self.words())]
pub struct Refused {
    /// Which of the requests of the call.
    pub index: usize,
    pub errno: Errno,
    /// The kernel's explanation, if it has one.
    pub message: Option<String>,
}

impl Refused {
    fn words(&self) -> String {
        let (errno, desc) = (self.errno, self.errno.desc());
        match &self.message {
            Some(message) => format!("the kernel refused: {message} ({desc}, {errno:?})"),
            None => format!("the kernel refused: {desc} ({errno:?})"),
        }
    }
}

/// A request without its sequence number.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) kind: u16,
    /// Besides `NLM_F_REQUEST`.
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
}

impl Request {
    /// A request whose payload is encoded already.
    pub(crate) fn raw(kind: u16, flags: u16, payload: Vec<u8>) -> Self {
        Self {
            kind,
            flags,
            payload,
        }
    }

    /// A request that is acknowledged.
    pub(crate) fn of<M: NetlinkSerializable>(message: &M, flags: u16) -> Self {
        Self::unacknowledged(message, flags | NLM_F_ACK)
    }

    /// A request that is answered only if it has an answer or fails: for the
    /// inside of a transaction.
    pub(crate) fn unacknowledged<M: NetlinkSerializable>(message: &M, flags: u16) -> Self {
        let mut payload = vec![0; message.buffer_len()];
        message.serialize(&mut payload);
        Self::raw(message.message_type(), flags, payload)
    }
}

/// One message of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Which of the requests of the call it answers.
    pub(crate) index: usize,
    pub(crate) kind: u16,
    pub(crate) payload: Vec<u8>,
}

impl Reply {
    /// The message as a value.
    pub(crate) fn decode<M: NetlinkDeserializable>(&self) -> Result<M, ClientError> {
        wire::decode(self.kind, &self.payload)
    }
}

/// A netlink socket. It stays in the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Client {
    /// Opens a socket in the calling thread's network namespace;
    /// `protocol` is one of `netlink_sys::protocols`.
    pub(crate) fn open(protocol: isize) -> Result<Self, ClientError> {
        let socket = prepare(protocol).map_err(|source| ClientError::Open { protocol, source })?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Carries out all requests and says which were refused, in their order.
    ///
    /// Requests are independent of each other unless they are an nftables
    /// batch. At least the last one must ask for an acknowledgement.
    pub(crate) fn batch(&mut self, requests: &[Request]) -> Result<Vec<Refused>, ClientError> {
        Ok(self.exchange(requests)?.1)
    }

    /// Carries out one request.
    pub(crate) fn request(&mut self, request: &Request) -> Result<(), ClientError> {
        match self
            .batch(std::slice::from_ref(request))?
            .into_iter()
            .next()
        {
            Some(refused) => Err(refused.into()),
            None => Ok(()),
        }
    }

    /// Asks several questions in one go: the answers, and which were refused
    /// (`ENOENT` for an object that is not there).
    pub(crate) fn query(
        &mut self,
        requests: &[Request],
    ) -> Result<(Vec<Reply>, Vec<Refused>), ClientError> {
        self.exchange(requests)
    }

    /// Everything that a listing has, from one consistent moment.
    pub(crate) fn dump(&mut self, request: &Request) -> Result<Vec<Reply>, ClientError> {
        let mut request = request.clone();
        request.flags = (request.flags | NLM_F_DUMP) & !NLM_F_ACK;
        for _ in 0..INTERRUPTED_LIMIT {
            if let Some(replies) = self.dump_once(&request)? {
                return Ok(replies);
            }
        }
        Err(ClientError::Interrupted)
    }

    /// A listing of messages of one type. Messages that cannot be decoded are
    /// other people's objects of a kind this program does not know: left out.
    pub(crate) fn dump_of<M>(&mut self, message: &M) -> Result<Vec<M>, ClientError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let replies = self.dump(&Request::unacknowledged(message, 0))?;
        Ok(replies
            .iter()
            .filter_map(|reply| {
                reply
                    .decode()
                    .inspect_err(|error| tracing::debug!(%error, "skipped in a listing"))
                    .ok()
            })
            .collect())
    }

    fn dump_once(&mut self, request: &Request) -> Result<Option<Vec<Reply>>, ClientError> {
        self.send(std::slice::from_ref(request))?;
        let (mut replies, mut interrupted) = (Vec::new(), false);
        loop {
            for answer in self.receive(1, true)? {
                interrupted |= answer.interrupted();
                match answer {
                    Answer::Message { reply, .. } => replies.push(reply),
                    Answer::Status {
                        refused: Some(refused),
                        ..
                    } => {
                        self.drain();
                        return Err(refused.into());
                    }
                    Answer::Status { refused: None, .. } => {
                        return Ok((!interrupted).then_some(replies));
                    }
                }
            }
        }
    }

    fn exchange(
        &mut self,
        requests: &[Request],
    ) -> Result<(Vec<Reply>, Vec<Refused>), ClientError> {
        let (mut replies, mut refusals) = (Vec::new(), Vec::new());
        let Some(last) = requests
            .iter()
            .rposition(|request| request.flags & NLM_F_ACK != 0)
        else {
            return Ok((replies, refusals));
        };
        self.send(requests)?;
        let mut answered = false;
        while !answered {
            // A refused transaction may end without the acknowledgement we wait
            // for; whatever the kernel has to say is queued before `send` returns.
            let answers = match self.receive(requests.len(), refusals.is_empty()) {
                Err(ClientError::TimedOut) if !refusals.is_empty() => break,
                answers => answers?,
            };
            for answer in answers {
                match answer {
                    Answer::Message { reply, .. } => replies.push(reply),
                    Answer::Status { index, refused, .. } => {
                        answered |= index == last;
                        refusals.extend(refused);
                    }
                }
            }
        }
        Ok((replies, refusals))
    }

    fn send(&mut self, requests: &[Request]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            wire::encode(
                request,
                request.flags | NLM_F_REQUEST,
                self.sequence,
                &mut bytes,
            );
        }
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|source| ClientError::Send {
                bytes: bytes.len(),
                source,
            })?;
        Ok(())
    }

    /// One datagram's answers to the last `count` requests.
    fn receive(&mut self, count: usize, wait: bool) -> Result<Vec<Answer>, ClientError> {
        let flags = nix::libc::MSG_TRUNC | if wait { 0 } else { nix::libc::MSG_DONTWAIT };
        loop {
            self.buffer.clear();
            let (bytes, sender) = match self.socket.recv_from(&mut self.buffer, flags) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ClientError::TimedOut);
                }
                Err(error) => return Err(ClientError::Receive(error)),
            };
            // Only the kernel has port 0: a process could write to our port too.
            if sender.port_number() != 0 {
                continue;
            }
            if bytes > self.buffer.len() {
                self.drain();
                return Err(ClientError::Truncated { bytes });
            }
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let first = self.sequence.wrapping_sub(count).wrapping_add(1);
            return answers(&self.buffer, first, count);
        }
    }

    /// Throws away what is left of an answer that was given up.
    fn drain(&mut self) {
        while {
            self.buffer.clear();
            self.socket
                .recv(&mut self.buffer, nix::libc::MSG_DONTWAIT)
                .is_ok()
        } {}
    }
}

fn prepare(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.set_cap_ack(true)?;
    socket.set_ext_ack(true)?;
    // Without it the kernel ignores the filters of a listing it does not know.
    socket.set_netlink_get_strict_chk(true)?;
    setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &SOCKET_BUFFER)?;
    setsockopt(&socket.as_fd(), sockopt::SndBufForce, &SOCKET_BUFFER)?;
    let seconds = i64::try_from(TIMEOUT.as_secs()).unwrap_or(i64::MAX);
    setsockopt(
        &socket.as_fd(),
        sockopt::ReceiveTimeout,
        &TimeVal::new(seconds, 0),
    )?;
    Ok(socket)
}
