//! The table of results.

use std::fmt;

/// Rows of what was measured, what it is compared with, and the budget.
#[derive(Debug, Default)]
pub struct Table(Vec<[String; 4]>);

impl Table {
    /// Adds a row, and says it at once.
    pub fn row(&mut self, what: &str, measured: String, compared: String, budget: &str) {
        println!("bench: {what}: {measured} | {compared} | {budget}");
        self.0
            .push([what.into(), measured, compared, budget.into()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | beside it, same run | budget |")?;
        writeln!(f, "|---|---|---|---|")?;
        for row in &self.0 {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}
