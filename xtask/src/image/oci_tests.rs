//! The archive, read back as others read it.

use std::io::Read as _;

use super::*;

fn image() -> Image {
    Image {
        name: "zdt".into(),
        version: "0.1.0".into(),
        architecture: "amd64",
        entrypoint: "/zdt".into(),
        labels: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "zdt".to_owned())]),
        created_s: 1_700_000_000,
        files: vec![
            File::program("zdt", b"a program".to_vec()),
            File::plain("licenses/LICENSE-MIT", b"a licence".to_vec()),
        ],
    }
}

/// Path to mode, time and contents, in the archive's order.
fn unpacked(tar: &[u8]) -> Vec<(String, u32, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let (mode, time) = (entry.header().mode().unwrap(), entry.header().mtime().unwrap());
        assert_eq!(
            (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
            (0, 0)
        );
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (path, mode, time, bytes)
    });
    entries.collect()
}

fn blob(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
    let bytes = files[&place(descriptor)].clone();
    assert_eq!(descriptor["digest"], digest(&bytes));
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

#[test]
fn every_blob_is_found_by_its_digest_from_the_index_down_to_the_program() {
    let archive = image().archive().unwrap();
    let files: BTreeMap<String, Vec<u8>> = unpacked(&archive)
        .into_iter()
        .map(|(path, _, _, bytes)| (path, bytes))
        .collect();
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let manifest: Value = serde_json::from_slice(&blob(&files, &index["manifests"][0])).unwrap();
    let config: Value = serde_json::from_slice(&blob(&files, &manifest["config"])).unwrap();
    assert_eq!(config["config"]["Entrypoint"], json!(["/zdt"]));
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let layer = blob(&files, &manifest["layers"][0]);
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&layer[..])
        .read_to_end(&mut tar)
        .unwrap();
    assert_eq!(config["rootfs"]["diff_ids"], json!([digest(&tar)]));
    let [folder, licence, program] = unpacked(&tar).try_into().unwrap();
    assert_eq!((folder.0.as_str(), folder.1), ("licenses/", 0o755));
    assert_eq!((licence.0.as_str(), licence.1), ("licenses/LICENSE-MIT", 0o644));
    assert_eq!(
        program,
        ("zdt".into(), 0o755, 1_700_000_000, b"a program".to_vec())
    );
    let docker: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(docker[0]["Config"], place(&manifest["config"]));
    assert_eq!(docker[0]["RepoTags"], json!(["zdt:0.1.0"]));
}

#[test]
fn same_contents_are_the_same_bytes_in_whatever_order_they_come() {
    let mut turned = image();
    turned.files.reverse();
    let archive = image().archive().unwrap();
    assert_eq!(archive, turned.archive().unwrap());
    let mut other = image();
    other.files[0].bytes.push(b'!');
    assert_ne!(archive, other.archive().unwrap());
}
