//! The stream from the controller: who is to be captured comes in, the truth
//! goes out.
//!
//! [`assemble`] and [`decode`] make desired states of messages, [`store`] and
//! `keeper` keep the last good one on disk, `report` and `answers` decide what
//! to say, `session` runs one stream and `retry` says when the next one begins.
//! Generated types stop here.
//!
//! Nothing here waits for the kernel, and the kernel never waits for this.

mod answers;
pub mod assemble;
pub mod decode;
pub mod encode;
mod handover;
mod keeper;
mod link;
mod report;
pub mod resolve;
mod retry;
mod session;
pub mod store;

use std::{
    error::Error,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sluice_mtls::{Reload, connect};
use tokio::{sync::watch, task::JoinHandle, time};
use tonic::transport::Channel;

pub use self::link::Link;
use self::{
    assemble::Assembler,
    handover::Handover,
    keeper::Keeper,
    link::Board,
    resolve::Resolver,
    retry::{Ended, Retry},
    session::{Lasting, Session},
    store::Store,
};
use crate::{capture::Capture, error::chain};

/// When a certificate expires, if there is one.
type Expiry = Option<SystemTime>;

/// How long the engine is given to say what it steers, before the first hello.
const ENGINE: Duration = Duration::from_secs(1);

/// Whom to follow.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node, as in its certificate.
    pub node_name: String,
    /// Replicas of the controller, each `https://host:port`.
    pub controllers: Vec<String>,
    /// Where the last good state is kept; the directory must exist.
    pub state_dir: PathBuf,
}

/// The stream's task; it ends when this is dropped.
#[derive(Debug)]
pub struct Control {
    link: watch::Receiver<Link>,
    channel: watch::Receiver<Option<Channel>>,
    task: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Control {
    /// Hands the last good state on disk to the engine, if there is one, and
    /// follows the controller from then on. Needs a tokio runtime.
    pub fn start(options: Options, reload: Arc<Reload>, capture: Capture) -> Self {
        let store = Store::new(&options.state_dir);
        let held = store.load();
        if let Some(desired) = &held {
            capture.set_desired(desired.clone());
        }
        let (board, link) = Board::new(capture.clone());
        let (channel_out, channel) = watch::channel(None);
        let following = Following {
            lasting: Lasting {
                node_name: options.node_name,
                capture,
                assembler: Assembler::new(held),
                keeper: Keeper::start(store),
                board,
            },
            retry: Retry::new(options.controllers, chance()),
            reload,
            channel: channel_out,
        };
        Self {
            link,
            channel,
            task: tokio::spawn(following.run()),
        }
    }

    /// How the stream is doing, replaced on each change.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Asks about single pods, over the connection in use.
    pub fn resolver(&self) -> Resolver {
        Resolver::new(self.channel.clone())
    }
}

struct Following {
    lasting: Lasting,
    retry: Retry,
    reload: Arc<Reload>,
    channel: watch::Sender<Option<Channel>>,
}

impl Following {
    async fn run(mut self) {
        // Hello names the pods that are steered: the engine knows them once it
        // has read its journal.
        let mut status = self.lasting.capture.status();
        let _ = time::timeout(ENGINE, status.changed()).await;
        loop {
            let endpoint = self.retry.endpoint().to_owned();
            let ended = self.attempt(&endpoint).await;
            self.channel.send_replace(None);
            self.lasting.board.ended(&endpoint, &ended.error);
            time::sleep(self.retry.after(ended.kind, ended.lasted, chance())).await;
        }
    }

    /// One connection and its stream, until it ends.
    async fn attempt(&mut self, endpoint: &str) -> Attempt {
        let reload = Arc::clone(&self.reload);
        let channel = match connect::channel(endpoint, reload, connect::any_controller) {
            Ok(channel) => channel,
            Err(error) => return Attempt::failed(Ended::Failed, &error),
        };
        // Before it connects: a certificate that comes meanwhile is taken twice
        // rather than never.
        let handover = Handover::new(endpoint, Arc::clone(&self.reload));
        let opened = Session::open(&mut self.lasting, endpoint, channel.clone(), handover).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(error) => return Attempt::failed(error.kind(), &error),
        };
        self.channel.send_replace(Some(channel));
        let end = session.run(&self.channel).await;
        let lasted = session.following_since.map(|since| since.elapsed());
        Attempt {
            lasted: lasted.unwrap_or_default(),
            ..Attempt::failed(end.kind(), &end)
        }
    }
}

/// How an attempt ended.
struct Attempt {
    kind: Ended,
    /// How long it was of use.
    lasted: Duration,
    /// Why, with its causes.
    error: String,
}

impl Attempt {
    fn failed(kind: Ended, error: &dyn Error) -> Self {
        Self {
            kind,
            lasted: Duration::ZERO,
            error: chain(error),
        }
    }
}

/// Seconds, as metrics have them.
fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// A number nobody can guess: the standard library seeds its hash maps from
/// the system's randomness.
fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}
