//! Flags and environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{Parser, Subcommand};

use crate::{
    model::Relevant,
    select::{ProxyRule, Rules, Selectors},
    writeback::{Limits, STARTUP_TAINT, Settings},
};

mod issuer;

pub use issuer::{AuthorityArgs, Certificates, CertificatesError, IssuerArgs, OperatorArgs};

/// Decides which pods are captured, and streams that to the node agents.
#[derive(Clone, Debug, Parser)]
#[command(name = "sluice-controller", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs of the binary.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve agents and operators.
    Run(Box<Config>),
    /// Make a certificate for a person or tool that reads, with the issuer's
    /// authority: `kubectl exec` it in the controller's pod.
    OperatorCertificate(OperatorArgs),
    /// Ask every node to let go of its pods and to take away what Sluice has
    /// put there; wait until all have, then take away what is written in the
    /// API server.
    Uninstall(UninstallArgs),
    /// Read an IstioOperator document from standard input, and print it as
    /// values for Sluice's chart.
    Values,
}

/// Flags of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub source: SourceArgs,

    /// Where agents and operators connect (gRPC over mutual TLS).
    #[arg(long, env = "SLUICE_LISTEN", default_value = "0.0.0.0:15010")]
    pub listen: SocketAddr,

    /// Where /metrics, /healthz and /readyz are served, in the clear.
    #[arg(long, env = "SLUICE_METRICS_LISTEN", default_value = "0.0.0.0:15014")]
    pub metrics_listen: SocketAddr,

    #[command(flatten)]
    pub tls: TlsArgs,

    #[command(flatten)]
    pub issuer: IssuerArgs,

    #[command(flatten)]
    pub select: SelectArgs,

    #[command(flatten)]
    pub write_back: WriteBackArgs,

    /// How long a pod that leaves is announced as leaving before its rules go.
    #[arg(long, env = "SLUICE_RELEASE_AFTER", default_value = "3s", value_parser = duration)]
    pub release_after: Duration,

    /// Log JSON lines instead of text.
    #[arg(long, env = "SLUICE_LOG_JSON")]
    pub log_json: bool,
}

/// What is written back to the API server.
#[derive(Clone, Debug, clap::Args)]
pub struct WriteBackArgs {
    /// The namespace that Sluice is installed in.
    #[arg(long, env = "SLUICE_NAMESPACE", default_value = "sluice-system", value_parser = namespace)]
    pub namespace: String,

    /// Taint that nodes may register with, taken off when they can capture;
    /// empty: none.
    #[arg(long, env = "SLUICE_STARTUP_TAINT", default_value = STARTUP_TAINT)]
    pub startup_taint: String,

    /// Requests per second to the API server to write back what is found out.
    #[arg(long, env = "SLUICE_WRITE_RATE", default_value = "100", value_parser = rate)]
    pub write_rate: f64,
}

impl WriteBackArgs {
    /// In the words of the writer.
    pub fn settings(self) -> Settings {
        let Self {
            namespace,
            startup_taint,
            write_rate,
        } = self;
        Settings {
            namespace,
            startup_taint,
            limits: Limits {
                writes_per_second: write_rate,
                ..Limits::default()
            },
        }
    }
}

/// Flags of `uninstall`.
#[derive(Clone, Debug, clap::Args)]
pub struct UninstallArgs {
    /// How long the nodes may take.
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub timeout: Duration,

    /// Withdraw it: the nodes join again.
    #[arg(long)]
    pub cancel: bool,

    /// The namespace that Sluice is installed in.
    #[arg(long, env = "SLUICE_NAMESPACE", default_value = "sluice-system", value_parser = namespace)]
    pub namespace: String,

    /// How to reach the API server; without it, as the pod that this is.
    #[arg(long, env = "SLUICE_KUBECONFIG", value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
}

/// Where pods and namespaces come from.
#[derive(Clone, Debug, clap::Args)]
pub struct SourceArgs {
    /// Follow the pods and namespaces of a cluster.
    #[arg(long, env = "SLUICE_KUBERNETES")]
    pub kubernetes: bool,

    /// Follow a folder of Pod and Namespace YAML instead.
    #[arg(long, env = "SLUICE_DIRECTORY", value_name = "PATH")]
    pub directory: Option<PathBuf>,

