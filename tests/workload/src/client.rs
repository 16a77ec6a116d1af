//! The clients.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    thread,
    time::{Duration, Instant},
};

/// How often `hold` sends a line.
const BEAT: Duration = Duration::from_millis(100);

/// The first address of `HOST:PORT`.
pub(crate) fn resolve(text: &str) -> io::Result<SocketAddr> {
    let first = text.to_socket_addrs()?.next();
    first.ok_or_else(|| io::Error::other("the name has no address"))
}

/// One line there and one back.
pub(crate) fn call(to: SocketAddr, line: &str, patience: Duration) -> io::Result<String> {
    let mut stream = connect(to, patience)?;
    // In one piece, so that it is found in a packet.
    stream.write_all(format!("{line}\n").as_bytes())?;
    one_line(&mut BufReader::new(stream))
}

/// `GET /`; the body of a 200.
pub(crate) fn http(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = connect(to, patience)?;
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(body.trim_end().into());
    }
    let status = head.lines().next().unwrap_or_default();
    Err(io::Error::other(status.to_owned()))
}

/// One datagram there and one back.
pub(crate) fn udp(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let any: SocketAddr = if to.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(to)?;
    socket.send(b"hello-datagram")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Numbered lines over one connection, each sent back, until one is not or
/// `limit` is over. How many there were.
pub(crate) fn hold(
    to: SocketAddr,
    line: &str,
    patience: Duration,
    limit: Option<Duration>,
) -> io::Result<String> {
    let start = Instant::now();
    let mut stream = connect(to, patience)?;
    stream.write_all(b"hold\n")?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut number = 0_u64;
    while limit.is_none_or(|limit| start.elapsed() < limit) {
        let sent = format!("{line} {number}");
        stream.write_all(format!("{sent}\n").as_bytes())?;
        let answer = one_line(&mut reader)?;
        if answer != sent {
            return Err(io::Error::other(format!("sent {number}, got {answer:?}")));
        }
        println!("{number}");
        number += 1;
        thread::sleep(BEAT);
    }
    Ok(format!("held {number}"))
}

/// One word for what a person or a test asks first, then the detail.
pub(crate) fn describe(error: &io::Error) -> String {
    let word = match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timeout",
        io::ErrorKind::UnexpectedEof => "closed",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        _ => "error",
    };
    format!("{word}: {error}")
}

fn connect(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn one_line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().into())
}
