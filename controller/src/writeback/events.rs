//! Events: what a person can act on, told once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use sluice_proto::capture::v1::{PodState, Reason};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    api::{Api, ApiError, PodRef},
    decide::{self, PodCase, Reported},
    limit::Bucket,
    seen::{Condition, SeenNode, Ternary},
};
use crate::ops::metrics as recorded;

/// Events that wait; more are dropped, and counted.
const WAITING: usize = 256;
const PER_SECOND: f64 = 5.0;
/// What was told is not told again for so long, ...
const ONCE_PER: Duration = Duration::from_secs(600);
/// ... as far as this many can be remembered.
const REMEMBERED: usize = 4096;
/// The API server takes no more in a note.
const LONGEST_NOTE: usize = 1000;

/// An event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    pub about: About,
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
    pub when: SystemTime,
}

/// What an event is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum About {
    Pod(PodRef),
    Node { name: String, uid: String },
}

impl Event {
    /// The same for the same news, whoever tells it: told twice, the second is
    /// refused as existing.
    pub fn name(&self) -> String {
        let (object, uid) = match &self.about {
            About::Pod(pod) => (&pod.name, &pod.uid),
            About::Node { name, uid } => (name, uid),
        };
        let text = [uid, self.reason, &self.note].join("\0");
        let hash = digest(&SHA256, text.as_bytes());
        let bytes = hash.as_ref().iter().take(8);
        let hash: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        // An object's name may be as long as an event's.
        let stem: String = object.chars().take(200).collect();
        format!("{}.{hash}", stem.trim_end_matches(['.', '-']))
    }
}

/// What is to be told of a pod, if anything.
pub(super) fn of_pod(case: &PodCase) -> Option<Event> {
    let Reported::Status {
        state,
        current: true,
        reason,
        message,
        ..
    } = &case.reported
    else {
        return None;
    };
    let (word, remedy) = match state {
        PodState::Failed => (
            "CaptureFailed",
            "The pod is not in the mesh. It is tried again; `sluice-agent explain` on its node \
             shows the details",
        ),
        PodState::Unsupported if *reason == Reason::UnsupportedAnnotation => (
            "CaptureUnsupported",
            "The pod is not in the mesh. Change what it asks for, or opt it out with the label \
             istio.io/dataplane-mode=none",
        ),
        PodState::Unsupported => (
            "CaptureUnsupported",
            "The pod is not in the mesh until that is changed on its node, or how its network \
             attaches it; or opt it out with the label istio.io/dataplane-mode=none",
        ),
        _ => return None,
    };
    let reason = reason
        .as_str_name()
        .trim_start_matches("REASON_")
        .to_lowercase();
    Some(Event {
        about: About::Pod(case.pod_ref()),
        warning: true,
        reason: word,
        note: note(&format!("{reason}: {message}"), remedy),
        when: SystemTime::now(),
    })
}

/// What a condition that was written tells of the node.
pub(super) fn of_node(name: &str, before: Option<&Condition>, after: &SeenNode) -> Option<Event> {
    let condition = after.condition.as_ref()?;
    let was = before.map(|before| before.status);
    if was == Some(condition.status) && before.map(|b| &b.reason) == Some(&condition.reason) {
        return None;
    }
    let (reason, warning, remedy) = match (condition.status, condition.reason.as_str()) {
        (Ternary::True, _) if was == Some(Ternary::True) => return None,
        (Ternary::True, _) => ("CaptureReady", false, ""),
        (Ternary::False, decide::LEFT) => ("SluiceLeft", false, ""),
        (Ternary::False, _) => (
            "CaptureNotReady",
            true,
            "Enrolled pods cannot start on this node; `sluice-agent status` on it says more",
        ),
        (Ternary::Unknown, _) => ("CaptureUnknown", true, ""),
    };
    Some(Event {
        about: About::Node {
            name: name.to_owned(),
            uid: after.uid.clone(),
        },
        warning,
        reason,
        note: note(&condition.message, remedy),
        when: SystemTime::now(),
    })
}

fn note(text: &str, remedy: &str) -> String {
    if remedy.is_empty() {
        return text[..text.floor_char_boundary(LONGEST_NOTE)].to_owned();
    }
    let room = LONGEST_NOTE - remedy.len() - 2;
    let text = &text[..text.floor_char_boundary(room)];
    format!("{text}. {remedy}")
}

/// Where events are handed in; never waits.
#[derive(Clone, Debug)]
pub(super) struct Teller(mpsc::Sender<Event>);

impl Teller {
    pub(super) fn start(api: Arc<impl Api>, stop: CancellationToken) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            stop.run_until_cancelled(tell(api, waiting)).await;
        });
        Self(sender)
    }

    pub(super) fn tell(&self, event: Event) {
        if self.0.try_send(event).is_err() {
            recorded::event("dropped");
        }
    }
}

async fn tell(api: Arc<impl Api>, mut waiting: mpsc::Receiver<Event>) {
    let mut bucket = Bucket::new(PER_SECOND, Instant::now());
    let mut told = Told::default();
    while let Some(event) = waiting.recv().await {
        if !told.is_news(event.name(), Instant::now()) {
            recorded::event("repeated");
            continue;
        }
        while let Err(when) = bucket.take(Instant::now()) {
            tokio::time::sleep_until(when).await;
        }
        recorded::event(send(&*api, &event).await);
    }
}

// An event is not worth many attempts: what it tells of is also in the state.
async fn send(api: &impl Api, event: &Event) -> &'static str {
    for pause in [Duration::from_secs(1), Duration::from_secs(5)] {
        match api.event(event).await {
            Ok(()) => return "ok",
            Err(ApiError::Unreachable { .. }) => sleep(pause).await,
            Err(error) => {
                warn!(reason = event.reason, %error, "an event was not taken");
                return error.word();
            }
        }
    }
    "unreachable"
}

#[derive(Debug, Default)]
struct Told(HashMap<String, Instant>);

impl Told {
    fn is_news(&mut self, name: String, now: Instant) -> bool {
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < ONCE_PER;
        if self.0.get(&name).is_some_and(fresh) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, at| fresh(at));
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(name, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::time::Instant;

    use super::{About, Event, LONGEST_NOTE, ONCE_PER, REMEMBERED, Told, note};

    #[test]
    fn the_same_news_has_the_same_name() {
        let event = |note: &str| Event {
            about: About::Node {
                name: "node-a".into(),
                uid: "1".into(),
            },
            warning: true,
            reason: "CaptureNotReady",
            note: note.into(),
            when: SystemTime::now(),
        };
        assert_eq!(event("x").name(), event("x").name());
        assert_ne!(event("x").name(), event("y").name());
        assert!(event("x").name().starts_with("node-a."));
    }

    #[test]
    fn notes_fit() {
        let long = note(&"\u{e4}".repeat(2000), "Do this");
        assert!(long.len() <= LONGEST_NOTE && long.ends_with(". Do this"));
        assert!(note(&"x".repeat(2000), "").len() <= LONGEST_NOTE);
    }

    #[test]
    fn what_was_told_is_forgotten_in_time_and_in_bounds() {
        let now = Instant::now();
        let mut told = Told::default();
        assert!(told.is_news("a".into(), now));
        assert!(!told.is_news("a".into(), now));
        assert!(told.is_news("a".into(), now + ONCE_PER));
        for n in 0..3 * REMEMBERED {
            told.is_news(n.to_string(), now);
        }
        assert!(told.0.len() <= REMEMBERED);
    }
}
