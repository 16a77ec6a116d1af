//! Where certificates come from: files, or the controller's own issuer.

use std::{path::PathBuf, time::Duration};

use sluice_mtls::TlsFiles;

use super::{TlsArgs, name};
use crate::issuer;

/// What node certificates may live.
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The controller as the authority of its cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct IssuerArgs {
    /// Issue the certificates of the nodes, and the controller's own. Needs
    /// --kubernetes: agents show tokens that the API server vouches for.
    #[arg(long, env = "SLUICE_ISSUER")]
    pub issuer: bool,

    #[command(flatten)]
    pub authority: AuthorityArgs,

    /// How long certificates live; they are renewed at two thirds of it.
    #[arg(long, env = "SLUICE_ISSUER_LIFETIME", default_value = "1h", value_parser = lifetime)]
    pub issuer_lifetime: Duration,

    /// Service account of the agents, in --pod-namespace.
    #[arg(long, env = "SLUICE_AGENT_SERVICE_ACCOUNT", default_value = "sluice-agent", value_parser = name)]
    pub agent_service_account: String,

    /// Name of this pod: the name in the controller's own certificate.
    #[arg(long, env = "SLUICE_POD_NAME")]
    pub pod_name: Option<String>,
}

/// The issuer's authority. Without files it is Secret `sluice-issuer`, made
/// when there is none.
#[derive(Clone, Debug, clap::Args)]
pub struct AuthorityArgs {
    /// Certificate of an authority of your own, PEM; more than one: the others
    /// are believed, too. Re-read when it changes.
    #[arg(
        long,
        env = "SLUICE_ISSUER_CA_CERT",
        value_name = "PATH",
        requires = "issuer_ca_key"
    )]
    pub issuer_ca_cert: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(
        long,
        env = "SLUICE_ISSUER_CA_KEY",
        value_name = "PATH",
        requires = "issuer_ca_cert"
    )]
    pub issuer_ca_key: Option<PathBuf>,

    /// Namespace of this pod and of the agents.
    #[arg(long, env = "SLUICE_POD_NAMESPACE", default_value = "sluice-system", value_parser = name)]
    pub pod_namespace: String,
}

/// Flags of `operator-certificate`.
#[derive(Clone, Debug, clap::Args)]
pub struct OperatorArgs {
    /// Who it is for: the certificate is of `spiffe://<trust domain>/operator/<name>`.
    pub name: String,

    /// How long it lives, at most 30 days.
    #[arg(long, default_value = "1h", value_parser = lifetime)]
    pub lifetime: Duration,

    /// Folder to write NAME.crt, NAME.key and ca.crt to, readable by you only;
    /// without it all three are printed.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    #[command(flatten)]
    pub authority: AuthorityArgs,

    /// How to reach the API server; without it, as the pod that this is.
    #[arg(long, env = "SLUICE_KUBECONFIG", value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,

    /// Trust domain of every identity.
    #[arg(long, env = "SLUICE_TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: String,
}

/// Where certificates come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificates {
    Files(TlsFiles),
    Issuer(issuer::Options),
}

/// Why that cannot be told from the flags.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificatesError {
    #[error(
        "{missing} is not given; give --tls-cert, --tls-key and --tls-ca, or --issuer with \
         --kubernetes"
    )]
    Missing { missing: &'static str },
    #[error(
        "--issuer makes the controller's certificate itself, and {given} is given, too; leave \
         one of them out (for an authority of your own there is --issuer-ca-cert)"
    )]
    Both { given: &'static str },
    #[error(
        "--issuer needs --pod-name, the name in the controller's own certificate; in a pod, set \
         SLUICE_POD_NAME from metadata.name"
    )]
    NoPodName,
    #[error("--issuer needs --kubernetes: it is the API server that vouches for tokens of agents")]
    NoCluster,
    #[error("--issuer-ca-cert is given without --issuer; add it, or leave --issuer-ca-cert out")]
    AuthorityAlone,
}

impl IssuerArgs {
    /// Where certificates come from, by these flags and those of files.
    pub fn certificates(
        self,
        tls: TlsArgs,
        in_cluster: bool,
    ) -> Result<Certificates, CertificatesError> {
        if self.issuer {
            return self.on(tls, in_cluster).map(Certificates::Issuer);
        }
        if self.authority.issuer_ca_cert.is_some() {
            return Err(CertificatesError::AuthorityAlone);
        }
        let given =
            |path: Option<PathBuf>, missing| path.ok_or(CertificatesError::Missing { missing });
        Ok(Certificates::Files(TlsFiles {
            cert: given(tls.cert, "--tls-cert")?,
            key: given(tls.key, "--tls-key")?,
            ca: given(tls.ca, "--tls-ca")?,
            crl: tls.crl,
            trust_domain: tls.trust_domain,
        }))
    }

