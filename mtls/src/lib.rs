//! Who is who between controller, agents and operators, and how they connect.
//!
//! - [`identity`]: the SPIFFE identity in a certificate's only URI name.
//! - [`reload`]: certificate, key and authorities from files, read again when
//!   they change; open connections keep what they were made with.
//! - [`accept`]: the server's side: handshakes run side by side, each under a
//!   deadline, and a silent client costs nobody else anything.
//! - [`connect`]: the client's side: a gRPC channel that takes the newest
//!   certificate each time it connects.
//!
//! TLS 1.3 only, a certificate on both sides (but for a client that comes to ask
//! for its first one, where the server allows that), no resumption: a resumed session
//! would bring back a client certificate without looking at it again. The
//! cryptography is aws-lc-rs, named wherever it is used and never installed as
//! a default of the process.

pub mod accept;
pub mod connect;
pub mod identity;
pub mod reload;
mod revoke;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;

pub use accept::{AcceptLimits, Caller, Peer, Stranger};
pub use identity::{Identity, IdentityError};
pub use reload::{Held, Reload, TlsError, TlsFiles};
