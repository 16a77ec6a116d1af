//! One copy of each repeated string.

use std::{collections::HashSet, sync::Arc};

/// Node, namespace and service account names occur in every pod; each is kept
/// once.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashSet<Arc<str>>,
    /// Sweep when this many are known.
    sweep_at: usize,
}

impl Interner {
    /// The shared copy of `text`.
    pub fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        self.sweep();
        let new: Arc<str> = text.into();
        self.known.insert(Arc::clone(&new));
        new
    }

    // Names come and go for as long as the controller runs: those nobody else
    // holds are dropped whenever the set has doubled.
    fn sweep(&mut self) {
        if self.known.len() < self.sweep_at.max(1024) {
            return;
        }
        self.known.retain(|text| Arc::strong_count(text) > 1);
        self.sweep_at = self.known.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Interner;

    #[test]
    fn shares_and_forgets() {
        let mut interner = Interner::default();
        let kept = interner.get("kept");
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
        for n in 0..10_000 {
            interner.get(&n.to_string());
        }
        assert!(interner.known.len() <= 1024);
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
    }
}
