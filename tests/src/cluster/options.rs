//! What kind of cluster is wanted.

use clap::ValueEnum;

/// How kube-proxy programs Services.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ProxyMode {
    #[default]
    Iptables,
    Nftables,
}

/// Address families of pods, Services and nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Family {
    Ipv4,
    Ipv6,
    #[default]
    Dual,
}

/// A cluster to be.
#[derive(Clone, Debug)]
pub struct Options {
    pub proxy_mode: ProxyMode,
    pub family: Family,
    pub nodes: u8,
    /// Taints that kubelets register their node with, as `KEY=VALUE:EFFECT`.
    pub register_taints: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proxy_mode: ProxyMode::default(),
            family: Family::default(),
            nodes: 2,
            register_taints: Vec::new(),
        }
    }
}

impl ProxyMode {
    /// As kube-proxy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

impl Family {
    pub fn has_v4(self) -> bool {
        self != Self::Ipv6
    }

    pub fn has_v6(self) -> bool {
        self != Self::Ipv4
    }

    /// Those of two values that this cluster has, IPv4 first.
    pub fn pick<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::Ipv4 => vec![v4],
            Self::Ipv6 => vec![v6],
            Self::Dual => vec![v4, v6],
        }
    }

    /// The same as a list with commas, as Kubernetes' flags take it.
    pub fn list(self, v4: &str, v6: &str) -> String {
        self.pick(v4, v6).join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_hold_what_the_family_has() {
        assert_eq!(Family::Ipv4.list("a", "b"), "a");
        assert_eq!(Family::Ipv6.list("a", "b"), "b");
        assert_eq!(Family::Dual.list("a", "b"), "a,b");
    }
}
