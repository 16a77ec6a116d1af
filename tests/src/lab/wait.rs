//! Waiting, always with an end.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Ends a wait that is in vain. No promise of the product: a busy machine is not
/// late by this much.
pub const LONG: Duration = Duration::from_secs(60);

/// Looks come at once, and more seldom the longer it takes: some cost a lot.
fn pause(begin: Instant) -> Duration {
    let (least, most) = (Duration::from_millis(20), Duration::from_millis(250));
    (begin.elapsed() / 10).clamp(least, most)
}

/// Looks until it is so, for at most `limit`. Whether it was.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if so() {
            return true;
        }
        if begin.elapsed() >= limit {
            return false;
        }
        thread::sleep(pause(begin));
    }
}

/// Looks until there is a value. Panics with the last reason after `limit`.
pub fn value<T>(what: &str, limit: Duration, look: impl FnMut() -> Result<T, String>) -> T {
    value_or(what, limit, look, String::new)
}

/// The same; `more` is asked once, for the panic.
pub fn value_or<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
    more: impl FnOnce() -> String,
) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(reason) if begin.elapsed() >= limit => {
                panic!("waited {limit:?} for {what}; last: {reason}\n{}", more())
            }
            Err(_) => thread::sleep(pause(begin)),
        }
    }
}
