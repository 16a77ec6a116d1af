//! What one agent has reported on its stream.

use std::collections::{HashMap, HashSet};

use sluice_proto::capture::v1::{
    NodeCondition, PodState, PodStatus, Rejection, RejectionReason, StatusReport, Stored,
};
use tonic::Status;

use super::wire::shortened;
use crate::{model::Name, ops::metrics as recorded};

/// Bytes of a text from an agent that are kept.
const MAX_TEXT: usize = 1024;
/// Pods in one report.
const MAX_PODS: usize = 10_000;

/// An agent's reports, newest per pod.
#[derive(Debug, Default)]
pub struct Reports {
    pods: HashMap<String, PodStatus>,
    pub condition: Option<NodeCondition>,
    /// True once the agent has said everything that it has to say.
    pub complete: bool,
    pub sent: u64,
    pub stored: u64,
    pub last_rejection: Option<Rejection>,
}

/// What a report changed.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct News {
    pub pods: Vec<String>,
    pub node: bool,
}

/// Whose a pod is.
#[derive(Debug)]
pub enum Owner {
    You,
    SomebodyElse,
    /// Nobody knows it, any more or yet.
    Nobody,
}

impl Reports {
    /// Takes in the answer to a message.
    pub fn stored(&mut self, stored: Stored) -> Result<(), Status> {
        if stored.sequence > self.sent {
            return Err(Status::invalid_argument(format!(
                "Stored answers message {}, but only {} have been sent",
                stored.sequence, self.sent
            )));
        }
        self.stored = self.stored.max(stored.sequence);
        if let Some(mut rejection) = stored.rejection {
            rejection.message = shortened(rejection.message, MAX_TEXT);
            let reason = RejectionReason::try_from(rejection.reason).unwrap_or_default();
            recorded::rejection(super::wire::rejection(reason));
            self.last_rejection = Some(rejection);
        }
        Ok(())
    }

    /// Takes in a report; all of it or, when it speaks of somebody else's pod,
    /// nothing.
    pub fn status(
        &mut self,
        report: StatusReport,
        owner: impl Fn(&str) -> Owner,
    ) -> Result<News, Status> {
        if report.pods.len() > MAX_PODS {
            return Err(Status::invalid_argument(format!(
                "a report of {} pods; send at most {MAX_PODS} at a time",
                report.pods.len()
            )));
        }
        recorded::status_report();
        let mut mine = Vec::new();
        for status in report.pods {
            match owner(&status.uid) {
                Owner::You => mine.push(status),
                // Late news of a pod that is gone.
                Owner::Nobody => {}
                Owner::SomebodyElse => {
                    return Err(Status::permission_denied(
                        "the report speaks of a pod of another node",
                    ));
                }
            }
        }
        let mut news = News::default();
        if report.full {
            let kept: HashSet<&str> = mine.iter().map(|status| status.uid.as_str()).collect();
            let gone = self.pods.keys().filter(|uid| !kept.contains(uid.as_str()));
            for uid in gone.cloned().collect::<Vec<_>>() {
                self.forget(&uid);
                news.pods.push(uid);
            }
            news.node = !self.complete;
            self.complete = true;
        }
        for status in mine {
            let uid = status.uid.clone();
            if self.put(status) {
                news.pods.push(uid);
            }
        }
        if let Some(mut condition) = report.node {
            condition.message = shortened(condition.message, MAX_TEXT);
            news.node |= self.condition.as_ref() != Some(&condition);
            self.condition = Some(condition);
        }
        Ok(news)
    }

    // True when that is news.
    fn put(&mut self, mut status: PodStatus) -> bool {
        status.message = shortened(status.message, MAX_TEXT);
        status.intent_hash = shortened(status.intent_hash, 64);
        if self.pods.get(&status.uid) == Some(&status) {
            return false;
        }
        self.forget(&status.uid);
        recorded::reported_pods(word(status.state()), 1);
        self.pods.insert(status.uid.clone(), status);
        true
    }

    /// The pod is gone.
    pub fn forget(&mut self, uid: &str) {
        if let Some(status) = self.pods.remove(uid) {
            recorded::reported_pods(word(status.state()), -1);
        }
    }

    /// What was reported of the pod, about this intent or another.
    pub fn last(&self, uid: &str) -> Option<&PodStatus> {
        self.pods.get(uid)
    }

    /// What was reported of the pod, if it was about this intent.
    pub fn of(&self, uid: &str, hash: &str) -> Option<&PodStatus> {
        let status = self.pods.get(uid)?;
        (status.intent_hash == hash).then_some(status)
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        for status in self.pods.values() {
            recorded::reported_pods(word(status.state()), -1);
        }
    }
}

fn word(state: PodState) -> &'static str {
    match state {
        PodState::Unspecified => "unspecified",
        PodState::Captured => "captured",
        PodState::Pending => "pending",
        PodState::Failed => "failed",
        PodState::Unsupported => "unsupported",
        PodState::Released => "released",
    }
}

impl Owner {
    /// Of a pod on `node`, or on none.
    pub fn of(pod_node: Option<Option<&Name>>, caller: &str) -> Self {
        match pod_node {
            None => Self::Nobody,
            Some(Some(node)) if **node == *caller => Self::You,
            Some(_) => Self::SomebodyElse,
        }
    }
}
