//! Every cause has its page in `docs/causes/` and a scenario that must yield it. `ZDT_BLESS=1` writes the pages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use zdt_daemon::{
    causes::{RULES, Rule, page},
    verdict::Blame,
};
use zdt_lab::scenario::Scenario;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages as the rules have them, and a table of contents.
fn pages() -> BTreeMap<String, String> {
    let mut pages: BTreeMap<String, String> = RULES
        .iter()
        .map(|rule| (format!("{}.md", rule.name), page(rule)))
        .collect();
    let mut index = "# Causes\n\nIn the order in which they are asked; the first that matches names the cause. `zdt causes` has \
                     the same.\n\n| cause | id | what |\n|---|---|---|\n"
        .to_owned();
    for Rule { name, id, what, .. } in RULES {
        writeln!(index, "| [{name}]({name}.md) | {id} | {what} |").unwrap();
    }
    pages.insert("README.md".to_owned(), index);
    pages
}

#[test]
fn the_pages_are_those_of_the_rules() {
    let dir = root().join("docs/causes");
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let bless = std::env::var("ZDT_BLESS").is_ok_and(|v| v == "1");
    if bless {
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in pages() {
            fs::write(dir.join(name), text).unwrap();
        }
    }
    let there: BTreeMap<String, String> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(p).unwrap())
        })
        .collect();
    let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&there), names(&pages()), "ZDT_BLESS=1 writes them");
    for (name, text) in pages() {
        assert!(there[&name] == text, "docs/causes/{name}: ZDT_BLESS=1 writes it");
    }
}

#[test]
fn every_cause_has_a_scenario_that_must_yield_it() {
    // What is no request is in no ground truth.
    let requests = RULES.iter().filter(|r| r.blame != Blame::NotARequest);
    let mut owed: BTreeSet<&str> = requests.map(|r| r.name).collect();
    for scenario in Scenario::read_dir(&root().join("tests/scenarios")).unwrap() {
        // What the background's port scanner meets is in no client's ground truth.
        if scenario.noise {
            owed.remove("port-never-served");
        }
        let causes = scenario.expect.causes.unwrap_or_default();
        let only = causes.len() == 1;
        for (cause, expected) in causes {
            if only || expected.min_share > 0.0 {
                owed.remove(cause.as_str());
            }
        }
    }
    assert!(
        owed.is_empty(),
        "no scenario must yield {owed:?} (expect.causes with min_share)"
    );
}

#[test]
fn every_fix_is_an_object_of_kubernetes() {
    for rule in RULES {
        let Some(fix) = rule.fix else { continue };
        let object: serde_json::Value =
            serde_saphyr::from_str(fix).unwrap_or_else(|e| panic!("{}: {e}", rule.name));
        assert!(
            object["apiVersion"].is_string() && object["kind"].is_string(),
            "{}",
            rule.name
        );
    }
}
