//! What a replica does that has lost touch with its source: things may have
//! happened that it does not know, and another replica may know them. Pure.
//!
//! It stops being ready and sends new streams elsewhere, and ends the streams
//! it has, one by one: agents move to a replica that is in touch. When the
//! source itself is gone nobody is in touch. Agents then hold on to what they
//! were last told, and who still asks after a while is served with it: it is
//! never older than what the agent has seen.

use std::time::{Duration, Instant};

/// A source that is back by then was never gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// From here on, whoever comes has found no better replica.
const NOBODY_ELSE: Duration = Duration::from_secs(60);
/// Streams end within this time, not all at once.
pub const SPREAD: Duration = Duration::from_secs(20);
/// A stream that was opened all the same tries again elsewhere after this.
const TRY_ELSEWHERE: Duration = Duration::from_secs(300);

/// True when what is not known here may well be known elsewhere.
pub fn is_lost(lost: Option<Instant>, now: Instant) -> bool {
    lost.is_some_and(|lost| now.saturating_duration_since(lost) >= PATIENCE)
}

/// True when new streams had better go elsewhere.
pub fn sends_away(lost: Option<Instant>, now: Instant) -> bool {
    is_lost(lost, now) && lost.is_some_and(|lost| now.saturating_duration_since(lost) < NOBODY_ELSE)
}

/// When a stream that was opened then ends; `share` of the spread, 0 to 1, is
/// its own.
pub fn leaves_at(lost: Option<Instant>, opened: Instant, share: f64) -> Option<Instant> {
    let lost = lost?;
    let spread = SPREAD.mul_f64(share.clamp(0.0, 1.0));
    let began = lost + PATIENCE;
    Some(if opened < began {
        began + spread
    } else {
        opened + TRY_ELSEWHERE + spread
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{is_lost, leaves_at, sends_away};

    #[test]
    fn in_touch_nothing_happens() {
        let now = Instant::now();
        assert!(!is_lost(None, now) && !sends_away(None, now));
        assert_eq!(leaves_at(None, now, 0.5), None);
    }

    #[test]
    fn away_for_a_while_and_then_taken_in_again() {
        let lost = Instant::now();
        let table = [
            (0, false, false),
            (9, false, false),
            (10, true, true),
            (59, true, true),
            (60, true, false),
            (6000, true, false),
        ];
        for (seconds, is, sends) in table {
            let now = lost + Duration::from_secs(seconds);
            assert_eq!(is_lost(Some(lost), now), is, "{seconds}");
            assert_eq!(sends_away(Some(lost), now), sends, "{seconds}");
        }
    }

    #[test]
    fn streams_leave_one_by_one() {
        let lost = Instant::now() + Duration::from_secs(1000);
        let leaves = |opened: Instant, share| {
            let at = leaves_at(Some(lost), opened, share).unwrap();
            at.duration_since(lost).as_secs()
        };
        let before = lost - Duration::from_secs(100);
        assert_eq!(leaves(before, 0.0), 10);
        assert_eq!(leaves(before, 0.5), 20);
        assert_eq!(leaves(before, 1.0), 30);
        let after = lost + Duration::from_secs(70);
        assert_eq!(leaves(after, 0.0), 370);
        assert_eq!(leaves(after, f64::NAN.max(1.0)), 390);
    }
}
