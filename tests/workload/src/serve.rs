//! The server: a thread per connection.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    thread,
};

/// While this file exists, the server says that it is not ready.
const UNREADY: &str = "/tmp/unready";

pub(crate) fn run(port: u16, name: &str) -> Result<(), String> {
    let listener = either_family(port, TcpListener::bind)
        .map_err(|error| format!("cannot listen on tcp {port}: {error}"))?;
    let socket = either_family(port, UdpSocket::bind)
        .map_err(|error| format!("cannot bind udp {port}: {error}"))?;
    println!("{name} listens on {port}");
    let udp_name = name.to_owned();
    thread::spawn(move || datagrams(&socket, &udp_name));
    for stream in listener.incoming() {
        // A client that went away before it was accepted is its own affair.
        let Ok(stream) = stream else { continue };
        let name = name.to_owned();
        thread::spawn(move || {
            let _ = answer(&stream, &name);
        });
    }
    Ok(())
}

/// Both families on one socket, or IPv4 alone where there is no IPv6.
fn either_family<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    bind((Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| bind((Ipv4Addr::UNSPECIFIED, port).into()))
}

fn answer(stream: &TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(stream);
    let mut out = stream;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.starts_with("hold") {
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            out.write_all(line.as_bytes())?;
        }
    }
    match line.strip_prefix("GET ") {
        Some(path) => {
            skip_headers(&mut reader)?;
            out.write_all(http(path, name, peer).as_bytes())
        }
        None => writeln!(out, "{name} saw {peer}"),
    }
}

fn skip_headers(reader: &mut BufReader<&TcpStream>) -> io::Result<()> {
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    Ok(())
}

fn http(path: &str, name: &str, peer: IpAddr) -> String {
    let unready = path.starts_with("/ready") && Path::new(UNREADY).exists();
    let status = if unready {
        "503 Service Unavailable"
    } else {
        "200 OK"
    };
    let body = format!("{name} saw {peer}\n");
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    loop {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let answer = format!("{name} saw {}", peer.ip().to_canonical());
            // As every datagram, it may be lost.
            let _ = socket.send_to(answer.as_bytes(), peer);
        }
    }
}
