//! `make bench`: the budgets of the design, measured side by side in one run.

use std::{fs, path::Path};

use sluice_tests::bench::{self, table::Table};

fn main() {
    let out = Path::new("target/bench");
    fs::create_dir_all(out).expect("make target/bench");
    let mut table = Table::default();
    bench::shim::run(&mut table, out);
    bench::pods::run(&mut table);
    bench::path::run(&mut table);
    let text = table.to_string();
    println!("\n{text}");
    let file = out.join("bench.md");
    fs::write(&file, text).expect("write the table");
    println!("written to {}", file.display());
}
