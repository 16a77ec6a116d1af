//! What becomes of every kind of configuration that a runtime's folder may hold:
//! copied, chained to, or left alone with the reason.

use super::*;

/// In place, or what is said.
type Outcome = Result<(), &'static str>;

struct Case {
    name: &'static str,
    contents: Vec<u8>,
    own: Outcome,
    chained: Outcome,
}

const WAITS: Outcome = Err("waited for");

fn case(name: &'static str, contents: impl AsRef<[u8]>, own: Outcome, chained: Outcome) -> Case {
    Case {
        name,
        contents: contents.as_ref().to_vec(),
        own,
        chained,
    }
}

fn list(around: &str, plugins: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0",{around}"plugins":[{plugins}]}}"#)
}

const PTP: &str = r#"{"type":"ptp"}"#;
const SHIM: &str = r#"{"type":"sluice-cni"}"#;

#[expect(clippy::too_many_lines, reason = "a table")]
fn usable() -> Vec<Case> {
    let fine = |name, contents: String| case(name, contents, Ok(()), Ok(()));
    let plain = list(r#""name":"n","#, PTP);
    let keys: String = (0..200).map(|key| format!("\"k{key}\":{key},")).collect();
    let many = vec![PTP; 500].join(",");
    let deep = format!(
        r#"{{"type":"ptp","x":{}{}}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    vec![
        fine("10-plain.conflist", plain.clone()),
        fine("10-crlf.conflist", plain.replace(',', ",\r\n")),
        fine("10-space.conflist", format!("\n\t {plain} \r\n\n")),
        fine(
            "10-ünïcode-名.conflist",
            list("\"name\":\"n\u{e9}t\",", PTP),
        ),
        fine(
            "10-escaped.conflist",
            list(r#""name":"n\u00e9\ud83d\ude00","#, PTP),
        ),
        fine(
            "10-keys.conflist",
            list(&format!("{keys}\"name\":\"n\","), PTP),
        ),
        fine(
            "10-twice.conflist",
            list(r#""name":"a","plugins":7,"name":"b","#, PTP),
        ),
        fine(
            "10-numbers.conflist",
            list(r#""name":"n","x":[1e300,-0.0,123456789012345678901],"#, PTP),
        ),
        fine("10-plugins.conflist", list(r#""name":"n","#, &many)),
        fine("10-nested.conflist", list(r#""name":"n","#, &deep)),
        fine(
            "10-case.conflist",
            list(r#""name":"n","#, r#"{"TYPE":"ptp"}"#),
        ),
        fine(
            "10-hostile-name.conflist",
            list(r#""name":"../../etc/passwd","#, PTP),
        ),
        fine(
            "10-shim-first.conflist",
            list(r#""name":"n","#, &format!("{SHIM},{PTP}")),
        ),
        fine(
            "10-shim-twice.conflist",
            list(r#""name":"n","#, &format!("{PTP},{SHIM}, {SHIM}")),
        ),
        fine(
            "10-shim-between.conflist",
            list(r#""name":"n","#, &format!("{PTP},{SHIM},{PTP}")),
        ),
        fine("10-newest.conflist", plain.replace("1.0.0", "1.1.0")),
        fine(
            "10-versions.conflist",
            list(r#""cniVersions":["0.4.0","1.1.0"],"name":"n","#, PTP),
        ),
        fine(
            "10-single.conf",
            r#"{"cniVersion":"0.4.0","name":"n","type":"ptp"}"#.into(),
        ),
        fine(
            "10-single.json",
            r#"{"cniVersion":"0.4.0","name":"n","type":"ptp"}"#.into(),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn unusable() -> Vec<Case> {
    let waits = |name, contents: &[u8]| case(name, contents, WAITS, WAITS);
    let plain = list(r#""name":"n","#, PTP);
    let deep = format!(
        r#"{{"type":"ptp","x":{}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let huge = format!("{plain}{}", " ".repeat(300 * 1024));
    vec![
        waits("10-empty.conflist", b""),
        waits("10-blank.conflist", b" \n"),
        waits("10-nul.conflist", b"\0\0\0\0"),
        waits(
            "10-nul-inside.conflist",
            plain.replace("ptp", "p\0tp").as_bytes(),
        ),
        waits("10-bom.conflist", format!("\u{feff}{plain}").as_bytes()),
        waits(
            "10-latin1.conflist",
            b"{\"name\":\"n\xe9t\",\"plugins\":[{\"type\":\"ptp\"}]}",
        ),
        waits("10-utf16.conflist", b"\xff\xfe{\0}\0"),
        waits(
            "10-truncated.conflist",
            &plain.as_bytes()[..plain.len() - 3],
        ),
        waits("10-comma.conflist", plain.replace("}]", "},]").as_bytes()),
        waits(
            "10-comment.conflist",
            format!("// mine\n{plain}").as_bytes(),
        ),
        waits("10-two.conflist", format!("{plain}{plain}").as_bytes()),
        waits("10-array.conflist", format!("[{plain}]").as_bytes()),
        waits("10-text.conflist", b"\"plugins\""),
        waits("10-deep.conflist", list(r#""name":"n","#, &deep).as_bytes()),
        waits("10-huge.conflist", huge.as_bytes()),
        waits("10-nameless.conflist", list("", PTP).as_bytes()),
        waits(
            "10-name-null.conflist",
            list(r#""name":null,"#, PTP).as_bytes(),
        ),
        waits(
            "10-name-number.conflist",
            list(r#""name":1,"#, PTP).as_bytes(),
        ),
        waits(
            "10-no-plugins.conflist",
            br#"{"cniVersion":"1.0.0","name":"n"}"#,
        ),
        waits(
            "10-empty-plugins.conflist",
            list(r#""name":"n","#, "").as_bytes(),
        ),
        waits(
            "10-typeless.conflist",
            list(r#""name":"n","#, "{}").as_bytes(),
        ),
        waits(
            "10-null-plugin.conflist",
            list(r#""name":"n","#, "null").as_bytes(),
        ),
        waits("10-list.conf", plain.as_bytes()),
        waits(
            "10-version-number.conflist",
            plain.replace("\"1.0.0\"", "1").as_bytes(),
        ),
        waits("10-not-looked-at.yaml", plain.as_bytes()),
    ]
}

fn refused() -> Vec<Case> {
    let both = |name, contents: String, why| case(name, contents, Err(why), Err(why));
    let plain = list(r#""name":"n","#, PTP);
    vec![
        case(".conflist", &plain, Err("sorts before"), Ok(())),
        case(".hidden.conf", "{", WAITS, WAITS),
        both(
            "10-old.conflist",
            plain.replace("1.0.0", "0.2.0"),
            "cniVersion",
        ),
        both(
            "10-unknown.conflist",
            plain.replace("1.0.0", "2.0.0"),
            "cniVersion",
        ),
        both(
            "10-versionless.conflist",
            plain.replace("\"cniVersion\":\"1.0.0\",", ""),
            "cniVersion",
        ),
        both(
            "10-only-us.conflist",
            list(r#""name":"n","#, SHIM),
            "no plugin but the shim",
        ),
    ]
}

/// What one mode makes of it, and that it can be undone.
#[track_caller]
fn check(case: &Case, mode: Mode, outcome: Outcome) {
    let mut host = Host::new();
    host.switch(mode);
    fs::write(host.path("net.d").join(case.name), &case.contents).unwrap();
    let state = host.look(Goal::Install);
    match outcome {
        Ok(()) => assert!(state.current, "{} {mode:?}: {state:?}", case.name),
        Err(why) => {
            assert!(!state.current, "{} {mode:?}: {state:?}", case.name);
            assert!(
                state.message.contains(why),
                "{} {mode:?}: {state:?}",
                case.name
            );
        }
    }
    host.look(Goal::Leave);
    let left = fs::read(host.path("net.d").join(case.name)).unwrap();
    // Entries of the shim that somebody else wrote go with ours.
    let theirs = case.name.contains("shim") && mode == Mode::Chained;
    if !theirs {
        assert!(
            left == case.contents,
            "{} {mode:?} is not restored",
            case.name
        );
    }
    assert_eq!(host.names(), [case.name], "{mode:?}");
}

#[test]
fn every_kind_of_configuration_has_its_outcome() {
    for case in [usable(), unusable(), refused()].into_iter().flatten() {
        check(&case, Mode::Own, case.own);
        check(&case, Mode::Chained, case.chained);
    }
}

#[test]
fn plugins_of_a_folder_are_told_of_and_never_put_before_the_interface() {
    let mut host = Host::new();
    fs::create_dir(host.path("net.d/n")).unwrap();
    host.write("n/10-tuning.conf", r#"{"type":"tuning"}"#);
    for mode in [Mode::Own, Mode::Chained] {
        host.switch(mode);
        host.write("10-x.conflist", r#"{"cniVersion":"1.1.0","name":"n"}"#);
        host.refuses("\"loadOnlyInlinedPlugins\": true");
        host.write(
            "10-x.conflist",
            r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"ptp"}]}"#,
        );
        let state = host.look(Goal::Install);
        assert!(
            state.current && state.message.contains("holds plugins"),
            "{state:?}"
        );
        host.write("10-x.conflist", r#"{"cniVersion":"1.1.0","loadOnlyInlinedPlugins":true,"name":"n","plugins":[{"type":"ptp"}]}"#);
        let state = host.look(Goal::Install);
        assert!(state.current && state.message.is_empty(), "{state:?}");
        host.look(Goal::Leave);
    }
}

#[test]
fn what_cannot_be_written_leaves_the_old_file_as_it_is() {
    for mode in [Mode::Own, Mode::Chained] {
        let mut host = Host::new();
        host.switch(mode);
        host.write("10-ptp.conflist", CONFLIST);
        host.installed();
        host.write("10-ptp.conflist", &CONFLIST.replace("ptp", "bridge"));
        let before = host.files();
        let name = match mode {
            Mode::Own => ".02-sluice.conflist.new",
            _ => ".10-ptp.conflist.new",
        };
        fs::create_dir_all(host.path("net.d").join(name)).unwrap();
        host.refuses("cannot create");
        fs::remove_dir(host.path("net.d").join(name)).unwrap();
        assert_eq!(host.files(), before, "{mode:?}");
        host.installed();
    }
}
