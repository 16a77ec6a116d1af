//! The names and numbers that the kernel will see, and what makes them unusable.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
};

use clap::Args;
use sluice_kernel::model::{ProxyPorts, Settings};

use super::{
    ConfigError,
    parse::{number, ports},
};

/// Flags of `run` and `cleanup` alike: with other values `cleanup` would look
/// for somebody else's objects. Several agents on one machine differ in them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Names and numbers in the kernel")]
pub struct KernelArgs {
    /// Owner tag of everything the agent makes.
    #[arg(long, env = "SLUICE_INSTANCE", default_value = "sluice")]
    pub instance: String,
    /// The node's network namespace.
    #[arg(long, env = "SLUICE_NODE_NETNS", default_value = "/proc/self/ns/net")]
    pub node_netns: PathBuf,
    /// Link for traffic to captured pods, both ends.
    #[arg(long, env = "SLUICE_LINK_IN", default_value = "sl-in")]
    pub link_in: String,
    /// Link for traffic from captured pods, both ends.
    #[arg(long, env = "SLUICE_LINK_OUT", default_value = "sl-out")]
    pub link_out: String,
    /// nftables table in both namespaces.
    #[arg(long, env = "SLUICE_NFT_TABLE", default_value = "sluice")]
    pub nft_table: String,
    /// Protocol number of every route and rule.
    #[arg(long, env = "SLUICE_ROUTE_PROTOCOL", default_value_t = 83)]
    pub route_protocol: u8,
    /// Node: route table of captured pods.
    #[arg(long, env = "SLUICE_POD_TABLE", default_value_t = 8301)]
    pub pod_table: u32,
    /// Proxy namespace: table that delivers steered packets locally.
    #[arg(long, env = "SLUICE_LOCAL_TABLE", default_value_t = 8302)]
    pub local_table: u32,
    /// Proxy namespace: table that sends answers back over the link.
    #[arg(long, env = "SLUICE_RETURN_TABLE", default_value_t = 8303)]
    pub return_table: u32,
    /// Node: three rule priorities, ascending.
    #[arg(
        long,
        env = "SLUICE_NODE_PRIORITIES",
        value_delimiter = ',',
        default_value = "104,105,106"
    )]
    pub node_priorities: Vec<u32>,
    /// Proxy namespace: four rule priorities, ascending.
    #[arg(
        long,
        env = "SLUICE_PROXY_PRIORITIES",
        value_delimiter = ',',
        default_value = "100,110,111,112"
    )]
    pub proxy_priorities: Vec<u32>,
    /// Proxy namespace: mark of steered packets.
    #[arg(long, env = "SLUICE_MARK", default_value = "0x111", value_parser = number)]
    pub mark: u32,
    /// Bits of the mark that are ours.
    #[arg(long, env = "SLUICE_MARK_MASK", default_value = "0xfff", value_parser = number)]
    pub mark_mask: u32,
    /// Where the proxy takes outbound traffic.
    #[arg(long, env = "SLUICE_OUTBOUND_PORT", default_value_t = 15001)]
    pub outbound_port: u16,
    /// Where it takes inbound plaintext.
    #[arg(long, env = "SLUICE_INBOUND_PORT", default_value_t = 15006)]
    pub inbound_port: u16,
    /// Where it takes HBONE.
    #[arg(long, env = "SLUICE_HBONE_PORT", default_value_t = 15008)]
    pub hbone_port: u16,
    /// Next hop on the links: an address that nobody owns.
    #[arg(long, env = "SLUICE_NEXT_HOP", default_value = "169.254.0.1")]
    pub next_hop: Ipv4Addr,
    /// Address of the links.
    #[arg(long, env = "SLUICE_LINK_ADDRESS", default_value = "192.0.0.8")]
    pub link_address: Ipv4Addr,
    /// Source of the second leg of a pod's call to its own node's NodePort.
    #[arg(long, env = "SLUICE_HAIRPIN_V4", default_value = "192.0.0.9")]
    pub hairpin_v4: Ipv4Addr,
    /// The same, IPv6.
    #[arg(long, env = "SLUICE_HAIRPIN_V6", default_value = "fd5e::9")]
    pub hairpin_v6: Ipv6Addr,
    /// NodePort range of the cluster.
    #[arg(long, env = "SLUICE_NODE_PORTS", default_value = "30000-32767", value_parser = ports)]
    pub node_ports: RangeInclusive<u16>,
}

