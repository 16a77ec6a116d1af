//! The node's certificate, from the controller's issuer.
//!
//! The token that the kubelet keeps fresh says who we are; the key is made
//! here and never leaves the node. What was issued is kept in the state
//! directory, so that an agent that starts while no controller answers can
//! still connect when one does. Nothing waits for this: without a certificate
//! the last good state counts.

mod ask;
mod kept;

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sluice_mtls::{Held, Reload, TlsFiles};
use tokio::{sync::watch, time};
use tracing::{info, warn};

use self::{
    ask::{AskError, ask},
    kept::Kept,
};
use crate::error::chain;

/// The trust bundle is looked at this often, and whether it vouches for us.
const POLL: Duration = Duration::from_secs(10);
/// One that was kept is renewed soon: how old it is cannot be told.
const SOON: Duration = Duration::from_secs(5);
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(30);

/// Where the certificate and its key are kept.
pub fn file(state_dir: &Path) -> PathBuf {
    Kept::new(state_dir).path().to_owned()
}

/// Whom to ask, and as whom.
#[derive(Clone, Debug)]
pub struct Options {
    pub node_name: String,
    /// Replicas of the controller, each `https://host:port`.
    pub controllers: Vec<String>,
    /// The token, read at each request.
    pub token_file: PathBuf,
    /// Certificates that controllers are checked against, re-read when they change.
    pub trust: PathBuf,
    /// Revocation lists for those who call us.
    pub crl: Option<PathBuf>,
    pub trust_domain: String,
    /// Where the certificate is kept; the directory must exist.
    pub state_dir: PathBuf,
}

/// How it stands with the certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Until when there is a good one.
    pub not_after: Option<SystemTime>,
    /// Why the last attempt failed; empty when it did not.
    pub last_error: String,
}

impl Standing {
    /// Without a certificate no controller can be followed.
    pub fn ready(&self, now: SystemTime) -> Result<(), String> {
        if self.not_after.is_some_and(|end| now < end) {
            return Ok(());
        }
        let why = match self.last_error.as_str() {
            "" => "it is being asked for",
            error => error,
        };
        Err(format!(
            "this node has no certificate, so no controller can be followed and the last good \
             state counts: {why}"
        ))
    }
}

/// Keeps the node's certificate fresh as long as anybody watches how it stands.
/// Needs a tokio runtime.
pub fn start(options: Options) -> (Arc<Reload>, watch::Receiver<Standing>) {
    let kept = Kept::new(&options.state_dir);
    let files = TlsFiles {
        cert: kept.path().to_owned(),
        key: kept.path().to_owned(),
        ca: options.trust.clone(),
        crl: options.crl.clone(),
        trust_domain: options.trust_domain.clone(),
    };
    let reload = Reload::start_held(files, POLL);
    let (standing, seen) = watch::channel(Standing::default());
    let asking = Asking {
        turn: usize::try_from(chance() % 64).unwrap_or(0),
        options,
        kept,
        reload: Arc::clone(&reload),
        standing,
        ceiling: BASE,
    };
    let watched = asking.standing.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = watched.closed() => {}
            () = asking.run() => {}
        }
    });
    (reload, seen)
}

struct Asking {
    options: Options,
    kept: Kept,
    reload: Arc<Reload>,
    standing: watch::Sender<Standing>,
    ceiling: Duration,
    /// The controller to ask first.
    turn: usize,
}

impl Asking {
    async fn run(mut self) {
        let mut pause = if self.take_kept() {
            jitter(SOON)
        } else {
            Duration::ZERO
        };
        loop {
            self.wait(pause).await;
            pause = match self.round().await {
                Ok(left) => {
                    self.ceiling = BASE;
                    // A third of the time is left for trying, spread over it.
                    left * 6 / 10 + jitter(left / 10)
                }
                Err(error) => {
                    self.failed(&error);
                    let pause = jitter(self.ceiling);
                    self.ceiling = (self.ceiling * 2).min(CAP);
                    pause
                }
            };
        }
    }

    /// Until it is time, or nobody would believe the certificate any more.
    async fn wait(&self, pause: Duration) {
        let due = Moment::now().after(pause);
        loop {
            time::sleep_until(due.passed.min(time::Instant::now() + POLL)).await;
            let orphaned = self.has_certificate() && !self.reload.is_vouched_for();
            if due.is_over(Moment::now()) || orphaned {
                return;
            }
        }
    }

