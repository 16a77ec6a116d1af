//! A file's text, read as Pods and Namespaces. Everything in it may be wrong.

mod convert;
mod document;

use serde::Deserialize as _;
use serde_saphyr::{
    Error, MessageFormatter as _, Options, Spanned, UserMessageFormatter, alias_limits, budget,
    options,
};
use tracing::debug;

use super::claims::{Body, Object};
use crate::model::Relevant;
use convert::Converter;
use document::{Head, Item, Items, Kind};

/// Documents of a file, and objects of it: at most this many.
const MAX_OBJECTS: usize = 10_000;
/// Of a file, at most this many wrong documents are told.
const MAX_WRONG: usize = 20;
/// Characters of a reason: it may quote the file.
const MAX_REASON: usize = 500;

/// What is wrong, and in which line.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    pub line: u64,
    pub reason: String,
}

/// Reads files. Remembers the names it has seen, to share them.
pub(super) struct Parser {
    converter: Converter,
}

impl Parser {
    pub(super) fn new(relevant: Relevant) -> Self {
        Self {
            converter: Converter::new(relevant),
        }
    }

    /// The file's objects in order; or everything that is wrong with it.
    pub(super) fn parse(&mut self, text: &str) -> Result<Vec<Object>, Vec<Wrong>> {
        let mut objects = Vec::new();
        let mut wrong = Vec::new();
        for (count, (document, skipped)) in documents(text).enumerate() {
            match self.document(document) {
                Ok(found) => objects.extend(found.into_iter().map(|mut object| {
                    object.line += skipped;
                    object
                })),
                Err(found) => wrong.push(Wrong {
                    line: found.line + skipped,
                    reason: shortened(&found.reason),
                }),
            }
            if count >= MAX_OBJECTS || objects.len() > MAX_OBJECTS {
                let reason = format!("more than {MAX_OBJECTS} documents in a file; split it");
                wrong.push(Wrong {
                    line: skipped + 1,
                    reason,
                });
                break;
            }
            if wrong.len() >= MAX_WRONG {
                break;
            }
        }
        if wrong.is_empty() {
            Ok(objects)
        } else {
            Err(wrong)
        }
    }

    fn document(&mut self, text: &str) -> Result<Vec<Object>, Wrong> {
        let head: Option<Spanned<Head>> = read(text, |d| Option::deserialize(d))?;
        // A document of comments only.
        let Some(head) = head else {
            return Ok(Vec::new());
        };
        let line = head.referenced.line();
        match head.value.kind(line)? {
            Kind::Pod => {
                let pod = read(text, |d| document::Pod::deserialize(d))?;
                Ok(vec![self.object(line, Item::Pod(Box::new(pod)))?])
            }
            Kind::Namespace => {
                let namespace = read(text, |d| document::Namespace::deserialize(d))?;
                Ok(vec![
                    self.object(line, Item::Namespace(Box::new(namespace)))?,
                ])
            }
            Kind::List => self.list(text),
            Kind::Other => {
                debug!(line, "document is neither Pod nor Namespace: ignored");
                Ok(Vec::new())
            }
        }
    }

    // Twice: first what the items are, then each as what it is. In one go the
    // lines would be lost.
    fn list(&mut self, text: &str) -> Result<Vec<Object>, Wrong> {
        let heads = read(text, |d| document::ListHead::deserialize(d))?;
        let mut kinds = Vec::new();
        for head in heads.items.unwrap_or_default() {
            kinds.push(head.value.kind(head.referenced.line())?);
        }
        let items = read(text, |d| Items(&kinds).read(d))?;
        let items = items
            .into_iter()
            .map(|(line, item)| self.object(line, item));
        items.collect()
    }

    fn object(&mut self, line: u64, item: Item) -> Result<Object, Wrong> {
        let body = match item {
            Item::Pod(pod) => Body::Pod(self.converter.pod(*pod, line)?.into()),
            Item::Namespace(namespace) => {
                Body::Namespace(self.converter.namespace(*namespace, line)?)
            }
        };
        Ok(Object { line, body })
    }
}

fn read<'a, T>(
    text: &'a str,
    value: impl for<'e> FnOnce(serde_saphyr::Deserializer<'a, 'e>) -> Result<T, Error>,
) -> Result<T, Wrong> {
    serde_saphyr::with_deserializer_from_str_with_options(text, limits(), value).map_err(|error| {
        Wrong {
            line: error.location().map_or(1, |location| location.line()),
            reason: UserMessageFormatter
                .format_message(error.without_snippet())
                .into_owned(),
        }
    })
}

// A file is at most 4 MiB; what else it could cost is bounded here: nesting,
// and aliases that blow up.
fn limits() -> Options {
    options! {
        budget: budget! {
            max_depth: 64,
            max_documents: 1,
            max_events: 2_000_000,
            max_nodes: 1_000_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 50_000,
        },
        alias_limits: alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 1_000,
        },
        emit_comments: false,
        with_snippet: false,
    }
}

// One line, of bounded length, without control characters.
fn shortened(reason: &str) -> String {
    let clean = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_REASON).collect()
}

/// The documents of a stream, each with the number of lines before it.
///
/// At the start of a line `---` and `...` are never anything but markers, not
/// even within a quoted or block scalar.
fn documents(text: &str) -> impl Iterator<Item = (&str, u64)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    // Directives and comments belong to the document after them.
    let mut has_content = false;
    let mut offset = 0;
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let ends = is_marker(line, "...");
        if is_marker(line, "---") && has_content {
            documents.push((&text[start..offset], start_line));
            (start, start_line) = (offset, number);
            has_content = false;
        }
        offset += line.len();
        if ends {
            documents.push((&text[start..offset], start_line));
            (start, start_line) = (offset, number + 1);
            has_content = false;
        } else {
            let line = line.trim();
            has_content |= !(line.is_empty() || line.starts_with(['#', '%']));
        }
    }
    if has_content {
        documents.push((&text[start..], start_line));
    }
    documents.into_iter()
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests;
