//! Documents as they are written: the fields that are looked at, and where
//! they are.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::Wrong;

/// A string that may be wrong, and where it is.
pub(super) type Text = Spanned<String>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Pod,
    Namespace,
    List,
    /// Something else, which is fine.
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    api_version: Option<String>,
    kind: Option<String>,
}

impl Head {
    pub(super) fn kind(&self, line: u64) -> Result<Kind, Wrong> {
        let missing = |field| Wrong {
            line,
            reason: format!("{field} is missing; add `apiVersion: v1` and the kind"),
        };
        let kind = self.kind.as_deref().ok_or_else(|| missing("kind"))?;
        let version = self.api_version.as_deref();
        let version = version.ok_or_else(|| missing("apiVersion"))?;
        Ok(match (version, kind) {
            ("v1", "Pod") => Kind::Pod,
            ("v1", "Namespace") => Kind::Namespace,
            ("v1", "List") => Kind::List,
            _ => Kind::Other,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ListHead {
    pub items: Option<Vec<Spanned<Head>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    pub metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    pub metadata: Option<Metadata>,
    pub spec: Option<Spec>,
    pub status: Option<Status>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub name: Option<Text>,
    pub namespace: Option<Text>,
    pub uid: Option<Text>,
    pub labels: Option<BTreeMap<String, Option<String>>>,
    pub annotations: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub node_name: Option<Text>,
    pub host_network: Option<bool>,
    pub service_account_name: Option<Text>,
    pub containers: Option<Vec<Container>>,
    /// Some of them keep running beside the others.
    pub init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Container {
    pub ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub host_port: Option<Spanned<i64>>,
    pub protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Text>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PodIp {
    pub ip: Text,
}

/// An object that we use.
#[derive(Debug)]
pub(super) enum Item {
    Pod(Box<Pod>),
    Namespace(Box<Namespace>),
}

/// Reads the items of a list, each as the kind it is; others are skipped.
#[derive(Clone, Copy)]
pub(super) struct Items<'a>(pub &'a [Kind]);

impl Items<'_> {
    pub(super) fn read<'de, D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Vec<(u64, Item)>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<(u64, Item)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" && !self.0.is_empty() {
                items = map.next_value_seed(self)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(items)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        for kind in self.0 {
            items.extend(seq.next_element_seed(One(*kind))?.flatten());
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<(u64, Item)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

struct One(Kind);

impl<'de> DeserializeSeed<'de> for One {
    type Value = Option<(u64, Item)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(match self.0 {
            Kind::Pod => {
                let pod = Spanned::<Pod>::deserialize(deserializer)?;
                Some((pod.referenced.line(), Item::Pod(pod.value.into())))
            }
            Kind::Namespace => {
                let namespace = Spanned::<Namespace>::deserialize(deserializer)?;
                let line = namespace.referenced.line();
                Some((line, Item::Namespace(namespace.value.into())))
            }
            Kind::List | Kind::Other => {
                IgnoredAny::deserialize(deserializer)?;
                None
            }
        })
    }
}
