use super::*;

#[test]
fn only_https_with_host_and_port_is_an_endpoint() {
    for good in [
        "https://controller:15012",
        "https://10.0.0.1:1/",
        "https://[fd00::1]:443",
    ] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "controller:15012",
        "http://controller:15012",
        "https://controller",
        "https://controller:99999",
        "https://controller:1/path",
        "https://controller:1/?query",
        "unix:///run/x",
        "https://",
    ] {
        let error = parse(bad).expect_err(bad).to_string();
        assert!(error.contains(bad), "{error}");
    }
}
