//! Which replicas run: each keeps a Lease of its own.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A replica renews its Lease this often.
pub(super) const RENEW: Duration = Duration::from_secs(5);
/// One that has not renewed it for so long is gone.
pub(super) const EXPIRY: Duration = Duration::from_secs(40);

/// The replicas that are known to run.
#[derive(Debug)]
pub struct Replicas {
    instance: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    in_sync: bool,
    /// When the Lease was last seen to change, by our clock: others' clocks
    /// may be anything.
    renewed: HashMap<String, (String, Instant)>,
}

impl Replicas {
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Lease, and when its holder says it was renewed.
    pub fn see(&self, instance: &str, renewed: &str, now: Instant) {
        let mut seen = self.seen();
        match seen.renewed.get(instance) {
            Some((last, _)) if last == renewed => {}
            _ => {
                let renewed = (renewed.to_owned(), now);
                seen.renewed.insert(instance.to_owned(), renewed);
            }
        }
    }

    /// A Lease was given up.
    pub fn lose(&self, instance: &str) {
        self.seen().renewed.remove(instance);
    }

    /// Every Lease there is has been seen.
    pub fn set_in_sync(&self) {
        self.seen().in_sync = true;
    }

    /// False when the replica is known to be gone. Who cannot see its own
    /// Lease cannot tell.
    pub fn may_run(&self, instance: &str, now: Instant) -> bool {
        let seen = self.seen();
        let fresh = |name: &str| {
            let renewed = seen.renewed.get(name);
            renewed.is_some_and(|(_, at)| now.saturating_duration_since(*at) < EXPIRY)
        };
        !seen.in_sync || !fresh(&self.instance) || fresh(instance)
    }

    /// Leases that expired long ago, to be swept.
    pub(super) fn long_gone(&self, now: Instant) -> Vec<String> {
        let seen = self.seen();
        let gone = seen.renewed.iter().filter(|(name, (_, at))| {
            **name != self.instance && now.saturating_duration_since(*at) > EXPIRY * 8
        });
        gone.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{EXPIRY, RENEW, Replicas};

    #[test]
    fn only_who_sees_itself_judges_others() {
        let replicas = Replicas::new("a");
        let mut now = Instant::now();
        assert!(replicas.may_run("b", now), "nothing is known");
        replicas.set_in_sync();
        assert!(replicas.may_run("b", now), "not even our own Lease");
        replicas.see("a", "1", now);
        assert!(!replicas.may_run("b", now));
        replicas.see("b", "1", now);
        assert!(replicas.may_run("b", now));
        // The watch begins anew: the same Lease is no renewal.
        now += EXPIRY / 2;
        replicas.see("b", "1", now);
        now += EXPIRY / 2;
        replicas.see("a", "2", now);
        assert!(!replicas.may_run("b", now));
        replicas.see("b", "2", now);
        assert!(replicas.may_run("b", now + RENEW));
        replicas.lose("b");
        assert!(!replicas.may_run("b", now));
        assert!(replicas.may_run("b", now + EXPIRY), "cut off ourselves");
    }
}
