//! The dashboards are those that their sources make (`ZDT_BLESS=1` writes them), and what Grafana takes: its published schema,
//! and what it does not say (places, ids, data sources, units). That their queries return data is in `metrics.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute; this whole file is one"
)]

#[path = "dashboards/build.rs"]
mod build;
#[path = "dashboards/own.rs"]
mod own;
#[path = "dashboards/propagation.rs"]
mod propagation;
#[path = "dashboards/rollouts.rs"]
mod rollouts;
#[path = "dashboards/schema.rs"]
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::{Value, json};

/// Ids of Grafana's units (packages/grafana-data/src/valueFormats/categories.ts) that are used here.
const UNITS: &[&str] = &[
    "none",
    "short",
    "percentunit",
    "s",
    "bytes",
    "dateTimeAsIso",
    "cps",
    "ops",
    "reqps",
];

/// Fields that the schema leaves to the plugin of the data source. Of a query, and of an annotation (Grafana's own Prometheus
/// plugin, packages/grafana-prometheus/src/annotations.ts).
const OF_A_QUERY: &[&str] = &[
    "refId",
    "datasource",
    "expr",
    "legendFormat",
    "format",
    "instant",
    "range",
    "editorMode",
];
const OF_AN_ANNOTATION: &[&str] = &[
    "useValueForTime",
    "titleFormat",
    "textFormat",
    "tagKeys",
    "target",
];

/// The label with which Grafana's sidecar finds dashboards (the default of its chart, `sidecar.dashboards.label`).
const SIDECAR: &str = "grafana_dashboard";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards")
}

fn all() -> BTreeMap<String, Value> {
    [rollouts::dashboard(), propagation::dashboard(), own::dashboard()]
        .iter()
        .map(|d| (format!("{}.json", d.uid), d.json()))
        .collect()
}

fn there(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| v.as_str().unwrap())
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[test]
fn the_files_are_what_their_sources_make() {
    #[expect(clippy::disallowed_methods, reason = "a test's own switch")]
    let bless = std::env::var("ZDT_BLESS").is_ok_and(|v| v == "1");
    for (name, dashboard) in all() {
        if bless {
            fs::create_dir_all(folder()).unwrap();
            let text = serde_json::to_string_pretty(&dashboard).unwrap() + "\n";
            fs::write(folder().join(&name), text).unwrap();
        }
        assert_eq!(
            there(&name),
            dashboard,
            "{name} is another: ZDT_BLESS=1 writes it"
        );
    }
}

#[test]
fn every_dashboard_is_of_the_schema_that_grafana_publishes() {
    let schemas: Value = serde_json::from_str(include_str!("dashboards/grafana.schema.json")).unwrap();
    for name in all().into_keys() {
        let mut dashboard = there(&name);
        let mut wrong = Vec::new();
        for panel in list(&dashboard, "/panels") {
            let (kind, at) = (text(panel, "type"), format!("{name}, {}", text(panel, "title")));
            if kind == "row" {
                continue;
            }
            let options = schemas
                .get(format!("{kind}.options"))
                .expect("a panel without a schema");
            wrong.extend(schema::check(
                options,
                &panel["options"],
                &format!("{at}: options"),
            ));
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            match schemas.get(format!("{kind}.fieldConfig")) {
                Some(of) => wrong.extend(schema::check(of, custom, &format!("{at}: custom"))),
                None => assert_eq!(*custom, json!({}), "{at}"),
            }
            for target in list(panel, "/targets") {
                let unknown = target
                    .as_object()
                    .unwrap()
                    .keys()
                    .filter(|k| !OF_A_QUERY.contains(&k.as_str()));
                wrong.extend(unknown.map(|k| format!("{at}: a query has no {k}")));
            }
        }
        for annotation in dashboard["annotations"]["list"].as_array_mut().unwrap() {
            annotation
                .as_object_mut()
                .unwrap()
                .retain(|k, _| !OF_AN_ANNOTATION.contains(&k.as_str()));
        }
        wrong.extend(schema::check(&schemas["dashboard"], &dashboard, &name));
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(dashboard["schemaVersion"], build::SCHEMA_VERSION);
    }
}

#[test]
fn every_panel_has_a_place_a_source_a_unit_and_says_what_to_do() {
    let mut uids = BTreeSet::new();
    for name in all().into_keys() {
        let dashboard = there(&name);
        // Grafana's limit is 40.
        let uid = text(&dashboard, "uid");
        assert!(
            (1..=40).contains(&uid.len()) && uids.insert(uid.to_owned()),
            "{name}: uid {uid}"
        );
        assert!(!text(&dashboard, "description").is_empty());
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "/panels") {
            let title = text(panel, "title");
            let at = format!("{name}, {title}");
            assert!(
                !title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()),
                "{at}: id or title"
            );
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|k| panel["gridPos"][k].as_u64().unwrap());
            assert!(
                w > 0 && h > 0 && x + w <= u64::from(build::COLUMNS),
                "{at}: {x}+{w}"
            );
            let place = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            for cell in place {
                assert!(cells.insert(cell), "{at} lies upon another panel at {cell:?}");
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(
                text(panel, "description").len() > 40,
                "{at}: what does it show, and what is to be done?"
            );
            let mut units = vec![text(&panel["fieldConfig"]["defaults"], "unit")];
            let overrides = list(panel, "/fieldConfig/overrides").iter();
            units.extend(
                overrides
                    .flat_map(|o| list(o, "/properties"))
                    .filter(|p| p["id"] == "unit")
                    .map(|p| text(p, "value")),
            );
            assert!(units.iter().all(|u| UNITS.contains(u)), "{at}: {units:?}");
            assert!(
                panel["type"] == "text" || !list(panel, "/targets").is_empty(),
                "{at}: no query"
            );
            let mut names = BTreeSet::new();
            for target in list(panel, "/targets") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{at}");
                assert!(
                    names.insert(text(target, "refId")),
                    "{at}: two queries of one name"
                );
                assert_ne!(target["instant"], target["range"], "{at}");
            }
        }
    }
}

