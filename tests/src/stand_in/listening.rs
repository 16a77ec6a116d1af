//! Whether a process's namespace listens, seen from outside.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

const LISTEN: &str = "0A";

/// Which of `ports` nothing listens on. All of them until process `pid` is in
/// the namespace.
pub(super) fn missing_ports(pid: u32, netns: &str, ports: &[u16]) -> Vec<u16> {
    let inode = |path: &Path| fs::metadata(path).ok().map(|file| file.ino());
    let own = inode(Path::new(&format!("/proc/{pid}/ns/net")));
    let wanted = inode(&Path::new("/run/netns").join(netns));
    if own.is_none() || own != wanted {
        return ports.to_vec();
    }
    let table = |name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let open = listening(&(table("tcp") + &table("tcp6")));
    ports
        .iter()
        .copied()
        .filter(|port| !open.contains(port))
        .collect()
}

/// Ports in state LISTEN of a table like `/proc/net/tcp`.
fn listening(table: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (_, port) = fields.nth(1)?.rsplit_once(':')?;
        (fields.nth(1)? == LISTEN).then_some(())?;
        u16::from_str_radix(port, 16).ok()
    };
    table.lines().filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_only() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            \x20  0: 00000000000000000000000000000000:3A99 00000000000000000000000000000000:0000 0A 00000000:00000000\n\
            \x20  1: 0100007F:3A9E 0100007F:D431 01 00000000:00000000\n";
        assert_eq!(listening(table), vec![15001]);
        assert_eq!(listening("nonsense\n1: x y 0A"), Vec::<u16>::new());
    }
}
