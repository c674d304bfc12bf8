//! What is inside the binary, as CycloneDX 1.5 JSON: the crates that are linked into it and into the eBPF object that it
//! embeds, with versions, licences and checksums.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{text, with};
use crate::{child, layout};

/// Name and version to the checksum of the lock file.
type Checksums = BTreeMap<(String, String), String>;

/// Of a package of the workspace, built for a target.
pub fn of(package: &str, target: &str) -> Result<Vec<u8>> {
    let root = layout::root();
    let mut found = Crates::default();
    let main = found.read(&root.join("Cargo.toml"), package, target)?;
    let object = found.read(&root.join("zdt-ebpf/Cargo.toml"), "zdt-ebpf", layout::BPF_TARGET)?;
    found.depends.entry(main.clone()).or_default().insert(object);
    let mut checksums = checksums(&text(&root.join("Cargo.lock"))?);
    checksums.extend(self::checksums(&text(&root.join("zdt-ebpf/Cargo.lock"))?));
    Ok(serde_json::to_vec_pretty(&found.document(&main, &checksums)?)?)
}

#[derive(Default)]
struct Crates {
    /// Package URL to the package, as `cargo metadata` has it.
    packages: BTreeMap<String, Value>,
    depends: BTreeMap<String, BTreeSet<String>>,
}

impl Crates {
    /// Adds a package and everything that is linked with it; returns its URL.
    fn read(&mut self, manifest: &Path, package: &str, target: &str) -> Result<String> {
        let mut cargo = child::cargo();
        cargo.args(["metadata", "--locked", "--format-version", "1"]);
        // The target says which dependencies there are; the kernel half's is no target that cargo knows.
        if target != layout::BPF_TARGET {
            cargo.args(["--filter-platform", target]);
        }
        cargo.arg("--manifest-path").arg(manifest);
        let said = child::stdout(&mut cargo)?;
        let metadata: Value = serde_json::from_str(&said).context("`cargo metadata` printed no JSON")?;
        self.add(&metadata, package)
            .with_context(|| format!("`cargo metadata` does not tell the dependencies of {package}"))
    }

    fn add(&mut self, metadata: &Value, package: &str) -> Option<String> {
        let by_id: BTreeMap<&str, &Value> = metadata
            .get("packages")?
            .as_array()?
            .iter()
            .filter_map(|p| Some((p.get("id")?.as_str()?, p)))
            .collect();
        let nodes: BTreeMap<&str, &Value> = metadata
            .pointer("/resolve/nodes")?
            .as_array()?
            .iter()
            .filter_map(|n| Some((n.get("id")?.as_str()?, n)))
            .collect();
        let (first, main) = by_id
            .iter()
            .find(|(_, p)| p.get("name").and_then(Value::as_str) == Some(package))?;
        let mut open = vec![*first];
        let mut seen = BTreeSet::from([*first]);
        while let Some(id) = open.pop() {
            let this = url(by_id.get(id)?)?;
            self.packages.insert(this.clone(), (*by_id.get(id)?).clone());
            let needs = self.depends.entry(this).or_default();
            for dependency in nodes.get(id)?.get("deps")?.as_array()? {
                let id = dependency.get("pkg")?.as_str()?;
                // Only those that are linked: no build scripts, no tests, and what runs in the compiler is not in the binary.
                let linked = dependency
                    .get("dep_kinds")?
                    .as_array()?
                    .iter()
                    .any(|k| k.get("kind").is_some_and(Value::is_null));
                if !linked || is_macro(by_id.get(id)?) {
                    continue;
                }
                needs.insert(url(by_id.get(id)?)?);
                if seen.insert(id) {
                    open.push(id);
                }
            }
        }
        url(main)
    }

