//! The agent's stream and services over real TLS and real sockets, against a
//! controller that misbehaves on request.

#[cfg(test)]
#[path = "control/ask.rs"]
mod ask;
#[cfg(test)]
#[path = "control/controller.rs"]
mod controller;
#[cfg(test)]
#[path = "control/handover.rs"]
mod handover;
#[cfg(test)]
#[path = "control/identity.rs"]
mod identity;
#[cfg(test)]
#[path = "control/kernel.rs"]
mod kernel;
#[cfg(test)]
#[path = "control/node.rs"]
mod node;
#[cfg(test)]
#[path = "control/services.rs"]
mod services;
#[cfg(test)]
#[path = "control/streams.rs"]
mod streams;
