//! What the shim noted while the agent did not answer: taken over at start, and
//! while the agent runs before the next call is answered, since it may have been
//! too slow for a call and never have ended.
//!
//! [`file`] reads under the shim's lock, [`mod@line`] tells good lines from bad ones,
//! which are set aside. A note leaves the file only once everything in it has
//! been done: whoever dies in between does it all again, which changes nothing.

mod file;
pub mod line;

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::Mutex, task, time::sleep};

use self::line::Line;
use crate::{
    capture::Capture,
    error::chain,
    files::{self, FileError},
    status::{Event, EventKind},
};

/// How long somebody else may hold the lock: the shim does for one write. Before
/// a call is answered there is less time.
const START: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_millis(250);
/// Between two looks while nobody calls.
const POLL: Duration = Duration::from_secs(2);
/// Before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Shims that go on writing meanwhile are read the next time.
const ROUNDS: usize = 16;
/// Of the notes that were set aside, the newest are kept.
const MAX_REJECTED: usize = 256 * 1024;

/// The shim's notes. One at a time takes them over; who comes meanwhile waits.
#[derive(Debug)]
pub struct Notes {
    path: PathBuf,
    capture: Capture,
    trouble: Mutex<Trouble>,
}

/// Why they could not be read the last time.
#[derive(Debug, Default)]
struct Trouble {
    why: String,
    until: Option<Instant>,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Tally {
    taken: u64,
    /// Lines that make no sense, and why the first does not.
    rejected: Vec<u8>,
    rejections: u64,
    why: Option<String>,
    /// There were more than the file may have.
    lost: bool,
}

impl Notes {
    pub fn new(path: PathBuf, capture: Capture) -> Self {
        Self {
            path,
            capture,
            trouble: Mutex::default(),
        }
    }

    /// At start, before the first desired state is set. What cannot be read is
    /// reported, and looked at again later.
    pub async fn take_over(&self) {
        let mut trouble = self.trouble.lock().await;
        self.take(&mut trouble, START).await;
    }

    /// What was noted before this moment is done when this returns: a DEL that
    /// the shim noted never comes after an ADD that it made later.
    pub async fn settle(&self) {
        let mut trouble = self.trouble.lock().await;
        let rests = trouble.until.is_some_and(|until| Instant::now() < until);
        if !rests && file::may_have_notes(&self.path) {
            self.take(&mut trouble, CALL).await;
        }
    }

    /// Looks now and then: nobody may call for a long time.
    pub async fn keep(&self) {
        loop {
            sleep(POLL).await;
            self.settle().await;
        }
    }

    async fn take(&self, trouble: &mut Trouble, patience: Duration) {
        let mut tally = Tally::default();
        let ended = self.replay(&mut tally, patience).await;
        self.report(&tally).await;
        match ended {
            Ok(()) => *trouble = Trouble::default(),
            Err(error) => {
                let why = chain(&error);
                if why != trouble.why {
                    tracing::warn!(
                        error = why,
                        "cannot take over what the shim noted; remove what is in the way. What is \
                         gone is found by looking"
                    );
                }
                let until = Some(Instant::now() + AGAIN);
                *trouble = Trouble { why, until };
            }
        }
    }

    /// Does what the file says until it has been emptied.
    async fn replay(&self, tally: &mut Tally, patience: Duration) -> Result<(), FileError> {
        let mut done = 0;
        for _ in 0..ROUNDS {
            let path = self.path.clone();
            let next = task::spawn_blocking(move || file::next(&path, done, patience))
                .await
                .unwrap_or_else(|error| {
                    Err(FileError::at("read", &self.path)(io::Error::other(error)))
                });
            let Some(chunk) = next? else {
                return Ok(());
            };
            done = chunk.end;
            tally.lost |= chunk.cut;
            for (text, line) in line::parse(&chunk.contents) {
                self.apply(tally, text, line).await;
            }
        }
        Ok(())
    }

    async fn apply(&self, tally: &mut Tally, text: &[u8], line: Line) {
        match line {
            Line::Del {
                container_id,
                ifname,
            } => self.capture.del(container_id, ifname).await,
            Line::Passed(sandbox) => self.capture.noted(*sandbox).await,
            Line::Nothing => {}
            Line::Lost => {
                tally.lost = true;
                return;
            }
            Line::Rejected(why) => {
                tally.rejections += 1;
                tally.why.get_or_insert(why);
                tally.rejected.extend(text);
                tally.rejected.push(b'\n');
                return;
            }
        }
        tally.taken += 1;
    }

    async fn report(&self, tally: &Tally) {
        let count = |result: &'static str, count: u64| {
            metrics::counter!("sluice_cni_notes_total", "result" => result).increment(count);
        };
        count("taken", tally.taken);
        count("rejected", tally.rejections);
        count("lost", tally.lost.into());
        if tally.taken > 0 {
            let count = tally.taken;
            tracing::info!(count, "took over what the shim noted while nobody answered");
        }
        if let Some(why) = &tally.why {
            self.tell(format!(
                "{} notes of the shim make no sense and are set aside in {}; the first: {why}",
                tally.rejections,
                rejected(&self.path).display()
            ));
            let (path, lines) = (rejected(&self.path), tally.rejected.clone());
            let kept = task::spawn_blocking(move || set_aside(&path, &lines)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "notes of the shim that make no sense could not be kept"
                );
            }
        }
        if tally.lost {
            self.tell(format!(
                "the shim had more to note than {} may have; sandboxes that are gone are found \
                 by looking",
                self.path.display()
            ));
        }
    }

    fn tell(&self, message: String) {
        tracing::warn!("{message}");
        self.capture.publish(Event {
            at: SystemTime::now(),
            kind: EventKind::Sandbox,
            pod: None,
            message,
        });
    }
}

/// Where lines go that make no sense.
pub fn rejected(path: &Path) -> PathBuf {
    path.with_extension("rejected")
}

/// Adds to the file; the oldest go when there are too many.
fn set_aside(path: &Path, lines: &[u8]) -> Result<(), FileError> {
    let mut all = match files::read_ordinary(path, MAX_REJECTED as u64) {
        Ok((before, _)) => before,
        // Not ours: it is replaced.
        Err(_) => Vec::new(),
    };
    all.extend(lines);
    let over = all.len().saturating_sub(MAX_REJECTED);
    if over > 0 {
        let line = all[over..].iter().position(|byte| *byte == b'\n');
        all.drain(..line.map_or(all.len(), |end| over + end + 1));
    }
    files::write_atomic(path, &all)
}

#[cfg(test)]
pub(super) use self::line::sealed;

#[cfg(test)]
mod tests;
