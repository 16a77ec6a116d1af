//! Bytes in bulk, and a checksum that notices loss, change and reordering.

use std::{
    fmt,
    io::{self, Read},
};

/// `length` bytes that do not repeat visibly; the same every time.
pub fn data(length: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(length).expect("fits in memory"));
    bytes
}

/// FNV-1a of all bytes, and how many there were.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sum {
    hash: u64,
    length: u64,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            length: 0,
        }
    }
}

impl Sum {
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(bytes);
        sum
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.length += bytes.len() as u64;
    }

    /// Reads to the end.
    pub fn read(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                length => self.add(&buffer[..length]),
            }
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}", self.hash, self.length)
    }
}
