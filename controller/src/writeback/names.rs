//! What things are called in the API server.

/// Field manager of everything we write.
pub const FIELD_MANAGER: &str = "sluice-controller";
/// Value of the annotation on captured pods.
pub const ANNOTATION_ENABLED: &str = "enabled";
/// Value with which a user opts a pod out.
pub(super) const ANNOTATION_DISABLED: &str = "disabled";
/// Type of the node's condition.
pub const CONDITION: &str = "CaptureReady";
/// Annotation of nodes: the token of the stream by which the condition is known.
pub const CLAIM: &str = "sluice.dev/stream";
/// Nodes may register with this taint, to get no pods before they can capture.
pub const STARTUP_TAINT: &str = "sluice.dev/not-ready";
