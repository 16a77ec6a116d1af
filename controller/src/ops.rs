//! What operators see: metrics, and whether the controller is ready.

pub mod metrics;
