//! How long to wait before the next try.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// Before the first try after a failure, at most...
const FIRST: Duration = Duration::from_millis(500);
/// ...doubling up to this.
const MOST: Duration = Duration::from_secs(10);
/// However the dice fall.
const LEAST: Duration = Duration::from_millis(50);

/// Exponential, with full jitter: replicas that lost the API server together
/// do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The time to wait after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let most = ceiling(self.failures);
        self.failures = self.failures.saturating_add(1);
        spread(most).max(LEAST)
    }

    /// It works.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

fn ceiling(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.min(16)).min(MOST)
}

/// Some time up to `most`, each as likely.
pub(super) fn spread(most: Duration) -> Duration {
    let mut random = [0; 8];
    // Without randomness everyone waits the longest.
    if SystemRandom::new().fill(&mut random).is_err() {
        return most;
    }
    let share = u64::from_be_bytes(random) as f64 / u64::MAX as f64;
    most.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, LEAST, MOST, ceiling};

    #[test]
    fn doubles_up_to_the_most() {
        let ceilings: Vec<_> = [0, 1, 2, 5, 6, 40, u32::MAX].map(ceiling).into();
        let millis = [500, 1000, 2000, 10_000, 10_000, 10_000, 10_000];
        assert_eq!(ceilings, millis.map(Duration::from_millis));
    }

    #[test]
    fn never_at_once_and_never_for_ever() {
        let mut backoff = Backoff::default();
        for _ in 0..200 {
            let wait = backoff.next();
            assert!((LEAST..=MOST).contains(&wait), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(500));
    }
}
