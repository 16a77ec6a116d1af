//! How often somebody else's changes are undone: at once, unless he does it
//! again and again. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// So many repairs within this time are made at once.
const BURST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// After that, one in this time.
const PACE: Duration = Duration::from_secs(10);

/// The repairs of the last minute.
#[derive(Debug, Default)]
pub(super) struct Limit {
    repairs: VecDeque<Instant>,
}

impl Limit {
    /// Whether a repair may be made now, or how long it has to wait.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), Duration> {
        self.forget(now);
        let since = self.repairs.back().map(|last| now.duration_since(*last));
        match since {
            Some(since) if self.repairs.len() >= BURST && since < PACE => Err(PACE - since),
            _ => Ok(()),
        }
    }

    /// One was made.
    pub(super) fn made(&mut self, now: Instant) {
        self.repairs.push_back(now);
    }

    /// How many were made within the last minute, if that is too many.
    pub(super) fn too_many(&mut self, now: Instant) -> Option<usize> {
        self.forget(now);
        (self.repairs.len() >= BURST).then_some(self.repairs.len())
    }

    fn forget(&mut self, now: Instant) {
        let old = |at: &&mut Instant| now.duration_since(**at) >= WINDOW;
        while self.repairs.front_mut().as_ref().is_some_and(old) {
            self.repairs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_slowed_down_and_ends_with_the_other_side() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut limit = Limit::default();
        for _ in 0..BURST {
            assert_eq!(limit.ask(at(0)), Ok(()));
            limit.made(at(0));
        }
        assert_eq!(limit.ask(at(1)), Err(Duration::from_secs(9)));
        assert_eq!(limit.too_many(at(1)), Some(BURST));
        assert_eq!(limit.ask(at(10)), Ok(()));
        limit.made(at(10));
        assert_eq!(limit.ask(at(11)), Err(Duration::from_secs(9)));
        // A minute later all but the last are forgotten.
        assert_eq!(limit.too_many(at(61)), None);
        assert_eq!(limit.ask(at(61)), Ok(()));
    }
}
