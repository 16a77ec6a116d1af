//! Results of the plugins before us, in the versions of the specification.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    conf::unsupported,
    error::{CniError, Code},
};

mod fields;

use fields::Fields;

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(crate) const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    pub(crate) const NEWEST: Self = Self::V1_1_0;

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK came with 0.4.0.
    pub(crate) fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// STATUS and GC came with 1.1.0.
    pub(crate) fn has_status_and_gc(self) -> bool {
        self >= Self::V1_1_0
    }

    /// Until 1.0.0 each address said which family it is of.
    fn says_family(self) -> bool {
        self < Self::V1_0_0
    }
}

/// What the plugins before us made.
#[derive(Debug)]
pub(crate) struct PrevResult<'a> {
    raw: &'a str,
    /// None if it does not say, which leaves that of the configuration.
    version: Option<Version>,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) addresses: Vec<Address>,
}

/// An interface that was made, as `sluice.agent.v1.Interface`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) sandbox: String,
}

/// An address that was given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(crate) struct Address {
    #[serde(rename = "address")]
    pub(crate) cidr: String,
    /// Some plugins say -1 for "of no interface".
    #[serde(default)]
    interface: Option<i64>,
}

impl Address {
    /// Index into the interfaces.
    pub(crate) fn interface(&self) -> Option<u32> {
        self.interface.and_then(|index| u32::try_from(index).ok())
    }

    fn family(&self) -> &'static str {
        if self.cidr.contains(':') { "6" } else { "4" }
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "cniVersion")]
    version: Option<String>,
    interfaces: Option<Vec<Interface>>,
    ips: Option<Vec<Address>>,
}

impl<'a> PrevResult<'a> {
    pub(crate) fn parse(raw: &'a RawValue) -> Result<Self, CniError> {
        let document: Document = serde_json::from_str(raw.get()).map_err(|error| wrong(&error))?;
        let version = document
            .version
            .filter(|version| !version.is_empty())
            .map(|asked| Version::parse(&asked).ok_or_else(|| unsupported("prevResult", &asked)))
            .transpose()?;
        Ok(Self {
            raw: raw.get(),
            version,
            interfaces: document.interfaces.unwrap_or_default(),
            addresses: document.ips.unwrap_or_default(),
        })
    }

    /// That of no plugin.
    pub(crate) fn nothing() -> Self {
        Self {
            raw: "{}",
            version: None,
            interfaces: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// The result in `version`: byte for byte what came in if that is its
    /// version, and otherwise with the differences between the versions and
    /// nothing else changed.
    pub(crate) fn render(&self, version: Version) -> Result<Cow<'a, str>, CniError> {
        if self.version == Some(version) {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut fields = Fields::parse(self.raw).map_err(|error| wrong(&error))?;
        fields.set("cniVersion", format!("{:?}", version.as_str()));
        let was = self.version.unwrap_or(version);
        if was.says_family() != version.says_family()
            && let Some(ips) = fields.get("ips")
        {
            let ips = self.convert(ips, version).map_err(|error| wrong(&error))?;
            fields.set("ips", ips);
        }
        fields
            .render()
            .map(Cow::Owned)
            .map_err(|error| wrong(&error))
    }

    fn convert(&self, ips: &str, version: Version) -> Result<String, serde_json::Error> {
        let Some(ips) = serde_json::from_str::<Option<Vec<&RawValue>>>(ips)? else {
            return Ok("null".to_owned());
        };
        let converted: Vec<String> = ips
            .iter()
            .zip(&self.addresses)
            .map(|(ip, address)| {
                let mut ip = Fields::parse(ip.get())?;
                ip.remove("version");
                if version.says_family() {
                    ip.put_first("version", format!("{:?}", address.family()));
                }
                ip.render()
            })
            .collect::<Result<_, _>>()?;
        Ok(format!("[{}]", converted.join(",")))
    }
}

fn wrong(error: &serde_json::Error) -> CniError {
    CniError::new(
        Code::Decode,
        format!("prevResult in the network configuration does not parse: {error}"),
    )
    .details("the plugin before this one in the chain must give a CNI result")
}

#[cfg(test)]
mod tests;
