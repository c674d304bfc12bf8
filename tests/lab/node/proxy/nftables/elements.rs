//! Elements of kube-proxy's sets and maps: only what changed is written (pkg/proxy/nftables, nftElementStorage).

use std::{collections::BTreeMap, fmt::Write as _};

/// Set or map, to key, to what it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elements(BTreeMap<(&'static str, String), Lead>);

/// Empty in a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lead {
    verdict: String,
    comment: Option<String>,
}

impl Elements {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An element of a set.
    pub(super) fn add(&mut self, set: &'static str, key: String) {
        self.0.insert((set, key), Lead::default());
    }

    /// An element of a verdict map.
    pub(super) fn lead(&mut self, map: &'static str, key: String, verdict: &str, comment: Option<&str>) {
        let lead = Lead {
            verdict: verdict.to_owned(),
            comment: comment.map(str::to_owned),
        };
        self.0.insert((map, key), lead);
    }

    /// The commands that make these out of `before`: what leads elsewhere is deleted and added, what is left over is
    /// deleted last. `nft` is family and table.
    pub(super) fn write_changes(&self, before: &Self, nft: &str, text: &mut String) {
        for ((name, key), lead) in &self.0 {
            match before.0.get(&(name, key.clone())) {
                Some(was) if was == lead => continue,
                Some(_) => delete(text, nft, name, key),
                None => {}
            }
            let comment = lead
                .comment
                .as_ref()
                .map_or(String::new(), |c| format!(" comment \"{c}\""));
            let _ = writeln!(
                text,
                "add element {nft} {name} {{ {key}{comment}{} }}",
                value(lead)
            );
        }
        for (name, key) in before.0.keys() {
            if !self.0.contains_key(&(*name, key.clone())) {
                delete(text, nft, name, key);
            }
        }
    }
}

fn value(lead: &Lead) -> String {
    if lead.verdict.is_empty() {
        String::new()
    } else {
        format!(" : {}", lead.verdict)
    }
}

fn delete(text: &mut String, nft: &str, name: &str, key: &str) {
    let _ = writeln!(text, "delete element {nft} {name} {{ {key} }}");
}
