//! Sockets with addresses that are not ours.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

const BACKLOG: i32 = 4096;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Listens on `[::]:port` for both families. Transparent, so that the kernel
/// may hand over connections to any address (TPROXY).
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM.nonblocking(), None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_ip_transparent_v4(true)?;
    socket.set_ip_transparent_v6(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Connects to `target`, from `source` if given, which need not be ours.
pub(super) async fn dial(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM.nonblocking(),
        None,
    )?;
    if let Some(source) = source {
        match source {
            IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    let stream = timeout(
        CONNECT_DEADLINE,
        TcpSocket::from_std_stream(socket.into()).connect(target),
    )
    .await
    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"))??;
    prepare(&stream)?;
    Ok(stream)
}

/// No delay, and a peer that is gone is noticed.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Ends the connection with a reset: its peer learns at once.
pub(super) fn abort(stream: TcpStream) {
    // Fails only for a socket that is gone already.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// (source, original destination); IPv4 as IPv4.
pub(super) fn ends(stream: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    Ok((
        canonical(stream.peer_addr()?),
        canonical(stream.local_addr()?),
    ))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
