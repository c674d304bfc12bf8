//! What a client asks for: the path and the query of a GET, and the selectors in it.

use axum::extract::Query;
use axum::http::Uri;
use serde::Deserialize;

use super::entry::Entry;
use super::kinds::{self, Served};
use super::status::Failure;

/// The query parameters of list and watch (apimachinery meta/v1 ListOptions). Everything is listed in one page, so
/// `limit` needs no answer and `continue` never exists.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Params {
    watch: String,
    allow_watch_bookmarks: String,
    send_initial_events: String,
    timeout_seconds: Option<u64>,
    resource_version: String,
    resource_version_match: String,
    label_selector: String,
    field_selector: String,
}

/// One GET on a kind.
#[derive(Debug)]
pub struct Target {
    pub kind: Served,
    /// `None` = all namespaces.
    pub namespace: Option<String>,
    /// A single object.
    pub name: Option<String>,
    /// A part of it, or something that is done to it: `log`, `eviction`.
    pub subresource: Option<String>,
}

/// Which version the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// None given, or "0": whatever is there.
    Any,
    AtLeast(u64),
    Exactly(u64),
}

/// A list or a watch, ready to be answered.
#[derive(Debug)]
pub struct Question {
    pub target: Target,
    pub version: Version,
    pub watch: bool,
    pub bookmarks: bool,
    pub initial_events: bool,
    pub timeout_s: Option<u64>,
    selector: Selector,
}

impl Target {
    /// `/api/v1/...` and `/apis/<group>/<version>/...`; the rest is discovery and not a target.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, plural, name, subresource) = match rest {
            ["namespaces", namespace, plural] => (Some(*namespace), *plural, None, None),
            ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name), None),
            ["namespaces", namespace, plural, name, part] => {
                (Some(*namespace), *plural, Some(*name), Some(*part))
            }
            [plural] => (None, *plural, None, None),
            [plural, name] => (None, *plural, Some(*name), None),
            _ => return None,
        };
        let kind = kinds::find(group, version, plural)?;
        if namespace.is_some() && !kind.namespaced || name.is_some() && kind.namespaced && namespace.is_none()
        {
            return None;
        }
        Some(Self {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }
}

impl Question {
    pub fn parse(target: Target, uri: &Uri) -> Result<Self, Failure> {
        let Query(params) =
            Query::<Params>::try_from_uri(uri).map_err(|error| Failure::bad_request(error.body_text()))?;
        let watch = flag(&params.watch);
        let number = match params.resource_version.as_str() {
            "" | "0" => None,
            text => Some(text.parse().map_err(|_| {
                Failure::bad_request(format!(
                    "resourceVersion: Invalid value: {text:?}: use one that a list returned"
                ))
            })?),
        };
        let version = match (number, params.resource_version_match.as_str()) {
            (None, _) => Version::Any,
            (Some(version), "" | "NotOlderThan") => Version::AtLeast(version),
            (Some(version), "Exact") => Version::Exactly(version),
            (_, other) => {
                return Err(Failure::bad_request(format!(
                    "resourceVersionMatch: unknown value {other:?}"
                )));
            }
        };
        Ok(Self {
            target,
            version,
            watch,
            bookmarks: flag(&params.allow_watch_bookmarks),
            initial_events: flag(&params.send_initial_events),
            timeout_s: params.timeout_seconds,
            selector: Selector::parse(&params.label_selector, &params.field_selector)?,
        })
    }

    pub fn selects(&self, entry: &Entry) -> bool {
        self.target
            .namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == entry.namespace)
            && self.target.name.as_ref().is_none_or(|name| *name == entry.name)
            && self.selector.selects(entry)
    }
}

fn flag(text: &str) -> bool {
    matches!(text, "true" | "1")
}

/// Label and field selectors: equality, inequality and, for labels, existence.
#[derive(Debug, Default)]
struct Selector {
    labels: Vec<(String, Wanted)>,
    fields: Vec<(String, Wanted)>,
}

#[derive(Debug)]
enum Wanted {
    Is(String),
    IsNot(String),
    Exists,
    Absent,
}

impl Selector {
    fn parse(labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = labels
            .split(',')
            .filter(|term| !term.trim().is_empty())
            .map(term)
            .collect::<Result<_, _>>()?;
        let fields: Vec<(String, Wanted)> = fields
            .split(',')
            .filter(|term| !term.trim().is_empty())
            .map(term)
            .collect::<Result<_, _>>()?;
        for (path, wanted) in &fields {
            let known = [
                "metadata.name",
                "metadata.namespace",
                "spec.nodeName",
                "status.phase",
            ];
            if !known.contains(&path.as_str()) || matches!(wanted, Wanted::Exists | Wanted::Absent) {
                let known = known.join(", ");
                return Err(Failure::bad_request(format!(
                    "field label not supported: {path} (supported: {known})"
                )));
            }
        }
        Ok(Self { labels, fields })
    }

    fn selects(&self, entry: &Entry) -> bool {
        let labels = self
            .labels
            .iter()
            .all(|(key, wanted)| wanted.met_by(entry.labels.get(key).map(String::as_str)));
        labels
            && self
                .fields
                .iter()
                .all(|(path, wanted)| wanted.met_by(entry.field(path)))
    }
}

impl Wanted {
    fn met_by(&self, value: Option<&str>) -> bool {
        match self {
            Self::Is(wanted) => value == Some(wanted),
            Self::IsNot(unwanted) => value != Some(unwanted),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
        }
    }
}

fn term(text: &str) -> Result<(String, Wanted), Failure> {
    let text = text.trim();
    if text.contains(['(', ')', ' ']) {
        return Err(Failure::bad_request(format!(
            "selector {text:?}: the lab's API server knows =, ==, != and existence"
        )));
    }
    let owned = |key: &str, wanted| Ok((key.trim().to_owned(), wanted));
    if let Some((key, value)) = text.split_once("!=") {
        owned(key, Wanted::IsNot(value.to_owned()))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        owned(key, Wanted::Is(value.to_owned()))
    } else if let Some(key) = text.strip_prefix('!') {
        owned(key, Wanted::Absent)
    } else {
        owned(text, Wanted::Exists)
    }
}
