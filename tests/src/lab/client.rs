//! Clients inside namespaces, with typed results.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{bulk, netns::Netns};

/// What every client waits at most for each step.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How a call failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallError {
    /// The connection was refused, or reset before it carried anything.
    Refused,
    /// A live connection was reset.
    Reset,
    /// Nothing came back in time.
    TimedOut,
    /// The other side closed without an answer.
    Closed,
    /// No route, or an ICMP error.
    Unreachable,
    Other(String),
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::TimedOut,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// A connection to be made.
#[derive(Clone, Debug)]
pub struct Call {
    pub to: SocketAddr,
    /// Source address; any if none.
    pub from: Option<IpAddr>,
    pub patience: Duration,
}

impl Call {
    pub fn to(ip: impl Into<IpAddr>, port: u16) -> Self {
        Self {
            to: SocketAddr::new(ip.into(), port),
            from: None,
            patience: PATIENCE,
        }
    }

    pub fn from(mut self, source: Option<IpAddr>) -> Self {
        self.from = source;
        self
    }

    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(self.to),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if let Some(source) = self.from {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&self.to.into(), self.patience)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Sends `hello-plain TAG`; the line that comes back.
    pub fn hello(&self, netns: &Netns, tag: &str) -> Result<String, CallError> {
        netns.enter(|| {
            let mut stream = self.connect()?;
            // In one piece, so that it is found in a packet.
            stream.write_all(format!("hello-plain {tag}\n").as_bytes())?;
            one_line(&mut BufReader::new(stream))
        })
    }

    /// Sends `megabytes` and has the receiver compare.
    pub fn put(&self, netns: &Netns, megabytes: u64) -> Result<Duration, CallError> {
        netns.enter(|| {
            let data = bulk::data(megabytes * 1_000_000);
            let start = Instant::now();
            let mut stream = self.connect()?;
            writeln!(stream, "put {}", data.len())?;
            stream.write_all(&data)?;
            let answer = one_line(&mut BufReader::new(stream))?;
            same(&answer, bulk::Sum::of(&data)).map(|()| start.elapsed())
        })
    }

    /// Fetches `megabytes` and compares.
    pub fn get(&self, netns: &Netns, megabytes: u64) -> Result<Duration, CallError> {
        netns.enter(|| {
            let start = Instant::now();
            let mut stream = self.connect()?;
            writeln!(stream, "get {}", megabytes * 1_000_000)?;
            let mut reader = BufReader::new(stream);
            let answer = one_line(&mut reader)?;
            let mut sum = bulk::Sum::default();
            sum.read(&mut reader)?;
            same(&answer, sum).map(|()| start.elapsed())
        })
    }

    /// Opens a connection that stays.
    pub fn hold(&self, netns: &Netns) -> Result<Held, CallError> {
        let stream = netns.enter(|| self.connect())?;
        let mut held = Held {
            reader: BufReader::new(stream),
        };
        held.tick()?;
        Ok(held)
    }

    /// One UDP datagram and its answer.
    pub fn datagram(&self, netns: &Netns) -> Result<String, CallError> {
        netns.enter(|| {
            let any: SocketAddr = if self.to.is_ipv4() {
                ([0, 0, 0, 0], 0).into()
            } else {
                ([0_u16; 8], 0).into()
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(self.patience))?;
            socket.connect(self.to)?;
            socket.send(b"hello-datagram")?;
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

/// A connection that is kept open.
#[derive(Debug)]
pub struct Held {
    reader: BufReader<TcpStream>,
}

impl Held {
    /// Sends a line and waits for the answer.
    pub fn tick(&mut self) -> Result<(), CallError> {
        self.reader
            .get_mut()
            .write_all(b"hold hello-plain held\n")?;
        one_line(&mut self.reader).map(|_| ())
    }

    /// Waits until the other side ends it; how. Sends nothing.
    pub fn end(&mut self, limit: Duration) -> CallError {
        let stream = self.reader.get_ref();
        if let Err(error) = stream.set_read_timeout(Some(limit)) {
            return error.into();
        }
        match self.reader.read(&mut [0; 64]) {
            Ok(0) => CallError::Closed,
            Ok(_) => CallError::Other("unexpected data".into()),
            Err(error) => error.into(),
        }
    }
}

fn one_line(reader: &mut BufReader<TcpStream>) -> Result<String, CallError> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(CallError::Closed);
    }
    Ok(line.trim_end().into())
}

fn same(answer: &str, sum: bulk::Sum) -> Result<(), CallError> {
    if answer == sum.to_string() {
        return Ok(());
    }
    Err(CallError::Other(format!(
        "the bytes differ: the sender's checksum is {answer}, ours {sum}"
    )))
}
