//! A proxy that goes nowhere: it listens as a proxy does and ends what reaches
//! it, so that what is measured is the way to it.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use socket2::{Domain, Socket, Type};

use crate::lab::netns::Netns;

/// Where it listens besides the proxy's ports, to be reached without steering.
pub const PLAIN: u16 = 7000;

/// Listens on the proxy's ports and on [`PLAIN`], in a namespace, for as long
/// as the program runs.
#[derive(Debug)]
pub struct Sink;

impl Sink {
    pub fn start(netns: &Netns) -> Self {
        for port in [15001, 15006, 15008, PLAIN] {
            let listener = netns
                .enter(|| listen(port))
                .expect("listen in the proxy's namespace");
            thread::spawn(move || serve(&listener));
        }
        Self
    }
}

/// Keeps the calling thread on one processor, the last: with both ends and the
/// way between them on it, a rate shows what all of that costs. Left alone, the
/// scheduler has the ends share one in some runs and not in others, which is a
/// factor of four.
pub fn pin() {
    let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
    let mut only = CpuSet::new();
    only.set(last)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &only))
        .expect("keep a thread on a processor");
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        // A client that goes away ends its own connection only.
        thread::spawn(move || answer(stream).ok());
    }
}

/// First byte `e`: echoes what follows. Anything else: swallows it, and says
/// at the end how much it was.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    pin();
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 << 10];
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    let mut total: u64 = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return stream.write_all(&total.to_be_bytes());
        }
        total += length as u64;
        if kind == *b"e" {
            stream.write_all(&buffer[..length])?;
        }
    }
}
