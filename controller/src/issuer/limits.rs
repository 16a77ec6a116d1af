//! How often may be asked: by one address, by strangers altogether, and by
//! those who have a certificate. Pure: the time is handed in.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use sluice_mtls::accept::origin;

/// An agent asks once per start and once per lifetime.
const ADDRESS: Rate = Rate {
    burst: 20.0,
    per_second: 0.5,
};
/// A cluster that starts: what signing and asking the API server may cost.
const STRANGERS: Rate = Rate {
    burst: 300.0,
    per_second: 50.0,
};
/// Renewals come over a connection with the old certificate, so that strangers
/// cannot use up what they need.
const KNOWN: Rate = Rate {
    burst: 300.0,
    per_second: 50.0,
};
/// Addresses that are remembered; more are only counted together.
const ADDRESSES: usize = 8192;

#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: f64,
    per_second: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, at: Instant) -> Self {
        Self {
            left: rate.burst,
            at,
        }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * rate.per_second).min(rate.burst);
        self.at = now;
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

/// Who has asked how often.
#[derive(Debug)]
pub(super) struct Limits {
    addresses: HashMap<IpAddr, Bucket>,
    others: Bucket,
    strangers: Bucket,
    known: Bucket,
}

/// Why not now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum TooMany {
    #[error("too many requests from this address; try again later, and less often")]
    Address,
    #[error("too many requests altogether; try again later")]
    Altogether,
}

impl Limits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            addresses: HashMap::new(),
            others: Bucket::full(ADDRESS, now),
            strangers: Bucket::full(STRANGERS, now),
            known: Bucket::full(KNOWN, now),
        }
    }

    /// Counts a request. One that is refused for its address costs the others
    /// nothing.
    pub(super) fn take(
        &mut self,
        from: SocketAddr,
        has_certificate: bool,
        now: Instant,
    ) -> Result<(), TooMany> {
        if !self.address(origin(from), now).take(ADDRESS, now) {
            return Err(TooMany::Address);
        }
        let (bucket, rate) = if has_certificate {
            (&mut self.known, KNOWN)
        } else {
            (&mut self.strangers, STRANGERS)
        };
        if bucket.take(rate, now) {
            Ok(())
        } else {
            Err(TooMany::Altogether)
        }
    }

    fn address(&mut self, origin: IpAddr, now: Instant) -> &mut Bucket {
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&origin) {
            // Who has a full bucket again need not be remembered.
            self.addresses.retain(|_, bucket| {
                bucket.refill(ADDRESS, now);
                bucket.left < ADDRESS.burst
            });
            if self.addresses.len() >= ADDRESSES {
                return &mut self.others;
            }
        }
        let fresh = || Bucket::full(ADDRESS, now);
        self.addresses.entry(origin).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(last: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from_bits(0x0a00_0000 + last), 1))
    }

    fn count(limits: &mut Limits, who: SocketAddr, known: bool, now: Instant) -> usize {
        (0..1000)
            .take_while(|_| limits.take(who, known, now).is_ok())
            .count()
    }

    #[test]
    fn one_address_has_its_share_and_costs_nobody_else() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        assert_eq!(count(&mut limits, from(1), false, start), 20);
        assert_eq!(limits.take(from(1), true, start), Err(TooMany::Address));
        assert_eq!(count(&mut limits, from(2), false, start), 20);
        let later = start + Duration::from_secs(10);
        assert_eq!(count(&mut limits, from(1), false, later), 5);
        let much_later = start + Duration::from_secs(10_000);
        assert_eq!(count(&mut limits, from(1), false, much_later), 20);
    }

    #[test]
    fn strangers_cannot_use_up_what_renewals_need() {
        let now = Instant::now();
        let mut limits = Limits::new(now);
        let taken: usize = (0..100)
            .map(|last| count(&mut limits, from(last), false, now))
            .sum();
        assert_eq!(taken, 300);
        assert_eq!(limits.take(from(500), false, now), Err(TooMany::Altogether));
        assert_eq!(limits.take(from(501), true, now), Ok(()));
    }

    #[test]
    fn addresses_are_not_remembered_without_end() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        for last in 0..20_000 {
            let _ = limits.take(from(last), false, start);
        }
        assert_eq!(limits.addresses.len(), ADDRESSES);
        let later = start + Duration::from_secs(100);
        assert_eq!(limits.take(from(30_000), false, later), Ok(()));
        assert_eq!(limits.addresses.len(), 1, "the others are forgotten");
    }
}
