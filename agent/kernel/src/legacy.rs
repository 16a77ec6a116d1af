//! Reverse-path checks written with the old iptables, which nftables does not
//! show.
//!
//! Reading a table through a socket option makes the kernel load and create it;
//! only tables that are in use already are looked at, so nothing is changed.

use std::{fs, io, os::fd::AsFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

mod table;

use table::{Layout, Table};

/// Where a check may be: the kernel allows it nowhere else.
const TABLES: [&str; 2] = ["raw", "mangle"];
/// Larger than any table that one can wait for.
const LARGEST: u32 = 64 * 1024 * 1024;

/// A rule that drops what did not come in by the way that leads back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LegacyCheck {
    /// The command that lists it: `iptables-legacy` or `ip6tables-legacy`.
    pub(crate) command: &'static str,
    pub(crate) table: &'static str,
}

/// Looking through the old tables failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LegacyError {
    #[error("cannot read {path}")]
    Names {
        path: &'static str,
        source: io::Error,
    },
    #[error("cannot read the {command} table {table}")]
    Table {
        command: &'static str,
        table: &'static str,
        source: io::Error,
    },
}

/// The checks that packets arriving on `link` meet in prerouting, in the network
/// namespace of the calling thread.
pub(crate) fn reverse_path_checks(link: &str) -> Result<Vec<LegacyCheck>, LegacyError> {
    let mut checks = Vec::new();
    for layout in [Layout::IPV4, Layout::IPV6] {
        let names = names(layout.names)?;
        for table in TABLES {
            if !names.lines().any(|name| name == table) {
                continue;
            }
            let read = read(layout, table).map_err(|source| LegacyError::Table {
                command: layout.command,
                table,
                source,
            })?;
            if read.checks_reverse_path(link) {
                let command = layout.command;
                checks.push(LegacyCheck { command, table });
            }
        }
    }
    Ok(checks)
}

/// The tables in use, a name a line; none if the kernel does not have iptables.
fn names(path: &'static str) -> Result<String, LegacyError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        names => names.map_err(|source| LegacyError::Names { path, source }),
    }
}

fn read(layout: Layout, name: &str) -> io::Result<Table> {
    let family = match layout.family {
        4 => AddressFamily::Inet,
        _ => AddressFamily::Inet6,
    };
    let socket = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        layout.protocol,
    )?;
    let mut info = vec![0; layout.info_length()];
    layout.name(name, &mut info);
    option(&socket, layout.level, layout.get_info, &mut info)?;
    let (prerouting, size) = layout
        .read_info(&info)
        .filter(|(_, size)| *size <= LARGEST)
        .ok_or(io::ErrorKind::InvalidData)?;

    let header = layout.entries_header();
    let total = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut entries = vec![0; header + total];
    layout.name(name, &mut entries);
    layout.size(size, &mut entries);
    // Fails with EAGAIN if the table changed in between: the next look will do.
    option(&socket, layout.level, layout.get_entries, &mut entries)?;
    let entries = entries.split_off(header);
    Ok(Table::new(layout, entries, prerouting))
}

/// A socket option that is as long as `value`, which may hold a question.
#[expect(unsafe_code, reason = "nix has no socket option of iptables' kind")]
fn option(socket: &impl AsFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let mut length =
        nix::libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` is valid for writes of `length` bytes, the kernel writes
    // no more than that, and any bytes are a valid `[u8]`; the descriptor is
    // borrowed, so it is open.
    let result = unsafe {
        nix::libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(result)?;
    Ok(())
}
