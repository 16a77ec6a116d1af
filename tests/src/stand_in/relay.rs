//! Moves bytes between the two legs of a connection.
//!
//! Each direction ends on its own (half-close); an error in one ends both, and
//! both peers learn of it by a reset. Nothing is read that cannot be passed on:
//! back-pressure goes through to the sender and nothing is dropped.

use std::{
    future::poll_fn,
    io::{self, Cursor},
};

use futures_util::future::try_join;
use h2::{Reason, RecvStream, SendStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    select,
};

use super::socket::abort;

const CHUNK: usize = 64 << 10;

/// What our side sends in a tunnel.
pub(super) type Chunk = Cursor<Vec<u8>>;

/// Both directions of an HTTP/2 stream.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) send: SendStream<Chunk>,
    pub(super) receive: RecvStream,
}

/// Until both directions have ended, or one failed.
pub(super) async fn plain(mut left: TcpStream, mut right: TcpStream) {
    if copy_bidirectional_with_sizes(&mut left, &mut right, CHUNK, CHUNK)
        .await
        .is_err()
    {
        abort(left);
        abort(right);
    }
}

/// Until both directions have ended (true), or one failed.
pub(super) async fn tunnel(mut tcp: TcpStream, mut tunnel: Tunnel) -> bool {
    let (read, write) = tcp.split();
    let up = into_tunnel(read, &mut tunnel.send);
    let down = from_tunnel(&mut tunnel.receive, write);
    let done = try_join(up, down).await.is_ok();
    if !done {
        tunnel.send.send_reset(Reason::CANCEL);
        abort(tcp);
    }
    done
}

async fn into_tunnel(mut tcp: ReadHalf<'_>, tunnel: &mut SendStream<Chunk>) -> io::Result<()> {
    loop {
        tunnel.reserve_capacity(CHUNK);
        let room = match poll_fn(|context| tunnel.poll_capacity(context)).await {
            Some(room) => room.map_err(io::Error::other)?.clamp(1, CHUNK),
            None => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut chunk = Vec::with_capacity(room);
        let length = select! {
            length = tcp.read_buf(&mut chunk) => length?,
            _ = poll_fn(|context| tunnel.poll_reset(context)) => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        };
        tunnel
            .send_data(Cursor::new(chunk), length == 0)
            .map_err(io::Error::other)?;
        if length == 0 {
            return Ok(());
        }
    }
}

async fn from_tunnel(tunnel: &mut RecvStream, mut tcp: WriteHalf<'_>) -> io::Result<()> {
    while let Some(chunk) = tunnel.data().await {
        let chunk = chunk.map_err(io::Error::other)?;
        tcp.write_all(&chunk).await?;
        let passed = tunnel.flow_control().release_capacity(chunk.len());
        passed.map_err(io::Error::other)?;
    }
    tcp.shutdown().await
}
