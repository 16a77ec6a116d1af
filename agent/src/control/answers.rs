//! The answers owed to the controller, in the order of its messages. Pure.

use std::collections::VecDeque;

use sluice_proto::capture::v1 as proto;

use super::{assemble::Rejected, keeper::Done};

/// Answers owed before no more messages are read: the disk may hang.
const MOST: usize = 1024;

/// One answer for each message, not before it is true.
#[derive(Debug, Default)]
pub(super) struct Answers {
    owed: VecDeque<Owed>,
}

#[derive(Debug)]
struct Owed {
    sequence: u64,
    when: When,
}

#[derive(Debug)]
enum When {
    Now,
    /// Once the state with this place in the keeper's order is on disk.
    Kept(u64),
    Rejected(proto::Rejection),
}

impl Answers {
    /// A part that completes no state.
    pub(super) fn part(&mut self, sequence: u64) {
        self.owe(sequence, When::Now);
    }

    /// A state that is being kept.
    pub(super) fn state(&mut self, sequence: u64, place: u64) {
        self.owe(sequence, When::Kept(place));
    }

    /// A message that was not taken.
    pub(super) fn rejected(&mut self, sequence: u64, rejected: &Rejected) {
        self.unreadable(sequence, rejected.reason(), rejected.to_string());
    }

    /// A message that could not even be read.
    pub(super) fn unreadable(
        &mut self,
        sequence: u64,
        reason: proto::RejectionReason,
        message: String,
    ) {
        let rejection = proto::Rejection {
            reason: reason.into(),
            message,
        };
        self.owe(sequence, When::Rejected(rejection));
    }

    /// Whether more messages may be read.
    pub(super) fn has_room(&self) -> bool {
        self.owed.len() < MOST
    }

    /// Whether there is an answer that can be given now.
    pub(super) fn is_due(&self, done: &Done) -> bool {
        self.owed.front().is_some_and(|owed| owed.is_due(done))
    }

    /// The next answer that can be given now.
    pub(super) fn next(&mut self, done: &Done) -> Option<proto::Stored> {
        let owed = self.owed.pop_front_if(|owed| owed.is_due(done))?;
        let rejection = match owed.when {
            When::Now => None,
            When::Kept(_) => done.failure.clone().map(|message| proto::Rejection {
                reason: proto::RejectionReason::Storage.into(),
                message,
            }),
            When::Rejected(rejection) => Some(rejection),
        };
        Some(proto::Stored {
            sequence: owed.sequence,
            rejection,
        })
    }

    fn owe(&mut self, sequence: u64, when: When) {
        self.owed.push_back(Owed { sequence, when });
    }
}

impl Owed {
    fn is_due(&self, done: &Done) -> bool {
        match self.when {
            When::Kept(place) => place <= done.place,
            When::Now | When::Rejected(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(place: u64) -> Done {
        Done {
            place,
            failure: None,
        }
    }

    #[test]
    fn a_state_is_answered_once_it_is_on_disk_and_in_order() {
        let mut answers = Answers::default();
        answers.part(1);
        answers.state(2, 1);
        answers.state(3, 2);
        answers.rejected(4, &Rejected::EarlyDelta);
        assert_eq!(answers.next(&done(0)).unwrap().sequence, 1);
        assert!(!answers.is_due(&done(0)));
        assert_eq!(answers.next(&done(0)), None);
        // One write can be for several states.
        assert_eq!(answers.next(&done(2)).unwrap().sequence, 2);
        assert_eq!(answers.next(&done(2)).unwrap().sequence, 3);
        let last = answers.next(&done(2)).unwrap();
        assert_eq!(
            last.rejection.unwrap().reason(),
            proto::RejectionReason::Incomplete
        );
        assert_eq!(answers.next(&done(2)), None);
    }

    #[test]
    fn a_failed_write_is_said() {
        let mut answers = Answers::default();
        answers.state(1, 1);
        let full = Done {
            place: 1,
            failure: Some("no space".into()),
        };
        let rejection = answers.next(&full).unwrap().rejection.unwrap();
        assert_eq!(rejection.reason(), proto::RejectionReason::Storage);
        assert_eq!(rejection.message, "no space");
    }
}
