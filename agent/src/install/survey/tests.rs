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
            link: false,
        },
    }
}

fn odd(name: &str) -> File {
    File {
        name: name.into(),
        content: Content::Odd("not an ordinary file".into()),
    }
}

fn judged(files: Vec<File>, own: &str, takes: &Takes) -> Survey {
    let listing = Listing {
        files,
        ..Listing::default()
    };
    let look = Look {
        own,
        primary: None,
        takes,
    };
    survey(listing, look)
}

fn primary(files: Vec<File>) -> (Option<String>, Survey) {
    let survey = judged(files, OWN, &Takes::default());
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
    let before = |found: &Survey| {
        let before = found.before.clone()?;
        Some((before.name, before.doubt.is_some()))
    };
    assert_eq!(name.as_deref(), Some("01-eager.conflist"));
    assert_eq!(before(&found), Some(("01-eager.conflist".into(), false)));
    // A runtime may read what we do not.
    for eager in [odd("00-link.conf"), file("00-link.conf", "{")] {
        let (name, found) = primary(vec![eager, file("10-ptp.conflist", LIST)]);
        assert_eq!(name.as_deref(), Some("10-ptp.conflist"));
        assert_eq!(before(&found), Some(("00-link.conf".into(), true)));
        assert_eq!(found.ahead().unwrap().name, "00-link.conf");
    }
    // Behind ours it does not matter.
    let (_, found) = primary(vec![odd("09-link.conf"), file("10-ptp.conflist", LIST)]);
    assert_eq!(found.before, None);
}

#[test]
fn who_has_a_network_by_name_takes_no_other() {
    let takes = Takes {
        network: Some("pods".into()),
        several: false,
    };
    let pods = LIST.replace("\"n\"", "\"pods\"");
    let files = vec![
        file("01-eager.conflist", LIST),
        file("10-pods.conflist", &pods),
    ];
    let found = judged(files, OWN, &takes);
    assert_eq!(found.primary.as_ref().unwrap().name, "10-pods.conflist");
    assert_eq!((&found.before, found.ahead()), (&None, None));
}

#[test]
fn a_named_original_may_have_its_other_form() {
    let named = |name: &str| {
        let listing = Listing {
            files: vec![file("01-a.conflist", LIST), file("10-b.conflist", LIST)],
            ..Listing::default()
        };
        let takes = Takes::default();
        let look = Look {
            own: "",
            primary: Some(name),
            takes: &takes,
        };
        let found = survey(listing, look);
        let ahead = found.ahead().map(|ahead| ahead.name.clone());
        (found.primary.map(|primary| primary.name), ahead)
    };
    let taken = |name: &str| Some(name.to_owned());
    assert_eq!(
        named("10-b.conflist"),
        (taken("10-b.conflist"), taken("01-a.conflist"))
    );
    assert_eq!(
        named("10-b.conf"),
        (taken("10-b.conflist"), taken("01-a.conflist"))
    );
    assert_eq!(named("01-a.conf"), (taken("01-a.conflist"), None));
    assert_eq!(named("20-c.conf").0, None);
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
fn hostile_files_are_not_waited_for_and_links_are_followed_with_care() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let conf = root.join("net.d");
    fs::create_dir_all(conf.join("n")).unwrap();
    let path = |name: &str| conf.join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, path(name)).unwrap();
    fs::write(root.join("elsewhere"), LIST).unwrap();
    fs::write(path("n/10-more.conf"), "{}").unwrap();
    link("/elsewhere", "10-link.conflist");
    fs::write(path("README"), "not ours to read").unwrap();
    fs::write(path("11-huge.conflist"), vec![b' '; 1 << 20]).unwrap();
    fs::create_dir(path("12-folder.conflist")).unwrap();
    link("/etc/passwd", "13-link.conf");
    link("nowhere", "14-dangling.json");
    nix::unistd::mkfifo(&path("15-pipe.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    link("15-pipe.conf", "16-pipe.conflist");
    link("17-loop.conf", "17-loop.conf");
    link("/net.d", "18-folder.conflist");
    fs::write(path("05-cilium.conflist.cilium_bak"), LIST).unwrap();
    let takes = Takes::default();
    let look = Look {
        own: OWN,
        primary: None,
        takes: &takes,
    };
    let found = survey(read(&conf, &Host::new(&root)).unwrap(), look);
    let primary = found.primary.unwrap();
    assert_eq!(
        (primary.name.as_str(), primary.link, primary.folder),
        ("10-link.conflist", true, true)
    );
    assert_eq!(found.renamed.len(), 1);
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
            "15-pipe.conf",
            "16-pipe.conflist",
            "17-loop.conf",
            "18-folder.conflist"
        ]
    );
    // Devices are not even opened.
    link("/dev/zero", "19-zero.conf");
    let devices = read(&conf, &Host::new(Path::new("/"))).unwrap();
    let zero = devices
        .files
        .iter()
        .find(|file| file.name == "19-zero.conf")
        .unwrap();
    assert!(matches!(&zero.content, Content::Odd(why) if why.contains("not an ordinary file")));
}

#[test]
fn a_folder_of_thousands_is_nobodys_and_one_that_is_missing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for number in 0..=MOST_FILES {
        fs::write(root.join(format!("{number}.conf")), "").unwrap();
    }
    let error = read(&root, &Host::new(&root)).unwrap_err();
    assert!(error.source.to_string().contains("more than"), "{error:?}");
    assert!(
        read(&root.join("missing"), &Host::new(&root))
            .unwrap_err()
            .is_not_found()
    );
}
