//! How much an agent may say: one that floods is read more slowly, and the
//! rest waits where it is, at the agent.

use std::time::{Duration, Instant};

/// Units that may come at once, and per second. A report is one unit, and one
/// more for every so many pods.
const BURST: f64 = 400.0;
const PER_SECOND: f64 = 100.0;
const PODS_PER_UNIT: f64 = 50.0;

#[derive(Debug)]
pub(super) struct Intake {
    left: f64,
    counted: Instant,
    closed_until: Option<Instant>,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            counted: now,
            closed_until: None,
        }
    }

    /// A report has come.
    pub(super) fn report(&mut self, pods: usize, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        self.left -= 1.0 + pods as f64 / PODS_PER_UNIT;
        if self.left < 0.0 {
            self.closed_until = Some(now + Duration::from_secs_f64(-self.left / PER_SECOND));
        }
    }

    /// Nothing is read until then.
    pub(super) fn closed_until(&self) -> Option<Instant> {
        self.closed_until
    }

    pub(super) fn open(&mut self, now: Instant) {
        self.closed_until = self.closed_until.filter(|until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Intake;

    #[test]
    fn a_flood_is_read_slowly() {
        let mut now = Instant::now();
        let start = now;
        let mut intake = Intake::new(now);
        let mut taken = 0;
        while now < start + Duration::from_secs(10) {
            match intake.closed_until() {
                Some(until) => {
                    now = until;
                    intake.open(now);
                }
                None => {
                    intake.report(0, now);
                    taken += 1;
                }
            }
        }
        assert!((1350..=1450).contains(&taken), "{taken}");
    }

    #[test]
    fn a_restart_of_a_full_node_is_no_flood() {
        let now = Instant::now();
        let mut intake = Intake::new(now);
        intake.report(500, now);
        for _ in 0..300 {
            intake.report(1, now);
        }
        assert_eq!(intake.closed_until(), None);
    }
}
