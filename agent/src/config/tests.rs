use clap::{CommandFactory as _, Parser as _};
use proptest::prelude::*;

use super::*;

fn parse(extra: &[&str]) -> Result<Cli, clap::Error> {
    let required = [
        "sluice-agent",
        "run",
        "--node-name=node-a",
        "--controller=https://controller:15010",
        "--tls-cert=cert.pem",
        "--tls-key=key.pem",
        "--tls-ca=ca.pem",
    ];
    Cli::try_parse_from(required.iter().chain(extra))
}

fn config(extra: &[&str]) -> Result<Config, String> {
    let cli = parse(extra).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Run(run) => run.config().map_err(|error| error.to_string()),
        _ => Err("not run".into()),
    }
}

#[test]
fn the_flags_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_the_kernel_crates() {
    assert_eq!(config(&[]).unwrap().settings, Settings::default());
}

#[test]
fn every_flag_has_a_variable() {
    for command in Cli::command().get_subcommands() {
        for flag in command.get_arguments() {
            let Some(long) = flag.get_long() else {
                continue;
            };
            if ["help", "version", "json"].contains(&long) {
                continue;
            }
            let expected = format!("SLUICE_{}", long.to_uppercase().replace('-', "_"));
            let variable = flag.get_env().and_then(|name| name.to_str());
            assert_eq!(variable, Some(expected.as_str()), "--{long}");
        }
    }
}

#[test]
fn lists_are_split() {
    let config = config(&[
        "--controller=https://a:1,tcp://[fd00::1]:15010",
        "--excluded-namespaces=x,y",
        "--proxy-netns=/run/netns/proxy",
        "--proxy-address=10.0.0.1,fd00::1",
    ])
    .unwrap();
    let [_, a, service] = &config.controllers[..] else {
        panic!("{:?}", config.controllers);
    };
    assert_eq!(a, "https://a:1");
    assert_eq!(
        service, "https://[fd00::1]:15010",
        "as Kubernetes writes it"
    );
    assert_eq!(config.excluded_namespaces.len(), 2);
    assert_eq!(config.proxy_addresses.len(), 2);
}

#[test]
fn what_cannot_be_used_is_named_with_its_remedy() {
    let message = |flag: &str| config(&[flag]).unwrap_err();
    insta::assert_snapshot!(message("--link-in=a-name-far-too-long"), @"--link-in a-name-far-too-long: is not a name for a link; use 1 to 15 letters, digits, '-' and '_', first a letter or digit, and neither 'all' nor 'default'");
    insta::assert_snapshot!(message("--link-out=sl-in"), @"--link-out sl-in: is the name of --link-in too; give the two links different names");
    insta::assert_snapshot!(message("--route-protocol=2"), @"--route-protocol 2: belongs to the kernel or to a routing daemon; choose a number that no line of /etc/iproute2/rt_protos has");
    insta::assert_snapshot!(message("--return-table=8301"), @"--return-table 8301: is another of the agent's tables too; choose a table number that nothing else uses");
    insta::assert_snapshot!(message("--node-priorities=3,2,4"), @"--node-priorities 3,2,4: is not ascending; give ascending numbers between 1 and 32765, with commas between them");
    insta::assert_snapshot!(message("--mark=0x1000"), @"--mark 0x1000: is zero or has bits outside --mark-mask 0xfff; choose a mark whose bits are all in the mask");
    insta::assert_snapshot!(message("--hbone-port=15001"), @"--hbone-port 15001: is another of the proxy's ports too; give the port that the proxy listens on");
    insta::assert_snapshot!(message("--hairpin-v4=224.0.0.1"), @"--hairpin-v4 224.0.0.1: is not the address of one host; choose an address that nothing on the node or in the cluster uses");
}

