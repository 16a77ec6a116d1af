//! What was found out about tokens a moment ago. Pure: the time is handed in.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::admit::Refusal;

/// As the API server itself does.
const GOOD: Duration = Duration::from_secs(10);
/// A pod that is gone does not come back, but a review can be too early.
const BAD: Duration = Duration::from_secs(5);
const MOST: usize = 4096;

/// The node of a token, or why it opens nothing.
pub(super) type Found = Result<String, Refusal>;

/// By the hash of the token: nothing here can be used as one.
#[derive(Debug, Default)]
pub(super) struct Cache {
    found: HashMap<Key, (Instant, Found)>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(token: &str) -> Self {
        let mut key = [0; 32];
        for (to, from) in key
            .iter_mut()
            .zip(digest(&SHA256, token.as_bytes()).as_ref())
        {
            *to = *from;
        }
        Self(key)
    }
}

impl Cache {
    pub(super) fn get(&self, key: Key, now: Instant) -> Option<Found> {
        let (until, found) = self.found.get(&key)?;
        (now < *until).then(|| found.clone())
    }

    pub(super) fn put(&mut self, key: Key, found: Found, now: Instant) {
        if self.found.len() >= MOST {
            self.found.retain(|_, (until, _)| now < *until);
        }
        // Still full: then it is asked again, which is limited elsewhere.
        if self.found.len() < MOST {
            let time = if found.is_ok() { GOOD } else { BAD };
            self.found.insert(key, (now + time, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_are_remembered_for_a_while() {
        let start = Instant::now();
        let mut cache = Cache::default();
        let (good, bad) = (Key::of("good"), Key::of("bad"));
        cache.put(good, Ok("a".into()), start);
        cache.put(bad, Err(Refusal::Unbound), start);
        let soon = start + Duration::from_secs(4);
        assert_eq!(cache.get(good, soon), Some(Ok("a".into())));
        assert_eq!(cache.get(bad, soon), Some(Err(Refusal::Unbound)));
        assert_eq!(cache.get(Key::of("other"), soon), None);
        assert_eq!(cache.get(bad, start + BAD), None);
        assert_eq!(cache.get(good, start + GOOD), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let start = Instant::now();
        let mut cache = Cache::default();
        for number in 0..10_000 {
            cache.put(Key::of(&number.to_string()), Err(Refusal::Unbound), start);
        }
        assert_eq!(cache.found.len(), MOST);
        let later = start + BAD;
        cache.put(Key::of("new"), Ok("a".into()), later);
        assert_eq!(cache.found.len(), 1);
    }
}
