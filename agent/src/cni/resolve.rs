//! Asking the controller about one pod.

use std::{future::Future, time::Duration};

use crate::{
    control::resolve::{Resolution, Resolver},
    desired::Intent,
    error::chain,
};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(1);

/// What the controller says of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolved {
    Enrolled(Intent),
    NotEnrolled(Intent),
    /// No such pod is known, yet or any more.
    NotKnown,
    /// It belongs to another node.
    NotYours,
    /// There is no answer; why.
    Unreachable(String),
}

/// Whoever can be asked about a pod.
pub trait Resolve: Send + Sync + 'static {
    /// Asks by uid, or by namespace and name where the uid is empty. Answers
    /// within a second or so.
    fn resolve(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Resolved> + Send;
}

impl Resolve for Resolver {
    async fn resolve(&self, uid: &str, namespace: &str, name: &str) -> Resolved {
        match Self::resolve(self, uid, namespace, name, QUESTION).await {
            Ok(Resolution::Enrolled(intent)) => Resolved::Enrolled(intent),
            Ok(Resolution::NotEnrolled(intent)) => Resolved::NotEnrolled(intent),
            Ok(Resolution::NotKnown) => Resolved::NotKnown,
            Ok(Resolution::NotYours) => Resolved::NotYours,
            Err(error) => Resolved::Unreachable(chain(&error)),
        }
    }
}
