//! The SPIFFE identity of a workload.

use std::{fmt, str::FromStr};

use crate::workloads::Workload;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadIdentity {
    pub trust_domain: String,
    pub namespace: String,
    pub service_account: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
pub struct NotAnIdentity(String);

impl WorkloadIdentity {
    pub fn of(workload: &Workload) -> Self {
        Self {
            trust_domain: workload.trust_domain.clone(),
            namespace: workload.namespace.clone(),
            service_account: workload.service_account.clone(),
        }
    }

    /// What policies compare with: the URI without its scheme.
    pub fn principal(&self) -> String {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        format!("{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl fmt::Display for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.principal())
    }
}

impl FromStr for WorkloadIdentity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let refuse = || NotAnIdentity(text.to_owned());
        let path = text.strip_prefix("spiffe://").ok_or_else(refuse)?;
        let parts: Vec<_> = path.split('/').collect();
        match parts[..] {
            [trust_domain, "ns", namespace, "sa", service_account]
                if ![trust_domain, namespace, service_account].contains(&"") =>
            {
                Ok(Self {
                    trust_domain: trust_domain.to_owned(),
                    namespace: namespace.to_owned(),
                    service_account: service_account.to_owned(),
                })
            }
            _ => Err(refuse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let text = "spiffe://cluster.local/ns/d/sa/a1";
        let identity: WorkloadIdentity = text.parse().unwrap();
        assert_eq!(identity.to_string(), text);
        for wrong in [
            "",
            "https://cluster.local/ns/d/sa/a1",
            "spiffe://cluster.local/ns/d/sa",
            "spiffe://cluster.local/ns/d/sa/a1/x",
            "spiffe://cluster.local/ns//sa/a1",
            "spiffe:///ns/d/sa/a1",
            "spiffe://cluster.local/node/a1",
        ] {
            assert!(wrong.parse::<WorkloadIdentity>().is_err(), "{wrong}");
        }
    }
}