    /// How to reach the API server; without it, as the pod that this is.
    #[arg(long, env = "SLUICE_KUBECONFIG", value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
}

/// The controller's certificate, and whom it believes. Files are re-read when
/// they change.
#[derive(Clone, Debug, clap::Args)]
pub struct TlsArgs {
    /// Certificate with the name `spiffe://<trust domain>/controller/<name>`, PEM.
    /// Not with --issuer, which makes one itself.
    #[arg(long = "tls-cert", env = "SLUICE_TLS_CERT", value_name = "PATH")]
    pub cert: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(long = "tls-key", env = "SLUICE_TLS_KEY", value_name = "PATH")]
    pub key: Option<PathBuf>,

    /// Authorities that sign the certificates of nodes and operators, PEM.
    #[arg(long = "tls-ca", env = "SLUICE_TLS_CA", value_name = "PATH")]
    pub ca: Option<PathBuf>,

    /// Revocation lists of those authorities, PEM; may be empty. Connections of
    /// certificates that are put on one end within seconds.
    #[arg(long = "tls-crl", env = "SLUICE_TLS_CRL", value_name = "PATH")]
    pub crl: Option<PathBuf>,

    /// Trust domain of every identity.
    #[arg(long, env = "SLUICE_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
}

/// Who can be captured.
#[derive(Clone, Debug, clap::Args)]
pub struct SelectArgs {
    /// Namespace of the proxy's pods.
    #[arg(long, env = "SLUICE_PROXY_NAMESPACE", default_value = "istio-system", value_parser = name)]
    pub proxy_namespace: String,

    /// Service account of the proxy's pods.
    #[arg(long, env = "SLUICE_PROXY_SERVICE_ACCOUNT", default_value = "ztunnel", value_parser = name)]
    pub proxy_service_account: String,

    /// Labels of the proxy's pods (key=value, comma separated); all must match.
    #[arg(
        long,
        env = "SLUICE_PROXY_LABELS",
        default_value = "app=ztunnel",
        value_delimiter = ',',
        value_parser = label
    )]
    pub proxy_labels: Vec<(String, String)>,

    /// Namespaces in which nothing is captured (comma separated).
    #[arg(
        long,
        env = "SLUICE_EXCLUDED_NAMESPACES",
        default_value = "kube-system,sluice-system,istio-system",
        value_delimiter = ','
    )]
    pub excluded_namespaces: Vec<String>,

    /// Who is captured, by labels: a list of {podSelector, namespaceSelector}
    /// in YAML or JSON, of which one is enough, as Istio's enablementSelectors.
    /// Default: pods labelled istio.io/dataplane-mode=ambient, and those of
    /// namespaces labelled so unless they are labelled none.
    #[arg(long, env = "SLUICE_ENABLEMENT_SELECTORS", value_name = "YAML")]
    pub enablement_selectors: Option<Selectors>,
}

/// The one source that is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chosen {
    Directory(PathBuf),
    /// With a kubeconfig, or as the pod that this is.
    Kubernetes(Option<PathBuf>),
}

/// Why no source can be told from the flags.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum SourceError {
    #[error("no source is given; give --kubernetes, or --directory PATH")]
    Neither,
    #[error(
        "--kubernetes and --directory are both given, and there is one source; leave one out \
         (SLUICE_KUBERNETES and SLUICE_DIRECTORY count, too)"
    )]
    Both,
    #[error("--kubeconfig is given without --kubernetes; add it, or leave --kubeconfig out")]
    KubeconfigAlone,
}

impl SourceArgs {
    /// The source that is asked for.
    pub fn chosen(self) -> Result<Chosen, SourceError> {
        let Self {
            kubernetes,
            directory,
            kubeconfig,
        } = self;
        match (kubernetes, directory) {
            (true, Some(_)) => Err(SourceError::Both),
            (true, None) => Ok(Chosen::Kubernetes(kubeconfig)),
            (false, _) if kubeconfig.is_some() => Err(SourceError::KubeconfigAlone),
            (false, Some(directory)) => Ok(Chosen::Directory(directory)),
            (false, None) => Err(SourceError::Neither),
        }
    }
}

