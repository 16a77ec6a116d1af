//! Small servers inside namespaces, as threads of the test.
//!
//! A TCP connection sends one line first: `put N` (N bytes follow, answered
//! with their checksum), `get N` (answered with checksum and bytes), `hold`
//! (every further line is answered with `tick`), anything else is answered
//! with `NAME saw PEER`.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket::{Shutdown, shutdown};
use socket2::{Domain, Protocol, Socket, Type};

use super::{bulk, netns::Netns};

const IDLE: Duration = Duration::from_secs(60);

/// A server that listens on IPv4 and IPv6. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    stopping: Arc<AtomicBool>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the TCP server `name` in `netns` on `port`.
    pub fn start(netns: &Netns, name: &str, port: u16) -> Self {
        let listener = netns
            .enter(|| listen(port))
            .unwrap_or_else(|error| panic!("{name}: cannot listen on {port}: {error}"));
        let stopping = Arc::new(AtomicBool::new(false));
        let accepting = listener.try_clone().expect("duplicate a listener");
        let (name, stop) = (name.to_owned(), Arc::clone(&stopping));
        // Connections are accepted and answered on threads that are inside too.
        let thread = netns.spawn(move || accept(&accepting, &name, &stop));
        Self {
            stopping,
            listener,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes accept().
        let _ = shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.listener.as_fd()),
            Shutdown::Both,
        );
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, name: &str, stopping: &AtomicBool) {
    while !stopping.load(Ordering::SeqCst) {
        let Ok((stream, peer)) = listener.accept() else {
            continue;
        };
        let name = name.to_owned();
        thread::spawn(move || {
            // A client that goes away early is the client's affair.
            let _ = answer(&stream, peer.ip().to_canonical(), &name);
        });
    }
}

fn answer(stream: &TcpStream, peer: IpAddr, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    match (words.next(), words.next().and_then(|n| n.parse().ok())) {
        (Some("put"), Some(length)) => {
            let mut sum = bulk::Sum::default();
            sum.read(&mut reader.take(length))?;
            writeln!(out, "{sum}")
        }
        (Some("get"), Some(length)) => {
            let data = bulk::data(length);
            writeln!(out, "{}", bulk::Sum::of(&data))?;
            out.write_all(&data)
        }
        (Some("hold"), _) => {
            while !line.is_empty() {
                out.write_all(b"tick\n")?;
                line.clear();
                reader.read_line(&mut line)?;
            }
            Ok(())
        }
        _ => out.write_all(format!("{name} saw {peer}\n").as_bytes()),
    }
}

/// A UDP server that answers every datagram with `NAME saw PEER`.
#[derive(Debug)]
pub struct UdpServer {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    pub fn start(netns: &Netns, name: &str, port: u16) -> Self {
        let socket = netns
            .enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))
            .unwrap_or_else(|error| panic!("{name}: cannot bind udp {port}: {error}"));
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("set a timeout");
        let stopping = Arc::new(AtomicBool::new(false));
        let (name, stop) = (name.to_owned(), Arc::clone(&stopping));
        let thread = netns.spawn(move || {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::SeqCst) {
                if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let reply = format!("{name} saw {}", peer.ip().to_canonical());
                    let _ = socket.send_to(reply.as_bytes(), peer);
                }
            }
        });
        Self {
            stopping,
            thread: Some(thread),
        }
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
