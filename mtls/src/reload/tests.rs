use std::fs;

use rcgen::date_time_ymd;

use super::*;
use crate::testing::TestCa;

const POLL: Duration = Duration::from_millis(20);

fn rename_in(files: &TlsFiles, cert: &str, key: &str) {
    // Key first: the set in between must not be taken.
    for (path, contents) in [(&files.key, key), (&files.cert, cert)] {
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, contents).unwrap();
        fs::rename(&fresh, path).unwrap();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

#[tokio::test]
async fn a_new_set_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new("td");
    let files = ca.write(dir.path(), "n", "spiffe://td/node/old");
    let reload = Reload::start(files.clone(), POLL).unwrap();
    assert_eq!(reload.identity(), Some(Identity::Node("old".into())));
    let (cert, key) = ca.issue("spiffe://td/node/new");
    rename_in(&files, &cert, &key);
    until("the new identity", || {
        reload.identity() == Some(Identity::Node("new".into()))
    })
    .await;
    until("no error", || reload.last_error().is_none()).await;
}

#[tokio::test]
async fn a_set_that_cannot_be_used_is_reported_and_the_old_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let ca = TestCa::new("td");
    let files = ca.write(dir.path(), "n", "spiffe://td/node/a");
    let (good_cert, good_key) = (
        fs::read(&files.cert).unwrap(),
        fs::read(&files.key).unwrap(),
    );
    let reload = Reload::start(files.clone(), Duration::from_secs(3600)).unwrap();
    let before = reload.material().unwrap();

    let (other_cert, other_key) = ca.issue("spiffe://td/node/b");
    let (no_uri, no_uri_key) = ca.issue_with(&[], |_| {});
    let (expired, expired_key) = ca.issue_with(&["spiffe://td/node/a"], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let (foreign, foreign_key) = ca.issue("spiffe://elsewhere/node/a");
    let good_cert = String::from_utf8(good_cert).unwrap();
    let good_key = String::from_utf8(good_key).unwrap();
    for (what, cert, key) in [
        ("holds no certificate", "", good_key.as_str()),
        ("holds no certificate", "garbage\n", &good_key),
        (
            "holds no usable certificate",
            "-----BEGIN CERTIFICATE-----\n%%",
            &good_key,
        ),
        ("holds no usable private key", &good_cert, "garbage"),
        ("does not fit", &other_cert, &good_key),
        ("does not fit", &good_cert, &other_key),
        ("has no usable identity", &no_uri, &no_uri_key),
        ("has no usable identity", &foreign, &foreign_key),
        ("has expired", &expired, &expired_key),
    ] {
        rename_in(&files, cert, key);
        let error = reload.look().expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.to_string().contains(dir.path().to_str().unwrap()));
        assert!(reload.last_error().is_some());
        assert!(Arc::ptr_eq(&before, &reload.material().unwrap()), "{what}");
    }
    fs::remove_file(&files.cert).unwrap();
    assert!(reload.look().is_err());

    rename_in(&files, &good_cert, &good_key);
    assert!(!reload.look().unwrap(), "the same as before is not new");
    assert!(reload.last_error().is_none());
}

#[tokio::test]
async fn a_huge_file_is_refused_and_not_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let files = TestCa::new("td").write(dir.path(), "n", "spiffe://td/node/a");
    fs::File::create(&files.ca)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let error = Reload::start(files, POLL).unwrap_err();
    assert!(error.to_string().contains("authorities"), "{error}");
}

#[tokio::test]
async fn looking_ends_with_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let files = TestCa::new("td").write(dir.path(), "n", "spiffe://td/node/a");
    let reload = Reload::start(files, POLL).unwrap();
    let weak = Arc::downgrade(&reload);
    drop(reload);
    until("nobody holds it", || weak.upgrade().is_none()).await;
}