impl KernelArgs {
    /// The settings, or the first flag that cannot be used.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        self.check_names()?;
        self.check_numbers()?;
        self.check_ports()?;
        self.check_addresses()?;
        Ok(Settings {
            instance: self.instance.clone(),
            node_netns: self.node_netns.clone(),
            link_in: self.link_in.clone(),
            link_out: self.link_out.clone(),
            nft_table: self.nft_table.clone(),
            protocol: self.route_protocol,
            pod_table: self.pod_table,
            node_priorities: priorities("--node-priorities", &self.node_priorities)?,
            local_table: self.local_table,
            return_table: self.return_table,
            proxy_priorities: priorities("--proxy-priorities", &self.proxy_priorities)?,
            mark: self.mark,
            mark_mask: self.mark_mask,
            ports: ProxyPorts {
                outbound: self.outbound_port,
                inbound: self.inbound_port,
                hbone: self.hbone_port,
            },
            next_hop: self.next_hop,
            link_address: self.link_address,
            hairpin: (self.hairpin_v4, self.hairpin_v6),
            node_ports: self.node_ports.clone(),
        })
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        name("--instance", &self.instance, 64)?;
        link("--link-in", &self.link_in)?;
        link("--link-out", &self.link_out)?;
        name("--nft-table", &self.nft_table, 64)?;
        ensure(self.link_in != self.link_out, || ConfigError {
            flag: "--link-out",
            value: self.link_out.clone(),
            why: "is the name of --link-in too".into(),
            remedy: "give the two links different names",
        })
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        protocol(self.route_protocol)?;
        table("--pod-table", self.pod_table, &[])?;
        table("--local-table", self.local_table, &[self.pod_table])?;
        table(
            "--return-table",
            self.return_table,
            &[self.pod_table, self.local_table],
        )?;
        ensure(self.mark != 0 && self.mark & !self.mark_mask == 0, || {
            ConfigError {
                flag: "--mark",
                value: format!("{:#x}", self.mark),
                why: format!(
                    "is zero or has bits outside --mark-mask {:#x}",
                    self.mark_mask
                ),
                remedy: "choose a mark whose bits are all in the mask",
            }
        })
    }

    fn check_ports(&self) -> Result<(), ConfigError> {
        let ports = [
            ("--outbound-port", self.outbound_port),
            ("--inbound-port", self.inbound_port),
            ("--hbone-port", self.hbone_port),
        ];
        for (index, (flag, port)) in ports.into_iter().enumerate() {
            let why = if port == 0 {
                "is not a port"
            } else if ports[..index].iter().any(|(_, other)| *other == port) {
                "is another of the proxy's ports too"
            } else if self.node_ports.contains(&port) {
                "is inside --node-ports"
            } else {
                continue;
            };
            return Err(ConfigError {
                flag,
                value: port.to_string(),
                why: why.into(),
                remedy: "give the port that the proxy listens on",
            });
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let addresses = [
            ("--next-hop", self.next_hop),
            ("--link-address", self.link_address),
            ("--hairpin-v4", self.hairpin_v4),
        ];
        for (index, (flag, address)) in addresses.into_iter().enumerate() {
            let why = if !is_unicast(address) {
                "is not the address of one host"
            } else if addresses[..index]
                .iter()
                .any(|(_, other)| *other == address)
            {
                "is another of the agent's addresses too"
            } else {
                continue;
            };
            return Err(ConfigError {
                flag,
                value: address.to_string(),
                why: why.into(),
                remedy: "choose an address that nothing on the node or in the cluster uses",
            });
        }
        let hairpin = self.hairpin_v6;
        let routable = !hairpin.is_unspecified()
            && !hairpin.is_loopback()
            && !hairpin.is_multicast()
            && !hairpin.is_unicast_link_local()
            && hairpin.to_ipv4_mapped().is_none();
        ensure(routable, || ConfigError {
            flag: "--hairpin-v6",
            value: hairpin.to_string(),
            why: "cannot be the source of a routed packet".into(),
            remedy: "choose a unique local address (fd00::/8) that nothing uses",
        })
    }
}

fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

fn ensure(holds: bool, error: impl FnOnce() -> ConfigError) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(error()) }
}

fn link(flag: &'static str, value: &str) -> Result<(), ConfigError> {
    // `all` and `default` are directories beside the links' own under
    // /proc/sys/net/*/conf: a link so called would set everybody's sysctls.
    let free = value != "all" && value != "default";
    let fits = (1..=15).contains(&value.len());
    let plain = value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    ensure(free && fits && plain, || ConfigError {
        flag,
        value: value.into(),
        why: "is not a name for a link".into(),
        remedy: "use 1 to 15 letters, digits, '-' and '_', first a letter or digit, and neither \
                 'all' nor 'default'",
    })
}

fn name(flag: &'static str, value: &str, longest: usize) -> Result<(), ConfigError> {
    let plain = value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    ensure(plain && value.len() <= longest, || ConfigError {
        flag,
        value: value.into(),
        why: "is not a name".into(),
        remedy: "use at most 64 letters, digits, '-' and '_', first a letter",
    })
}

fn protocol(value: u8) -> Result<(), ConfigError> {
    // include/uapi/linux/rtnetlink.h, RTPROT_*: the kernel's own numbers and
    // the routing daemons' that have one.
    let taken = matches!(value, 0..=18 | 42 | 99 | 186..=189 | 192);
    ensure(!taken, || ConfigError {
        flag: "--route-protocol",
        value: value.to_string(),
        why: "belongs to the kernel or to a routing daemon".into(),
        remedy: "choose a number that no line of /etc/iproute2/rt_protos has",
    })
}

fn table(flag: &'static str, value: u32, others: &[u32]) -> Result<(), ConfigError> {
    let why = match value {
        0 | 253..=255 => "is one of the kernel's own tables",
        _ if others.contains(&value) => "is another of the agent's tables too",
        _ => return Ok(()),
    };
    Err(ConfigError {
        flag,
        value: value.to_string(),
        why: why.into(),
        remedy: "choose a table number that nothing else uses",
    })
}

/// Rules before ours must be the kernel's `local` (0), rules after it `main` (32766).
fn priorities<const N: usize>(flag: &'static str, given: &[u32]) -> Result<[u32; N], ConfigError> {
    let error = |why: String| ConfigError {
        flag,
        value: given
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(","),
        why,
        remedy: "give ascending numbers between 1 and 32765, with commas between them",
    };
    let list: [u32; N] = given
        .try_into()
        .map_err(|_| error(format!("has {} numbers, not {N}", given.len())))?;
    if !list.is_sorted_by(|a, b| a < b) {
        return Err(error("is not ascending".into()));
    }
    if list.iter().any(|priority| !(1..32766).contains(priority)) {
        return Err(error("is outside 1 to 32765".into()));
    }
    Ok(list)
}
