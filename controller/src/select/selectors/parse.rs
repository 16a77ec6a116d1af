//! Selectors as they are written: YAML or JSON, with Kubernetes' words and
//! Kubernetes' checks. A list with anything wrong in it is refused as a whole.

use std::{collections::BTreeMap, str::FromStr};

use serde::Deserialize;
use serde_saphyr::{Options, budget, options};

use super::{Asks, Requirement, Selector, Selectors};

/// More than anybody can keep apart.
const MAX_SELECTORS: usize = 64;
/// Label requirements of one selector, and values of one requirement.
const MAX_PARTS: usize = 64;
const MAX_TEXT: usize = 64 << 10;
const MAX_PREFIX: usize = 253;
const MAX_WORD: usize = 63;

/// Why selectors are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SelectorError {
    #[error(
        "not a list of {{podSelector, namespaceSelector}} in YAML or JSON: {reason}; \
         see Istio's enablementSelectors"
    )]
    Syntax { reason: String },
    #[error("no selectors: nothing would ever be captured; leave the flag out for Istio's default")]
    Empty,
    #[error("{place}: more than {most}; use fewer")]
    TooMany { place: String, most: usize },
    #[error("{place}: {key:?} is not a label's name; write it as in example.com/team or team")]
    Key { place: String, key: String },
    #[error(
        "{place}: {value:?} is not a label's value: at most 63 letters, digits, '-', '_' and '.', \
         the first and last a letter or digit"
    )]
    Value { place: String, value: String },
    #[error("{place}: operator {operator:?} is none; write In, NotIn, Exists or DoesNotExist")]
    Operator { place: String, operator: String },
    #[error("{place}: {operator} needs values; add some, or write Exists or DoesNotExist")]
    NoValues { place: String, operator: String },
    #[error("{place}: {operator} takes no values; remove them, or write In or NotIn")]
    Values { place: String, operator: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item {
    #[serde(default)]
    pod_selector: Option<LabelSelector>,
    #[serde(default)]
    namespace_selector: Option<LabelSelector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabelSelector {
    #[serde(default)]
    match_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Option<Vec<String>>,
}

impl FromStr for Selectors {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let syntax = |reason: String| SelectorError::Syntax {
            reason: reason.chars().take(300).collect(),
        };
        if text.len() > MAX_TEXT {
            return Err(syntax(format!("longer than {MAX_TEXT} bytes")));
        }
        let items: Vec<Item> = serde_saphyr::from_str_with_options(text, limits())
            .map_err(|error| syntax(error.without_snippet().to_string()))?;
        if items.is_empty() {
            return Err(SelectorError::Empty);
        }
        check_count("the list", items.len(), MAX_SELECTORS)?;
        let selectors = items.into_iter().enumerate();
        let selectors = selectors.map(|(number, item)| selector(number + 1, item));
        selectors.collect::<Result<_, _>>().map(Self)
    }
}

fn limits() -> Options {
    options! {
        budget: budget! {
            max_depth: 16,
            max_documents: 1,
            max_aliases: 0,
            max_anchors: 0,
        },
        with_snippet: false,
    }
}

fn selector(number: usize, item: Item) -> Result<Selector, SelectorError> {
    let part = |name: &str, selector: Option<LabelSelector>| {
        let place = format!("selector {number}, {name}");
        requirements(&place, selector.unwrap_or_default())
    };
    Ok(Selector {
        pod: part("podSelector", item.pod_selector)?,
        namespace: part("namespaceSelector", item.namespace_selector)?,
    })
}

fn requirements(place: &str, selector: LabelSelector) -> Result<Vec<Requirement>, SelectorError> {
    let labels = selector.match_labels.unwrap_or_default();
    let expressions = selector.match_expressions.unwrap_or_default();
    check_count(place, labels.len() + expressions.len(), MAX_PARTS)?;
    let labels = labels.into_iter().map(|(key, value)| {
        let place = format!("{place}.matchLabels");
        Ok(Requirement {
            asks: Asks::In(vec![checked_value(&place, value)?]),
            key: checked_key(&place, key)?,
        })
    });
    let expressions = expressions.into_iter().enumerate();
    let expressions = expressions.map(|(index, expression)| {
        let place = format!("{place}.matchExpressions[{index}]");
        requirement(&place, expression)
    });
    labels.chain(expressions).collect()
}

fn requirement(place: &str, expression: Expression) -> Result<Requirement, SelectorError> {
    let Expression {
        key,
        operator,
        values,
    } = expression;
    let key = checked_key(place, key)?;
    let values = values.unwrap_or_default();
    check_count(place, values.len(), MAX_PARTS)?;
    let values: Vec<String> = values
        .into_iter()
        .map(|value| checked_value(place, value))
        .collect::<Result<_, _>>()?;
    let place = place.to_owned();
    let asks = match (operator.as_str(), values.is_empty()) {
        ("In" | "NotIn", true) => return Err(SelectorError::NoValues { place, operator }),
        ("In", false) => Asks::In(values),
        ("NotIn", false) => Asks::NotIn(values),
        ("Exists" | "DoesNotExist", false) => {
            return Err(SelectorError::Values { place, operator });
        }
        ("Exists", true) => Asks::Exists,
        ("DoesNotExist", true) => Asks::DoesNotExist,
        _ => {
            let operator = operator.chars().take(MAX_WORD).collect();
            return Err(SelectorError::Operator { place, operator });
        }
    };
    Ok(Requirement { key, asks })
}

fn check_count(place: &str, count: usize, most: usize) -> Result<(), SelectorError> {
    if count <= most {
        return Ok(());
    }
    let place = place.to_owned();
    Err(SelectorError::TooMany { place, most })
}

// A name of at most 63 characters, after a DNS name and a slash if need be.
fn checked_key(place: &str, key: String) -> Result<String, SelectorError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key.as_str()),
    };
    let is_dns = |prefix: &str| {
        let is_lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        prefix.len() <= MAX_PREFIX
            && prefix.split('.').all(|label| {
                is_framed(label, is_lower) && label.bytes().all(|c| is_lower(c) || c == b'-')
            })
    };
    if is_word(name) && prefix.is_none_or(is_dns) {
        return Ok(key);
    }
    Err(SelectorError::Key {
        place: place.to_owned(),
        key: key.chars().take(MAX_PREFIX).collect(),
    })
}

fn checked_value(place: &str, value: String) -> Result<String, SelectorError> {
    if value.is_empty() || is_word(&value) {
        return Ok(value);
    }
    Err(SelectorError::Value {
        place: place.to_owned(),
        value: value.chars().take(MAX_PREFIX).collect(),
    })
}

fn is_word(text: &str) -> bool {
    text.len() <= MAX_WORD
        && is_framed(text, |c| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

// Not empty, and such at both ends.
fn is_framed(text: &str, such: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|c| such(*c)) && bytes.last().is_some_and(|c| such(*c))
}