    fn document(&self, main: &str, checksums: &Checksums) -> Result<Value> {
        let mut components = Vec::new();
        for (url, package) in &self.packages {
            components
                .push(component(url, package, checksums).with_context(|| format!("{url} has no name"))?);
        }
        let of_main = |c: &Value| c.get("bom-ref").and_then(Value::as_str) == Some(main);
        let (mains, libraries): (Vec<Value>, Vec<Value>) = components.into_iter().partition(of_main);
        let main = mains
            .into_iter()
            .next()
            .context("the package itself is missing")?;
        let metadata = json!({"component": with(main, "type", "application".into())});
        let dependencies: Vec<Value> = self
            .depends
            .iter()
            .map(|(url, needs)| json!({"ref": url, "dependsOn": needs}))
            .collect();
        // Without a serial number and a time: the same contents are the same document.
        Ok(json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": metadata,
            "components": libraries, "dependencies": dependencies,
        }))
    }
}

/// <https://github.com/package-url/purl-spec>
fn url(package: &Value) -> Option<String> {
    let field = |name: &str| package.get(name)?.as_str();
    Some(format!("pkg:cargo/{}@{}", field("name")?, field("version")?))
}

fn is_macro(package: &Value) -> bool {
    let targets = package.get("targets").and_then(Value::as_array);
    let kinds = targets
        .into_iter()
        .flatten()
        .filter_map(|t| t.get("kind")?.as_array());
    kinds.flatten().any(|kind| kind == "proc-macro")
}

fn component(url: &str, package: &Value, checksums: &Checksums) -> Option<Value> {
    let field = |name: &str| package.get(name)?.as_str().map(str::to_owned);
    let (name, version) = (field("name")?, field("version")?);
    let mut component = json!({
        "type": "library", "bom-ref": url, "purl": url, "name": name, "version": version,
    });
    if let Some(licence) = field("license") {
        // The old way of crates.io to write OR.
        let expression = licence.replace('/', " OR ");
        component = with(component, "licenses", json!([{"expression": expression}]));
    }
    if let Some(checksum) = checksums.get(&(name, version)) {
        component = with(
            component,
            "hashes",
            json!([{"alg": "SHA-256", "content": checksum}]),
        );
    }
    Some(component)
}

/// Of a lock file: each `[[package]]` has its name and version before its checksum.
fn checksums(lock: &str) -> Checksums {
    let mut checksums = Checksums::new();
    let (mut name, mut version) = (String::new(), String::new());
    for line in lock.lines() {
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        let value = value.trim_matches('"').to_owned();
        match key {
            "name" => name = value,
            "version" => version = value,
            "checksum" => {
                checksums.insert((name.clone(), version.clone()), value);
            }
            _ => {}
        }
    }
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: &str) -> Value {
        json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "targets": [{"kind": [kind]}]})
    }

    #[test]
    fn only_what_is_linked_is_listed() {
        let dep = |on: &str, kind: Value| json!({"pkg": on, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("zdt", "bin"), package("linked", "lib"), package("deep", "lib"),
                         package("derive", "proc-macro"), package("tests", "lib"), package("stranger", "lib")],
            "resolve": {"nodes": [
                {"id": "zdt", "deps": [dep("linked", Value::Null), dep("derive", Value::Null), dep("tests", "dev".into())]},
                {"id": "linked", "deps": [dep("deep", Value::Null)]},
                {"id": "deep", "deps": []}, {"id": "derive", "deps": []}, {"id": "tests", "deps": []},
                {"id": "stranger", "deps": []},
            ]},
        });
        let mut found = Crates::default();
        let main = found.add(&metadata, "zdt").unwrap();
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let document = found.document(&main, &checksums(lock)).unwrap();
        assert_eq!(document["metadata"]["component"]["name"], "zdt");
        let names: Vec<&Value> = document["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["name"])
            .collect();
        assert_eq!(names, ["deep", "linked"]);
        let deep = &document["components"][0];
        assert_eq!(deep["hashes"][0]["content"], "abc");
        assert_eq!(deep["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(deep["purl"], "pkg:cargo/deep@1.0.0");
    }
}
