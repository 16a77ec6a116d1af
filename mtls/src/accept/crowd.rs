//! Who is let go when there are too many of a kind.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Connections of a kind, in order of arrival. Whoever has most of them gives
/// one up first, its oldest: a flood costs the one it comes from.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    members: BTreeMap<u64, (IpAddr, T)>,
    arrived: u64,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            arrived: 0,
        }
    }
}

impl<T> Crowd<T> {
    /// The number of the next to arrive.
    pub(super) fn next(&self) -> u64 {
        self.arrived
    }

    pub(super) fn enter(&mut self, address: SocketAddr, member: T) -> u64 {
        let number = self.arrived;
        self.arrived += 1;
        self.members.insert(number, (origin(address), member));
        number
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.members.remove(&number);
    }

    /// Takes one out, if there are `most` or more.
    pub(super) fn make_room(&mut self, most: usize) -> Option<T> {
        if self.members.len() < most.max(1) {
            return None;
        }
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (origin, _) in self.members.values() {
            *counts.entry(*origin).or_default() += 1;
        }
        let largest = counts.values().copied().max()?;
        let victim = self
            .members
            .iter()
            .find(|(_, (origin, _))| counts.get(origin) == Some(&largest))
            .map(|(number, _)| *number)?;
        self.members.remove(&victim).map(|(_, member)| member)
    }
}

/// Whom a client's cost is charged to: its address, or its network of 64 bits,
/// within which IPv6 addresses cost nothing.
pub fn origin(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> SocketAddr {
        format!("{text}:1").parse().unwrap()
    }

    #[test]
    fn the_oldest_of_the_most_numerous_goes() {
        let mut crowd = Crowd::default();
        crowd.enter(from("10.0.0.1"), "honest");
        for flood in ["f1", "f2", "f3"] {
            crowd.enter(from("10.0.0.9"), flood);
        }
        assert_eq!(crowd.make_room(5), None, "there is room");
        assert_eq!(crowd.make_room(4), Some("f1"));
        assert_eq!(crowd.make_room(3), Some("f2"));
        // One each: the oldest of all.
        assert_eq!(crowd.make_room(2), Some("honest"));
        assert_eq!(crowd.make_room(0), Some("f3"));
        assert_eq!(crowd.make_room(0), None);
    }

    #[test]
    fn who_has_left_is_not_asked_again() {
        let mut crowd = Crowd::default();
        let first = crowd.enter(from("10.0.0.1"), 1);
        crowd.enter(from("10.0.0.1"), 2);
        crowd.leave(first);
        assert_eq!(crowd.make_room(1), Some(2));
    }

    #[test]
    fn a_network_of_addresses_is_one_origin() {
        let same = ["[fd00::1]", "[fd00::ffff:1]"].map(|text| origin(from(text)));
        assert_eq!(same[0], same[1]);
        assert_ne!(origin(from("[fd00:0:0:1::1]")), same[0]);
        assert_eq!(
            origin(from("[::ffff:10.0.0.1]")),
            origin(from("10.0.0.1")),
            "one host on two kinds of socket"
        );
        assert_ne!(origin(from("10.0.0.1")), origin(from("10.0.0.2")));
    }
}
