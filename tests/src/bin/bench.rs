//! `make bench`: the budgets of the design, measured side by side in one run.
//! `bench shim chain status leaks pods path cluster` runs the named parts only.
//! With SLUICE_BENCH_QUICK set shim, chain, status and leaks do few rounds.
#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot run says so and ends"
)]

use std::{env, fs, path::Path};

use sluice_tests::bench::{chain, cluster, leaks, path, pods, shim, status, table::Table};

fn main() {
    let named: Vec<String> = env::args().skip(1).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    let out = Path::new("target/bench");
    fs::create_dir_all(out).expect("make target/bench");
    let mut table = Table::default();
    if wanted("shim") {
        shim::run(&mut table, out);
    }
    if wanted("chain") {
        chain::run(&mut table, out);
    }
    if wanted("status") {
        status::run(&mut table, out);
    }
    if wanted("leaks") {
        leaks::run(&mut table);
    }
    if wanted("pods") {
        pods::run(&mut table);
    }
    if wanted("path") {
        path::run(&mut table);
    }
    if wanted("cluster") {
        cluster::run(&mut table);
    }
    let text = table.to_string();
    println!("\n{text}");
    let file = out.join("bench.md");
    fs::write(&file, text).expect("write the table");
    println!("written to {}", file.display());
}
