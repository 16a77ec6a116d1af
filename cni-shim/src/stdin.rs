//! Standard input: bounded in size and in time.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::error::{CniError, Code};

/// A configuration with its `prevResult` is some hundred bytes long.
const LARGEST: usize = 1 << 20;

/// All of `input`, if it ends before `deadline` and is not too large.
pub(crate) fn read(mut input: impl Read + AsFd, deadline: Instant) -> Result<Vec<u8>, CniError> {
    let mut text = Vec::with_capacity(4096);
    let mut buffer = [0; 4096];
    loop {
        if !readable(&input, deadline)? {
            return Err(CniError::new(
                Code::Io,
                "the network configuration on standard input did not end in time",
            ));
        }
        match input.read(&mut buffer) {
            Ok(0) => return Ok(text),
            Ok(read) => text.extend_from_slice(&buffer[..read]),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(failed(&error)),
        }
        if text.len() > LARGEST {
            return Err(CniError::new(
                Code::Decode,
                format!(
                    "the network configuration on standard input is larger than {LARGEST} bytes"
                ),
            ));
        }
    }
}

fn readable(input: &impl AsFd, deadline: Instant) -> Result<bool, CniError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(&errno.into())),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

fn failed(error: &io::Error) -> CniError {
    CniError::new(
        Code::Io,
        format!("cannot read the network configuration from standard input: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::net::UnixStream,
        time::{Duration, Instant},
    };

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn all_is_read() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.write_all(&[b'x'; 10_000]).unwrap();
        drop(ours);
        assert_eq!(read(theirs, soon()).unwrap().len(), 10_000);
    }

    #[test]
    fn an_end_that_never_comes_is_not_waited_for() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"{").unwrap();
        let error = read(theirs, soon()).unwrap_err();
        assert_eq!(error.code, Code::Io);
        assert!(error.msg.contains("in time"), "{error}");
    }

    #[test]
    fn too_much_is_refused() {
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        let error = read(zeros, Instant::now() + Duration::from_secs(60)).unwrap_err();
        assert_eq!(error.code, Code::Decode);
    }

    #[test]
    fn a_directory_cannot_be_read() {
        let folder = std::fs::File::open("/").unwrap();
        assert_eq!(read(folder, soon()).unwrap_err().code, Code::Io);
    }
}
