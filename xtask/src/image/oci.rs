//! An image of one layer as an OCI image layout in a tar archive; the same contents give the same bytes.
//! <https://github.com/opencontainers/image-spec>: image-layout.md, manifest.md, config.md.

use std::{collections::BTreeMap, io::Write as _};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::with;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image is made of.
pub struct Image {
    pub name: String,
    pub version: String,
    pub architecture: &'static str,
    pub entrypoint: String,
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970; the time of every file.
    pub created_s: u64,
    pub files: Vec<File>,
}

/// A file of root's that everybody may read.
pub struct File {
    path: String,
    mode: u32,
    bytes: Vec<u8>,
}

impl File {
    /// `path` is relative to the root.
    pub fn plain(path: &str, bytes: Vec<u8>) -> Self {
        let path = path.to_owned();
        let mode = 0o644;
        Self { path, mode, bytes }
    }

    pub fn program(path: &str, bytes: Vec<u8>) -> Self {
        let mode = 0o755;
        Self {
            mode,
            ..Self::plain(path, bytes)
        }
    }
}

impl Image {
    /// The archive.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut blobs = Vec::new();
        let layer = tar(&self.files, self.created_s)?;
        let diff_id = digest(&layer);
        let layer = described(&mut blobs, LAYER, gzip(&layer)?);
        let created = jiff::Timestamp::from_second(i64::try_from(self.created_s)?)
            .context("a time out of reach")?
            .to_string();
        let mut labels = self.labels.clone();
        labels.insert("org.opencontainers.image.created".to_owned(), created.clone());
        let config = json!({
            "created": created,
            "architecture": self.architecture,
            "os": "linux",
            // Not another user: Kubernetes gives capabilities to uid 0 only, it sets no ambient ones.
            "config": {"User": "0:0", "Entrypoint": [self.entrypoint], "WorkingDir": "/", "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": created, "created_by": "cargo xtask image"}],
        });
        let config = described(&mut blobs, CONFIG, serde_json::to_vec(&config)?);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer], "annotations": labels,
        });
        let manifest = described(&mut blobs, MANIFEST, serde_json::to_vec(&manifest)?);
        let reference = format!("{}:{}", self.name, self.version);
        let platform = json!({"architecture": self.architecture, "os": "linux"});
        // containerd takes the name from its own annotation (pkg/oci, `io.containerd.image.name`), other tools the tag from
        // the specification's.
        let names = json!({
            "io.containerd.image.name": format!("docker.io/library/{reference}"),
            "org.opencontainers.image.ref.name": self.version,
        });
        let manifest = with(with(manifest, "platform", platform), "annotations", names);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        // Not the specification's: `kind load image-archive` and `docker load` read the name in it.
        let docker = json!([{
            "Config": place(&config), "RepoTags": [reference], "Layers": [place(&layer)],
        }]);
        let mut files: Vec<File> = blobs
            .into_iter()
            .map(|(digest, bytes)| File::plain(&format!("blobs/sha256/{digest}"), bytes))
            .collect();
        files.push(File::plain("index.json", serde_json::to_vec(&index)?));
        files.push(File::plain("manifest.json", serde_json::to_vec(&docker)?));
        let version = json!({"imageLayoutVersion": "1.0.0"});
        files.push(File::plain("oci-layout", serde_json::to_vec(&version)?));
        tar(&files, self.created_s)
    }
}

/// Keeps a blob, and describes it (descriptor.md).
fn described(blobs: &mut Vec<(String, Vec<u8>)>, media_type: &str, bytes: Vec<u8>) -> Value {
    let digest = digest(&bytes);
    let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    blobs.push((digest.trim_start_matches("sha256:").to_owned(), bytes));
    descriptor
}

fn place(descriptor: &Value) -> String {
    let digest = descriptor.get("digest").and_then(Value::as_str);
    digest.unwrap_or_default().replacen("sha256:", "blobs/sha256/", 1)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // No name and no time in its head.
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// Sorted by path, folders before what is in them, everything root's and of the same time.
fn tar(files: &[File], time_s: u64) -> Result<Vec<u8>> {
    let mut entries: BTreeMap<String, Option<&File>> = BTreeMap::new();
    for file in files {
        for (at, _) in file.path.match_indices('/') {
            entries.insert(file.path.split_at(at + 1).0.to_owned(), None);
        }
        entries.insert(file.path.clone(), Some(file));
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (path, file) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time_s);
        header.set_mode(file.map_or(0o755, |f| f.mode));
        header.set_entry_type(if file.is_some() {
            tar::EntryType::Regular
        } else {
            tar::EntryType::Directory
        });
        let bytes = file.map_or(&[][..], |f| &f.bytes);
        header.set_size(u64::try_from(bytes.len())?);
        tar.append_data(&mut header, &path, bytes)
            .with_context(|| format!("{path} cannot be packed"))?;
    }
    Ok(tar.into_inner()?)
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
