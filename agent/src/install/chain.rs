//! Our entry in somebody else's list: put at its end and taken out again, with
//! every other character as it was. Pure.

use std::ops::Range;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::conf::{self, Invalid, SHIM};

/// The list with this entry last, and no other of the shim. Again, it changes
/// nothing.
pub fn chained(text: &str, entry: &str) -> Result<String, Invalid> {
    let mut text = without(text)?;
    let elements = elements(&text)?;
    let Some(last) = elements.last() else {
        return Err(Invalid::Missing("plugins"));
    };
    // As the entry before it is set off from what precedes.
    let before = text.get(..last.place.start).unwrap_or_default();
    let space = before.len() - before.trim_end().len();
    let space = before.get(before.len() - space..).unwrap_or_default();
    let entry = format!(",{space}{entry}");
    text.insert_str(last.place.end, &entry);
    Ok(text)
}

/// The list without the shim: what it was before [`chained`], to the byte.
pub fn without(text: &str) -> Result<String, Invalid> {
    let elements = elements(text)?;
    let mut left = text.to_owned();
    // From the end, so that the places before stay where they are.
    for (index, element) in elements.iter().enumerate().rev() {
        if !element.is_shim {
            continue;
        }
        let mut before = elements.iter().take(index);
        let has_other = before.clone().any(|element| !element.is_shim);
        let place = match (before.next_back(), elements.get(index + 1)) {
            // With the comma before it, or, ahead of all others, behind it.
            (Some(previous), _) if has_other => previous.place.end..element.place.end,
            (_, Some(next)) => element.place.start..next.place.start,
            (_, None) => element.place.clone(),
        };
        left.replace_range(place, "");
    }
    Ok(left)
}

struct Element {
    place: Range<usize>,
    is_shim: bool,
}

/// The plugins of a list, and where each is written.
fn elements(text: &str) -> Result<Vec<Element>, Invalid> {
    let json = |error: serde_json::Error| Invalid::Json(error.to_string());
    let Plugins(plugins) = serde_json::from_str(text).map_err(json)?;
    let plugins = plugins.ok_or(Invalid::Missing("plugins"))?;
    let plugins: Vec<&RawValue> = serde_json::from_str(plugins.get()).map_err(json)?;
    let element = |raw: &RawValue| {
        let written = raw.get();
        // A part of `text`: nothing is copied to read it.
        let start = written.as_ptr().addr() - text.as_ptr().addr();
        let keys: Option<serde_json::Value> = serde_json::from_str(written).ok();
        Element {
            place: start..start + written.len(),
            is_shim: keys.as_ref().and_then(conf::kind) == Some(SHIM),
        }
    };
    Ok(plugins.into_iter().map(element).collect())
}

/// The last `plugins` of an object, which is the one that counts.
struct Plugins<'a>(Option<&'a RawValue>);

impl<'de> Deserialize<'de> for Plugins<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Plugins<'de>;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut plugins = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key == "plugins" {
                        plugins = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Plugins(plugins))
            }
        }
        from.deserialize_map(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::conf::List;

    const ENTRY: &str = r#"{"type":"sluice-cni","chainedTo":"a.conflist"}"#;

    #[track_caller]
    fn there_and_back(text: &str) -> String {
        let chained = chained(text, ENTRY).unwrap();
        assert_eq!(super::chained(&chained, ENTRY).unwrap(), chained);
        assert_eq!(without(&chained).unwrap(), text);
        chained
    }

    #[test]
    fn the_entry_comes_last_and_goes_without_a_trace() {
        assert_eq!(
            there_and_back(r#"{"plugins":[{"type":"a"}],"name":"n"}"#),
            format!(r#"{{"plugins":[{{"type":"a"}},{ENTRY}],"name":"n"}}"#)
        );
        let pretty = "{\r\n  \"name\": \"n\\u00e9\", \"x\": 1.50e+3,\r\n  \"plugins\": [\r\n    {\"type\": \"a\"},\r\n    {\"type\": \"b\", \"plugins\": []}\r\n  ]\r\n}\r\n\r\n";
        let chained = there_and_back(pretty);
        assert!(
            chained.contains(&format!("]}},\r\n    {ENTRY}\r\n  ]")),
            "{chained}"
        );
        // The second one counts, and so it is the one that is written to.
        let twice = r#"{"plugins":[{"type":"a"}],"plu\u0067ins":[ {"type":"b"} ] }"#;
        assert!(there_and_back(twice).ends_with(&format!(r#"{{"type":"b"}}, {ENTRY} ] }}"#)));
    }

    #[test]
    fn one_that_is_elsewhere_or_twice_is_moved_and_others_stay_as_they_are() {
        let shim = r#"{ "type" : "sluice-cni" }"#;
        for (text, bare) in [
            (
                format!(r#"{{"plugins":[{shim} , {{"type":"a"}}]}}"#),
                r#"{"plugins":[{"type":"a"}]}"#,
            ),
            (
                format!(r#"{{"plugins":[{{"type":"a"}}, {shim}, {{"type":"b"}} ]}}"#),
                r#"{"plugins":[{"type":"a"}, {"type":"b"} ]}"#,
            ),
            (
                format!(r#"{{"plugins":[{shim},{shim},{{"type":"a"}},{shim}, {shim}]}}"#),
                r#"{"plugins":[{"type":"a"}]}"#,
            ),
            (
                format!(r#"{{"plugins":[{shim}, {shim}]}}"#),
                r#"{"plugins":[]}"#,
            ),
            (
                r#"{"plugins":[{"Type":"sluice-cni"},{"type":"a"}]}"#.into(),
                r#"{"plugins":[{"type":"a"}]}"#,
            ),
        ] {
            assert_eq!(without(&text).unwrap(), bare);
        }
        let moved = chained(&format!(r#"{{"plugins":[{shim},{{"type":"a"}}]}}"#), ENTRY).unwrap();
        assert_eq!(moved, format!(r#"{{"plugins":[{{"type":"a"}},{ENTRY}]}}"#));
        assert!(chained(&format!(r#"{{"plugins":[{shim}]}}"#), ENTRY).is_err());
    }

    proptest::proptest! {
        #[test]
        fn it_is_undone_to_the_byte(space in "[ \t\r\n]{0,5}", kinds in proptest::collection::vec("[a-z\u{e9}\u{1f600}]{1,5}", 1..5), key in "\\PC{0,9}") {
            let plugins: Vec<String> = kinds.iter().map(|kind| format!("{{{space}\"type\":\"x{kind}\"}}")).collect();
            let key = serde_json::to_string(&key).unwrap();
            let text = format!("{space}{{\"k\":{key},{space}\"plugins\"{space}:[{space}{}{space}]}}{space}", plugins.join(&format!("{space},{space}")));
            let there = chained(&text, ENTRY).unwrap();
            let named = there.replacen('{', "{\"name\":\"n\",", 1);
            let list = List::parse("a.conflist", named.as_bytes()).unwrap();
            proptest::prop_assert!(list.has_shim());
            proptest::prop_assert_eq!(without(&there).unwrap(), text);
        }
    }
}
