//! A JSON object whose fields keep their order, spelling and numbers.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Field names, decoded, and their values as they were written.
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    pub(super) fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_ref())
    }

    /// Replaces a field where it stands, or puts a new one first.
    pub(super) fn set(&mut self, name: &'static str, json: String) {
        match self.0.iter_mut().find(|(field, _)| field == name) {
            Some((_, value)) => *value = json.into(),
            None => self.put_first(name, json),
        }
    }

    pub(super) fn put_first(&mut self, name: &'static str, json: String) {
        self.0.insert(0, (name.into(), json.into()));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| field != name);
    }

    pub(super) fn render(&self) -> Result<String, serde_json::Error> {
        let mut fields = Vec::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            fields.push(format!("{}:{value}", serde_json::to_string(name)?));
        }
        Ok(format!("{{{}}}", fields.join(",")))
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            fields.push((name.into(), value.get().into()));
        }
        Ok(Fields(fields))
    }
}