#[test]
fn every_variable_and_every_link_leads_somewhere() {
    let mut daemons = 0;
    let uids: BTreeSet<String> = all()
        .into_keys()
        .map(|n| n.trim_end_matches(".json").to_owned())
        .collect();
    for name in all().into_keys() {
        let dashboard = there(&name);
        let variables: BTreeSet<&str> = list(&dashboard, "/templating/list")
            .iter()
            .map(|v| text(v, "name"))
            .collect();
        assert!(
            ["datasource", "namespace", "workload", "node"]
                .iter()
                .all(|v| variables.contains(v)),
            "{name}"
        );
        let text_of = dashboard.to_string();
        for used in text_of.split('$').skip(1) {
            let used = used.trim_start_matches('{');
            let end = used
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(used.len());
            let used = &used[..end];
            let built_in = used.starts_with("__");
            assert!(
                built_in || variables.contains(used),
                "{name}: ${used} is no variable"
            );
        }
        assert_eq!(
            list(&dashboard, "/annotations/list").len(),
            1,
            "{name}: rollouts are marked"
        );
        let panels = list(&dashboard, "/panels").iter();
        let overrides = panels.clone().flat_map(|p| list(p, "/fieldConfig/overrides"));
        let of_rows = overrides
            .flat_map(|o| list(o, "/properties"))
            .filter(|p| p["id"] == "links");
        let links = panels.flat_map(|p| list(p, "/links"));
        for link in links.chain(of_rows.flat_map(|p| list(p, "/value"))) {
            let to = text(link, "url");
            if let Some(at_a_daemon) = to.strip_prefix("http://${__data.fields.") {
                let (column, path) = at_a_daemon.split_once('}').unwrap();
                assert!(
                    text_of.contains(&format!("\"instance\":\"{column}\"")),
                    "{name}: {column} is no address"
                );
                let path = path.split('?').next().unwrap();
                assert!(["/", "/api/v1/report"].contains(&path), "{name}: {path}");
                daemons += 1;
            } else {
                let to = to.strip_prefix("/d/").unwrap();
                assert!(uids.contains(to.split('/').next().unwrap()), "{name}: {to}");
            }
            for field in to.split("__data.fields.").skip(1) {
                let field = &field[..field.find('}').unwrap()];
                assert!(
                    text_of.contains(&format!(":\"{field}\"")),
                    "{name}: no column {field}"
                );
            }
        }
        let tags: Vec<&str> = list(&dashboard, "/links")
            .iter()
            .flat_map(|l| texts(&l["tags"]))
            .collect();
        assert_eq!(tags, [build::TAG]);
        assert!(texts(&dashboard["tags"]).any(|t| t == build::TAG));
    }
    assert_eq!(daemons, 2, "a report and a page");
}

#[test]
fn the_kustomization_makes_a_config_map_of_each_file_that_the_sidecar_finds() {
    let text = fs::read_to_string(folder().join("kustomization.yaml")).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&text).unwrap();
    let maps = list(&kustomization, "/configMapGenerator");
    let files: BTreeSet<&str> = maps.iter().flat_map(|m| texts(&m["files"])).collect();
    let wanted = all();
    assert_eq!(files, wanted.keys().map(String::as_str).collect());
    // One each: a ConfigMap holds 1 MiB, and the sidecar writes each of its keys as a file.
    assert_eq!(maps.len(), wanted.len());
    let options = &kustomization["generatorOptions"];
    assert_eq!(options["labels"][SIDECAR], "1");
    assert_eq!(options["disableNameSuffixHash"], true);
}

#[test]
fn dashboards_and_rules_ask_for_metrics_that_the_daemon_has() {
    let root = folder().join("../..");
    let source = root.join("zdt-daemon/src/sink/metrics");
    let files = fs::read_dir(&source).unwrap().map(|f| f.unwrap().path());
    let files = files.chain([source.with_extension("rs")]).filter(|f| f.is_file());
    let declared: String = files.map(|f| fs::read_to_string(f).unwrap()).collect();
    let rules = root.join("deploy/alerts/zdt.rules.yaml");
    let asked = all().into_keys().map(|name| folder().join(name)).chain([rules]);
    let mut names = BTreeSet::new();
    for file in asked {
        let text = fs::read_to_string(file).unwrap();
        // The name of a rule has colons around the metric's.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let metrics = words.filter(|w| w.starts_with("zdt_") || w.starts_with("process_"));
        names.extend(metrics.map(str::to_owned));
    }
    for name in &names {
        let family = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        assert!(
            declared.contains(&format!("\"{family}\"")),
            "{name} is no metric of the daemon"
        );
    }
    assert!(names.len() > 25, "{names:?}");
}
