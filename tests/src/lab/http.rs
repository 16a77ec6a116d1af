//! Reading what our programs serve in the clear.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use super::{netns::Netns, wait};

/// The whole answer, status line and headers included.
pub fn get(netns: &Netns, port: u16, path: &str) -> io::Result<String> {
    netns.enter(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(wait::LONG))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

/// The body of what is at an address. An error when it is not a 200.
pub fn body(netns: &Netns, at: SocketAddr, path: &str) -> io::Result<String> {
    netns.enter(|| {
        let mut stream = TcpStream::connect_timeout(&at, wait::LONG)?;
        stream.set_read_timeout(Some(wait::LONG))?;
        // In one piece, which a later version's answer need not be.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        if head.split(' ').nth(1) == Some("200") {
            return Ok(body.to_owned());
        }
        Err(io::Error::other(text))
    })
}