    /// What a former agent of this node has left, if it is still good.
    fn take_kept(&self) -> bool {
        let Some(contents) = self.kept.load(&self.options) else {
            return false;
        };
        let held = Held {
            pair: Some((contents.clone(), contents)),
            authorities: None,
        };
        if let Err(error) = self.reload.hold(held) {
            let error = chain(&error);
            info!(error, "the certificate that was kept is of no use");
            return false;
        }
        self.stand(self.reload.not_after(), String::new());
        self.reload.is_vouched_for()
    }

    /// Asks each controller once; says how long the certificate is good.
    async fn round(&mut self) -> Result<Duration, AskError> {
        let count = self.options.controllers.len();
        let mut failed = AskError::Nobody;
        for _ in 0..count {
            let endpoint = &self.options.controllers[self.turn % count];
            match self.attempt(endpoint).await {
                Ok(left) => return Ok(left),
                Err(error) => failed = error,
            }
            self.turn = self.turn.wrapping_add(1);
        }
        Err(failed)
    }

    async fn attempt(&self, endpoint: &str) -> Result<Duration, AskError> {
        // With a good one nobody can use up the places for strangers.
        let known = self.has_certificate() && self.reload.is_vouched_for();
        let issued = ask(&self.options, endpoint, known.then_some(&self.reload)).await?;
        let held = Held {
            pair: Some((issued.clone(), issued.clone())),
            authorities: None,
        };
        self.reload.hold(held).map_err(AskError::Unusable)?;
        if let Err(error) = self.kept.store(&issued) {
            let error = chain(&error);
            warn!(error, "the new certificate is in use and not on disk");
        }
        metrics::counter!("sluice_certificate_requests_total", "result" => "issued").increment(1);
        let not_after = self.reload.not_after();
        self.stand(not_after, String::new());
        let left = not_after.and_then(|end| end.duration_since(SystemTime::now()).ok());
        let left = left.unwrap_or_default();
        info!(
            endpoint,
            seconds = left.as_secs(),
            "this node has a new certificate"
        );
        Ok(left)
    }

    fn failed(&self, error: &AskError) {
        metrics::counter!("sluice_certificate_requests_total", "result" => error.label())
            .increment(1);
        let text = chain(error);
        warn!(error = text, "no certificate for this node; trying again");
        self.stand(self.reload.not_after(), text);
    }

    fn stand(&self, not_after: Option<SystemTime>, last_error: String) {
        self.standing.send_replace(Standing {
            not_after,
            last_error,
        });
    }

    fn has_certificate(&self) -> bool {
        let end = self.reload.not_after();
        end.is_some_and(|end| SystemTime::now() < end)
    }
}

/// A moment by both clocks: a certificate ends by the time of day, which may be set.
#[derive(Clone, Copy)]
struct Moment {
    passed: time::Instant,
    of_day: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self {
            passed: time::Instant::now(),
            of_day: SystemTime::now(),
        }
    }

    fn after(self, pause: Duration) -> Self {
        Self {
            passed: self.passed + pause,
            of_day: self.of_day + pause,
        }
    }

    /// By whichever clock comes there first.
    fn is_over(self, now: Self) -> bool {
        now.passed >= self.passed || now.of_day >= self.of_day
    }
}

/// Anything up to the ceiling: full jitter spreads a crowd best.
fn jitter(ceiling: Duration) -> Duration {
    let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(chance() % micros.saturating_add(1))
}

/// A number nobody can guess, as in `control`.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_forward_delays_nothing_and_one_set_back_neither() {
        let second = Duration::from_secs(1);
        let start = Moment::now();
        let due = start.after(2 * second);
        assert!(!due.is_over(start.after(second)));
        assert!(due.is_over(start.after(2 * second)));
        let set = |moment: Moment, of_day| Moment { of_day, ..moment };
        assert!(due.is_over(set(start.after(second), start.of_day + 3600 * second)));
        assert!(due.is_over(set(start.after(2 * second), start.of_day - 3600 * second)));
    }

    #[test]
    fn ready_with_a_certificate_and_else_says_why_not() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut standing = Standing::default();
        insta::assert_snapshot!(standing.ready(now).unwrap_err(), @"this node has no certificate, so no controller can be followed and the last good state counts: it is being asked for");
        standing.last_error = "cannot reach controller:15010".into();
        assert!(
            standing
                .ready(now)
                .unwrap_err()
                .ends_with("controller:15010")
        );
        // A renewal that fails is no reason yet.
        standing.not_after = Some(now + Duration::from_secs(1));
        assert_eq!(standing.ready(now), Ok(()));
        standing.not_after = Some(now);
        assert!(standing.ready(now).is_err());
    }
}