impl SelectArgs {
    /// The rules of selection.
    pub fn rules(self) -> Rules {
        let Self {
            proxy_namespace,
            proxy_service_account,
            proxy_labels,
            excluded_namespaces,
            enablement_selectors,
        } = self;
        let excluded: BTreeSet<String> = excluded_namespaces
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        Rules {
            proxy: ProxyRule {
                namespace: proxy_namespace,
                service_account: proxy_service_account,
                labels: BTreeMap::from_iter(proxy_labels),
            },
            excluded_namespaces: excluded,
            enablement: enablement_selectors.unwrap_or_default(),
        }
    }
}

impl Rules {
    /// The labels and annotations that these rules look at.
    pub fn relevant(&self) -> Relevant {
        let of_proxy = self.proxy.labels.keys().cloned();
        Relevant::new(of_proxy.chain(self.enablement.keys().map(str::to_owned)))
    }
}

fn namespace(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    Ok(text.to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is not a rate from 0.1 to 10000")),
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty: any pod could pass for the proxy".into());
    }
    Ok(text.to_owned())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form key=value")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a duration: a number and ms, s or m, as in 500ms or 3s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let millis = number.checked_mul(millis).ok_or_else(wrong)?;
    let most = Duration::from_secs(3600);
    Some(Duration::from_millis(millis))
        .filter(|duration| *duration <= most)
        .ok_or_else(|| format!("{text} is longer than an hour"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser as _;

    use super::{Chosen, Cli, Command, Config, SourceError, duration};

    const LEAST: [&str; 10] = [
        "sluice-controller",
        "run",
        "--directory",
        "/etc/pods",
        "--tls-cert",
        "c",
        "--tls-key",
        "k",
        "--tls-ca",
        "a",
    ];

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let cli = Cli::try_parse_from(LEAST.iter().chain(more))?;
        match cli.command {
            Command::Run(config) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.release_after, Duration::from_secs(3));
        assert_eq!(config.tls.trust_domain, "cluster.local");
        let rules = config.select.rules();
        assert_eq!(rules.proxy.namespace, "istio-system");
        assert_eq!(rules.proxy.service_account, "ztunnel");
        assert_eq!(rules.proxy.labels["app"], "ztunnel");
        let excluded: Vec<_> = rules.excluded_namespaces.into_iter().collect();
        assert_eq!(excluded, ["istio-system", "kube-system", "sluice-system"]);
    }

    #[test]
    fn one_source() {
        let table: [(&[&str], Result<Chosen, SourceError>); 6] = [
            (&["--directory", "/d"], Ok(Chosen::Directory("/d".into()))),
            (&["--kubernetes"], Ok(Chosen::Kubernetes(None))),
            (
                &["--kubernetes", "--kubeconfig", "/k"],
                Ok(Chosen::Kubernetes(Some("/k".into()))),
            ),
            (&[], Err(SourceError::Neither)),
            (
                &["--kubernetes", "--directory", "/d"],
                Err(SourceError::Both),
            ),
            (
                &["--directory", "/d", "--kubeconfig", "/k"],
                Err(SourceError::KubeconfigAlone),
            ),
        ];
        for (flags, expected) in table {
            let flags = LEAST[..2].iter().chain(&LEAST[4..]).chain(flags);
            let cli = Cli::try_parse_from(flags).unwrap();
            let Command::Run(config) = cli.command else {
                panic!("not run");
            };
            assert_eq!(config.source.chosen(), expected);
        }
    }

    #[test]
    fn what_does_not_make_sense_is_refused() {
        for wrong in [
            ["--proxy-labels", "app"],
            ["--proxy-labels", ""],
            ["--proxy-labels", "a=b,"],
            ["--proxy-namespace", ""],
            ["--release-after", "3"],
            ["--listen", "nowhere"],
            ["--enablement-selectors", ""],
            ["--enablement-selectors", "[]"],
            ["--enablement-selectors", "[{podSelectors: {}}]"],
            ["--unknown", "x"],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
        assert!(
            parse(&["--excluded-namespaces", ""])
                .unwrap()
                .select
                .rules()
                .excluded_namespaces
                .is_empty()
        );
    }

    #[test]
    fn labels_that_selectors_look_at_are_kept() {
        let selectors = "[{namespaceSelector: {matchLabels: {team: a}}}]";
        let config = parse(&["--enablement-selectors", selectors]).unwrap();
        let relevant = config.select.rules().relevant();
        assert!(relevant.label("team") && relevant.label("app"));
        assert!(!relevant.label("other"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "s",
            "3",
            "3h",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "2000m",
            "\u{663}s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
