//! Waiting, always with an end.

use std::{
    thread,
    time::{Duration, Instant},
};

const STEP: Duration = Duration::from_millis(20);

/// Looks until it is so, for at most `limit`. Whether it was.
pub fn until(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if so() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(STEP);
    }
}

/// Looks until there is a value. Panics with the last reason after `limit`.
pub fn value<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= end => {
                panic!("waited {limit:?} for {what}; last: {reason}")
            }
            Err(_) => thread::sleep(STEP),
        }
    }
}
