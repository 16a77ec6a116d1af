//! Objects as the API server has them, trimmed to what we write.

/// A node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeenNode {
    pub uid: String,
    pub revision: u64,
    pub condition: Option<Condition>,
    /// Token of the stream that the condition is from.
    pub claim: Option<String>,
    /// It carries the start-up taint.
    pub tainted: bool,
}

/// Our condition of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    pub status: Ternary,
    pub reason: String,
    pub message: String,
    /// RFC 3339, as the API server has it.
    pub last_transition: String,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ternary {
    True,
    False,
    Unknown,
}

impl Ternary {
    /// As Kubernetes writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Anything that is neither yes nor no says nothing.
    pub fn parse(word: &str) -> Self {
        match word {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// A pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeenPod {
    pub revision: u64,
    /// What the annotation says.
    pub annotation: Option<String>,
}