#[test]
fn a_bare_ipv6_address_of_a_controller_is_put_in_brackets() {
    let given = |text: &str| {
        let flag = format!("--controller={text}");
        config(&[&flag]).map(|config| config.controllers[1].clone())
    };
    for (text, meant) in [
        ("https://fd00::1:15010", "https://[fd00::1]:15010"),
        (
            "https://fd00:10:96::a:15010/",
            "https://[fd00:10:96::a]:15010",
        ),
        ("https://::1:15010", "https://[::1]:15010"),
        ("https://[fd00::1]:15010", "https://[fd00::1]:15010"),
        ("https://10.0.0.1:15010", "https://10.0.0.1:15010"),
        (
            "https://sluice-controller.sluice-system.svc:15010",
            "https://sluice-controller.sluice-system.svc:15010",
        ),
    ] {
        assert_eq!(given(text).as_deref(), Ok(meant), "{text}");
    }
    for wrong in [
        "https://fd00::1",
        "https://fd00::g:15010",
        "https://fd00::1:99999",
    ] {
        assert!(given(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_token_instead_of_files() {
    let parse = |flags: &[&str]| {
        let run = [
            "sluice-agent",
            "run",
            "--node-name=a",
            "--controller=https://c:1",
            "--tls-ca=ca",
        ];
        let cli =
            Cli::try_parse_from(run.iter().chain(flags)).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Run(run) => run.config().map_err(|error| error.to_string()),
            _ => Err("not run".into()),
        }
    };
    let issued = parse(&["--token-file=token"]).unwrap().certificate;
    assert!(matches!(issued, Certificate::Issued { .. }), "{issued:?}");
    let files = parse(&["--tls-cert=c", "--tls-key=k"]).unwrap().certificate;
    assert!(matches!(files, Certificate::Files(_)), "{files:?}");
    for wrong in [
        &[][..],
        &["--tls-cert=c"],
        &["--tls-key=k"],
        &["--token-file=t", "--tls-cert=c", "--tls-key=k"],
        &["--token-file=t", "--tls-key=k"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn hostile_values_are_refused() {
    let refused = [
        "--node-name=Node",
        "--node-name=../x",
        "--controller=http://controller:1",
        "--controller=https://controller",
        "--controller=https://controller:1/path",
        "--controller=https://user@controller:1",
        "--link-in=all",
        "--link-in=default",
        "--link-in=../x",
        "--link-in=",
        "--nft-table=a;b",
        "--instance=",
        "--pod-table=0",
        "--pod-table=254",
        "--local-table=8303",
        "--node-priorities=1,2",
        "--node-priorities=0,1,2",
        "--proxy-priorities=1,2,3,32766",
        "--mark=0",
        "--inbound-port=0",
        "--inbound-port=30001",
        "--next-hop=127.0.0.1",
        "--link-address=169.254.0.1",
        "--hairpin-v6=::1",
        "--hairpin-v6=fe80::1",
        "--node-ports=9-1",
        "--node-ports=0-1",
        "--add-deadline=8",
        "--add-deadline=0s",
        "--excluded-namespaces=A",
        "--proxy-address=10.0.0.1",
    ];
    for flag in refused {
        assert!(config(&[flag]).is_err(), "{flag} was taken");
    }
}

proptest! {
    #[test]
    fn accepted_link_names_are_harmless(text in "\\PC{0,20}") {
        if let Ok(config) = config(&[&format!("--link-in={text}")]) {
            prop_assert!(config.settings.link_in.len() <= 15);
            prop_assert!(!config.settings.link_in.contains(['/', '.', ' ']));
        }
    }

    #[test]
    fn numbers_never_panic(
        tables in any::<[u32; 3]>(),
        priorities in proptest::collection::vec(any::<u32>(), 0..6),
        marks in any::<[u32; 2]>(),
    ) {
        let list = priorities.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let flags = [
            format!("--pod-table={}", tables[0]),
            format!("--local-table={}", tables[1]),
            format!("--return-table={}", tables[2]),
            format!("--node-priorities={list}"),
            format!("--mark={}", marks[0]),
            format!("--mark-mask={}", marks[1]),
        ];
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        if let Ok(config) = config(&flags) {
            prop_assert!(config.settings.node_priorities.is_sorted());
            prop_assert_eq!(config.settings.mark & !config.settings.mark_mask, 0);
        }
    }
}
