//! The protocols of Sluice: generated messages, clients and servers, nothing else.
//!
//! The contract is written in the `.proto` files, message by message.

#![expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::too_many_lines,
    reason = "generated code"
)]

/// `sluice.agent.v1`: what the agent serves.
pub mod agent {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("sluice.agent.v1");
    }
}

/// `sluice.capture.v1`: the stream between controller and agent.
pub mod capture {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("sluice.capture.v1");
    }
}

/// `sluice.controller.v1`: what the controller serves to operators.
pub mod controller {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("sluice.controller.v1");
    }
}

/// `sluice.identity.v1`: how an agent comes by its certificate.
pub mod identity {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("sluice.identity.v1");
    }
}

/// Encoded `FileDescriptorSet` of everything above, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
