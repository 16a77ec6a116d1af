//! Everything of the agent that touches the kernel. Nothing else imports netlink.
//!
//! Desired state ([`model::Node`]) is laid out as plain kernel objects
//! (`layout`), the kernel is read into the same objects (`observe`), a pure
//! function finds what differs (`diff`), one narrow layer carries it out
//! (`apply`), and the kernel is read again before anything is called done.
//!
//! All calls block, for well under a millisecond per pod; the agent makes them
//! on one thread of their own. Nothing here starts a process.
//!
//! What is ours is told by the object itself, never by memory: routes and rules
//! by their protocol number, links by their hardware address, packet rules by
//! their table's comment. So every pass is a mark and sweep, and it does not
//! matter where the one before it stopped.

pub mod model;

mod address;
mod apply;
mod client;
mod diff;
mod error;
mod find;
mod kernel;
mod layout;
mod legacy;
mod link;
mod listen;
mod locate;
mod netns;
mod nft;
mod nsid;
mod observe;
mod place;
mod preflight;
mod route;
mod rule;
mod state;
mod sysctl;
mod tc;
mod watch;

pub use self::{
    client::{ClientError, Refused},
    error::{KernelError, PodError},
    find::{FindError, Finder, Peer},
    kernel::{Audit, Kernel, Outcome},
    locate::{AttachedError, LocateError},
    netns::NetnsError,
    watch::Watch,
};
