use super::*;

const OWN: &str = "02-sluice.conflist";
const LIST: &str = r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp"}]}"#;
const COPY: &str = r#"{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"ptp"},{"type":"sluice-cni","copyOf":"10-ptp.conflist"}]}"#;

fn file(name: &str, text: &str) -> File {
    File {
        name: name.into(),
        content: Content::Read {
            contents: text.into(),
            mode: 0o600,
        },
    }
}

fn odd(name: &str) -> File {
    File {
        name: name.into(),
        content: Content::Odd("not an ordinary file".into()),
    }
}

fn primary(files: Vec<File>) -> (Option<String>, Survey) {
    let survey = survey(files, OWN);
    let name = survey.primary.as_ref().map(|one| one.name.clone());
    (name, survey)
}

#[test]
fn the_first_usable_one_that_is_not_ours_is_the_original() {
    let (name, found) = primary(vec![
        file("99-later.conflist", LIST),
        file(OWN, COPY),
        file("05-broken.conflist", "{"),
        file("10-ptp.conflist", LIST),
    ]);
    assert_eq!(name.as_deref(), Some("10-ptp.conflist"));
    assert_eq!(found.before, None);
    assert!(found.own.unwrap().list.unwrap().is_ours());
    assert_eq!(found.skipped.len(), 1);
}

#[test]
fn what_sorts_before_ours_is_told() {
    let (name, found) = primary(vec![file(OWN, COPY), file("01-eager.conflist", LIST)]);
    assert_eq!(name.as_deref(), Some("01-eager.conflist"));
    let before = |name: &str, certain| {
        Some(Before {
            name: name.into(),
            certain,
        })
    };
    assert_eq!(found.before, before("01-eager.conflist", true));
    // A runtime may follow a link that we do not.
    let (name, found) = primary(vec![odd("00-link.conf"), file("10-ptp.conflist", LIST)]);
    assert_eq!(name.as_deref(), Some("10-ptp.conflist"));
    assert_eq!(found.before, before("00-link.conf", false));
    // Behind ours it does not matter.
    let (_, found) = primary(vec![odd("09-link.conf"), file("10-ptp.conflist", LIST)]);
    assert_eq!(found.before, None);
    // Broken, it is used by nobody.
    let (_, found) = primary(vec![
        file("00-broken.conf", "{"),
        file("10-ptp.conflist", LIST),
    ]);
    assert_eq!(found.before, None);
}

#[test]
fn a_copy_of_ours_under_another_name_is_stale_and_never_an_original() {
    let (name, found) = primary(vec![file("01-older.conflist", COPY)]);
    assert_eq!(name, None);
    assert_eq!(found.stale, ["01-older.conflist"]);
    let chained = LIST.replace("ptp", "sluice-cni");
    let (name, found) = primary(vec![file("20-theirs.conflist", &chained)]);
    assert_eq!(name.as_deref(), Some("20-theirs.conflist"));
    assert_eq!(found.chained, ["20-theirs.conflist"]);
}

#[test]
fn hostile_files_are_neither_followed_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("10-ptp.conflist"), LIST).unwrap();
    fs::write(path("README"), "not ours to read").unwrap();
    fs::write(path("11-huge.conflist"), vec![b' '; 1 << 20]).unwrap();
    fs::create_dir(path("12-folder.conflist")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("13-link.conf")).unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("14-dangling.json")).unwrap();
    nix::unistd::mkfifo(&path("15-pipe.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let found = survey(read(dir.path()).unwrap(), OWN);
    assert_eq!(found.primary.unwrap().name, "10-ptp.conflist");
    let skipped: Vec<_> = found
        .skipped
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        skipped,
        [
            "11-huge.conflist",
            "13-link.conf",
            "14-dangling.json",
            "15-pipe.conf"
        ]
    );
    for number in 0..MOST_FILES {
        fs::write(path(&format!("{number}.conf")), "").unwrap();
    }
    let error = read(dir.path()).unwrap_err();
    assert!(error.source.to_string().contains("more than"), "{error:?}");
    assert!(read(&path("missing")).unwrap_err().is_not_found());
}
