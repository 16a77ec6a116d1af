//! Whom to try next, and when. Pure: chance is handed in.

use std::time::Duration;

const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(15);

/// A stream that lived this long owes nothing to the failures before it.
const STABLE: Duration = Duration::from_secs(30);

/// Walks the endpoints, with full jitter between the rounds.
#[derive(Debug)]
pub(super) struct Retry {
    endpoints: Vec<String>,
    position: usize,
    /// Endpoints tried at once since the last pause.
    skipped: usize,
    ceiling: Duration,
}

/// How a connection or stream ended, as far as the next attempt cares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// This replica cannot serve now; another may.
    Unavailable,
    /// Anything else: asking at once, anywhere, would only repeat it.
    Failed,
}

impl Retry {
    /// `chance` picks the first endpoint, so that agents spread over replicas.
    pub(super) fn new(mut endpoints: Vec<String>, chance: u64) -> Self {
        let count = endpoints.len();
        let start = usize::try_from(chance % count.max(1) as u64).unwrap_or(0);
        endpoints.rotate_left(start.min(count));
        Self {
            endpoints,
            position: 0,
            skipped: 0,
            ceiling: BASE,
        }
    }

    /// Whom to try now.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoints.get(self.position).map_or("", String::as_str)
    }

    /// Moves on after an attempt that `lasted` so long, and says how long to
    /// wait. Every endpoint is tried at most once without a pause.
    pub(super) fn after(&mut self, ended: Ended, lasted: Duration, chance: u64) -> Duration {
        if lasted >= STABLE {
            self.ceiling = BASE;
            self.skipped = 0;
        }
        self.position = (self.position + 1) % self.endpoints.len().max(1);
        if ended == Ended::Unavailable && self.skipped + 1 < self.endpoints.len() {
            self.skipped += 1;
            return Duration::ZERO;
        }
        self.skipped = 0;
        let pause = jitter(self.ceiling, chance);
        self.ceiling = (self.ceiling * 2).min(CAP);
        pause
    }
}

/// Anything up to the ceiling: full jitter spreads a crowd best.
fn jitter(ceiling: Duration, chance: u64) -> Duration {
    let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(chance % micros.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn three(chance: u64) -> Retry {
        Retry::new(["a", "b", "c"].map(String::from).to_vec(), chance)
    }

    #[test]
    fn an_unavailable_replica_is_left_at_once_but_not_forever() {
        let mut retry = three(1);
        assert_eq!(retry.endpoint(), "b");
        let moment = Duration::ZERO;
        assert_eq!(retry.after(Ended::Unavailable, moment, 77_777), moment);
        assert_eq!(retry.endpoint(), "c");
        assert_eq!(retry.after(Ended::Unavailable, moment, 77_777), moment);
        assert_eq!(retry.endpoint(), "a");
        assert_eq!(
            retry.after(Ended::Unavailable, moment, 77_777),
            Duration::from_micros(77_777)
        );
    }

    #[test]
    fn a_stable_stream_starts_afresh() {
        let mut retry = three(0);
        for _ in 0..20 {
            retry.after(Ended::Failed, Duration::ZERO, 0);
        }
        assert!(retry.after(Ended::Failed, Duration::ZERO, u64::MAX / 3) > BASE);
        assert!(retry.after(Ended::Failed, STABLE, u64::MAX / 3) <= BASE);
    }

    proptest! {
        #[test]
        fn pauses_are_bounded_and_every_endpoint_has_its_turn(
            chances in proptest::collection::vec(any::<u64>(), 6..40),
            unavailable in any::<bool>(),
        ) {
            let mut retry = three(chances[0]);
            let ended = if unavailable { Ended::Unavailable } else { Ended::Failed };
            let mut seen = std::collections::BTreeSet::new();
            for chance in chances {
                seen.insert(retry.endpoint().to_owned());
                prop_assert!(retry.after(ended, Duration::ZERO, chance) <= CAP);
            }
            prop_assert_eq!(seen.len(), 3);
        }
    }
}