    fn on(self, tls: TlsArgs, in_cluster: bool) -> Result<issuer::Options, CertificatesError> {
        let both = [
            ("--tls-cert", tls.cert.is_some()),
            ("--tls-key", tls.key.is_some()),
            ("--tls-ca", tls.ca.is_some()),
        ];
        if let Some((given, _)) = both.into_iter().find(|(_, is_given)| *is_given) {
            return Err(CertificatesError::Both { given });
        }
        if !in_cluster {
            return Err(CertificatesError::NoCluster);
        }
        let Self {
            issuer: _,
            authority,
            issuer_lifetime,
            agent_service_account,
            pod_name,
        } = self;
        Ok(issuer::Options {
            authority: authority.place(),
            namespace: authority.pod_namespace,
            pod_name: pod_name.ok_or(CertificatesError::NoPodName)?,
            agent_service_account,
            lifetime: issuer_lifetime,
            crl: tls.crl,
            trust_domain: tls.trust_domain,
        })
    }
}

impl AuthorityArgs {
    /// Where the authority is kept.
    pub fn place(&self) -> issuer::Place {
        match (&self.issuer_ca_cert, &self.issuer_ca_key) {
            (Some(cert), Some(key)) => issuer::Place::Files {
                cert: cert.clone(),
                key: key.clone(),
            },
            _ => issuer::Place::Secret,
        }
    }
}

/// `90s`, `30m`, `24h` or `7d`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a lifetime: a number and s, m, h or d, as in 30m or 24h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(seconds).ok_or_else(wrong)?;
    Some(Duration::from_secs(seconds))
        .filter(|lifetime| (SHORTEST..=LONGEST).contains(lifetime))
        .ok_or_else(|| format!("{text} is not between 10s and 30d"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Cli, Command};

    fn certificates(flags: &[&str], in_cluster: bool) -> Result<Certificates, String> {
        let verb = ["sluice-controller", "run"];
        let cli = Cli::try_parse_from(verb.iter().chain(flags)).map_err(|e| e.to_string())?;
        let Command::Run(config) = cli.command else {
            panic!("not run");
        };
        config
            .issuer
            .certificates(config.tls, in_cluster)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn files_or_issuer_and_not_both() {
        let files = ["--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--tls-crl=r"];
        let Ok(Certificates::Files(found)) = certificates(&files, false) else {
            panic!("files");
        };
        assert_eq!(found.crl, Some("r".into()));
        let issuer = ["--issuer", "--pod-name=c-0", "--tls-crl=r"];
        let Ok(Certificates::Issuer(options)) = certificates(&issuer, true) else {
            panic!("the issuer");
        };
        assert_eq!(options.authority, issuer::Place::Secret);
        assert_eq!(options.namespace, "sluice-system");
        assert_eq!(options.lifetime, Duration::from_secs(3600));
        for (flags, in_cluster, reason) in [
            (&files[..2], false, "--tls-ca is not given"),
            (&[], true, "--tls-cert is not given"),
            (
                &["--issuer", "--pod-name=c", "--tls-ca=a"],
                true,
                "--tls-ca is given, too",
            ),
            (&["--issuer", "--pod-name=c"], false, "needs --kubernetes"),
            (&["--issuer"], true, "needs --pod-name"),
            (
                &["--issuer-ca-cert=c", "--issuer-ca-key=k"],
                true,
                "without --issuer",
            ),
            (&["--issuer", "--issuer-ca-cert=c"], true, "--issuer-ca-key"),
            (&["--issuer", "--issuer-lifetime=1s"], true, "10s"),
        ] {
            let error = certificates(flags, in_cluster).unwrap_err();
            assert!(error.contains(reason), "{flags:?}: {error}");
        }
    }

    #[test]
    fn lifetimes() {
        assert_eq!(lifetime("24h"), Ok(Duration::from_secs(24 * 3600)));
        assert_eq!(lifetime("10s"), Ok(SHORTEST));
        assert_eq!(lifetime("30d"), Ok(LONGEST));
        for wrong in [
            "",
            "9s",
            "31d",
            "1",
            "h",
            "1w",
            "1.5h",
            "99999999999999999999d",
        ] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
