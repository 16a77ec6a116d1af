use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn page_is_current() {
    let path = root().join("../docs/metrics-agent.md");
    if std::env::var_os("SLUICE_WRITE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, page()).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        page(),
        "run it with SLUICE_WRITE_DOCS=1"
    );
}

#[test]
fn names_are_unique_and_sorted() {
    assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
}

/// Names that are recorded anywhere in the agent.
fn recorded(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            recorded(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for call in text.split("metrics::").skip(1) {
                let name = ["gauge!(", "counter!(", "histogram!("]
                    .iter()
                    .find_map(|call_of| call.strip_prefix(call_of))
                    .and_then(|arguments| arguments.trim_start().strip_prefix('"'))
                    .and_then(|name| name.split_once('"'));
                names.extend(name.map(|(name, _)| name.to_owned()));
            }
        }
    }
}

#[test]
fn the_table_is_what_is_recorded() {
    let mut names = BTreeSet::new();
    recorded(&root().join("src"), &mut names);
    let table: BTreeSet<_> = TABLE.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(names, table);
}
