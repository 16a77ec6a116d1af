//! What is to be looked at when: each key once, at one place at a time, the
//! latest state whenever its turn comes. Pure; memory is that of the keys.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::board::Key;

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: HashMap<Key, Entry>,
    due: BTreeSet<(Instant, Key)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due(Instant),
    /// Out; with news since then, it comes back.
    Out {
        again: bool,
    },
}

/// How it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Went {
    Done,
    /// Look again then, or when there is news.
    Later(Duration),
    /// There is more to do at once; what failed before still counts.
    Again,
    /// Try again, each time later, and not sooner because of news.
    Failed,
}

impl Queue {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);

    /// There is news of the key.
    pub(super) fn mark(&mut self, key: Key, now: Instant) {
        match self
            .entries
            .get_mut(&key)
            .map(|entry| (entry.failures, &mut entry.state))
        {
            None => self.put(key, 0, now),
            Some((_, State::Out { again })) => *again = true,
            // The back-off stands.
            Some((1.., State::Due(_))) => {}
            Some((0, State::Due(due))) if *due > now => {
                self.due.remove(&(*due, key.clone()));
                self.put(key, 0, now);
            }
            Some((0, State::Due(_))) => {}
        }
    }

    fn put(&mut self, key: Key, failures: u32, due: Instant) {
        self.due.insert((due, key.clone()));
        let state = State::Due(due);
        self.entries.insert(key, Entry { failures, state });
    }

    /// The next that is due; it is out until it is `done`.
    pub(super) fn next(&mut self, now: Instant) -> Option<Key> {
        let (due, _) = self.due.first()?;
        if *due > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Out { again: false };
        }
        Some(key)
    }

    /// When the next is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// A key that was out is back.
    pub(super) fn done(&mut self, key: Key, went: Went, now: Instant) {
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        let again = matches!(entry.state, State::Out { again: true });
        match went {
            Went::Failed => {
                let failures = entry.failures.saturating_add(1);
                self.put(key, failures, now + backoff(failures));
            }
            Went::Again => self.put(key, entry.failures, now),
            _ if again => self.put(key, 0, now),
            Went::Later(wait) => self.put(key, 0, now + wait),
            Went::Done => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (Queue::FIRST * (1 << doublings)).min(Queue::LONGEST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Key, Queue, Went};

    fn key(uid: &str) -> Key {
        Key::Pod(uid.into())
    }

    #[test]
    fn each_key_is_there_once() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for _ in 0..1000 {
            queue.mark(key("1"), now);
            queue.mark(key("2"), now);
        }
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.next(now), Some(key("1")));
        // News while it is out bring it back; not earlier.
        queue.mark(key("1"), now);
        assert_eq!(queue.next(now), Some(key("2")));
        assert_eq!(queue.next(now), None);
        queue.done(key("1"), Went::Done, now);
        queue.done(key("2"), Went::Done, now);
        assert_eq!(queue.next(now), Some(key("1")));
        queue.done(key("1"), Went::Done, now);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_fails_comes_back_later_and_later() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.mark(key("1"), now);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(queue.next(now), Some(key("1")));
            queue.done(key("1"), Went::Failed, now);
            // News do not hurry it.
            queue.mark(key("1"), now);
            let due = queue.next_due().unwrap();
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 30_000);
        queue.next(now);
        queue.done(key("1"), Went::Later(Duration::from_secs(9)), now);
        // But news hurry what only waits.
        queue.mark(key("1"), now);
        assert_eq!(queue.next(now), Some(key("1")));
    }
}
