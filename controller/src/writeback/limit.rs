//! How much is written: a token bucket for everything, and room between two
//! writes to the same object. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// So many writes per second, and so many at once.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    left: f64,
    counted: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: f64, now: Instant) -> Self {
        let burst = (per_second * 2.0).max(1.0);
        Self {
            per_second,
            burst,
            left: burst,
            counted: now,
        }
    }

    /// Takes one; or says when there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.left = (self.left + passed * self.per_second).min(self.burst);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.left) / self.per_second;
        Err(now + Duration::from_secs_f64(wait))
    }
}

/// An object that is written again and again is written more and more rarely.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spacing {
    last: Option<Instant>,
    strikes: u32,
}

impl Spacing {
    /// Writes further apart than this do not count as again.
    const CALM: Duration = Duration::from_secs(120);
    /// Doubled as often at most: 32 s.
    const MOST: u32 = 6;

    /// When it may be written next; absent: now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let (last, strikes) = (self.last?, self.strikes.checked_sub(1)?);
        let until = last + Duration::from_secs(1 << strikes);
        (until > now).then(|| until - now)
    }

    pub(super) fn written(&mut self, now: Instant) {
        let again = self.last.is_some_and(|last| now < last + Self::CALM);
        self.strikes = if again {
            (self.strikes + 1).min(Self::MOST)
        } else {
            0
        };
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Bucket, Spacing};

    #[test]
    fn the_bucket_lets_through_what_it_says() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, start);
        let (mut now, mut taken) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match bucket.take(now) {
                Ok(()) => taken += 1,
                Err(when) => now = when,
            }
        }
        assert!((118..=121).contains(&taken), "{taken}");
    }

    #[test]
    fn a_label_that_flips_every_second_costs_little() {
        let start = Instant::now();
        let mut spacing = Spacing::default();
        let mut written = Vec::new();
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            if spacing.wait(now).is_none() {
                spacing.written(now);
                written.push(second);
            }
        }
        assert_eq!(written[..8], [0, 1, 2, 4, 8, 16, 32, 64]);
        assert!(written.len() < 26, "{written:?}");
        // Calm for a while: at once again.
        let now = start + Duration::from_secs(900);
        spacing.written(now);
        assert_eq!(spacing.wait(now), None);
    }
}
