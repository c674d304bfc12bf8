//! `cargo xtask image`: a container image without a registry or a container engine: a static daemon on nothing, as an OCI
//! archive for `ctr images import`, `kind load image-archive` and `docker load`.
#![expect(
    clippy::disallowed_methods,
    reason = "SOURCE_DATE_EPOCH is how the one who builds names the time"
)]

mod elf;
mod oci;
mod sbom;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use self::oci::{File, Image};
use crate::{build, child, layout};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROFILE: &str = "image";

#[derive(clap::Args)]
pub struct Args {
    /// The lab's image instead: its test server and load client, for try-outs.
    #[arg(long)]
    lab: bool,
    /// Where to put the archive and, beside it, the list of what is inside (CycloneDX); by default target/oci.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What an image carries.
struct Carries {
    package: &'static str,
    binary: &'static str,
    title: &'static str,
    description: &'static str,
}

const DAEMON: Carries = Carries {
    package: "zdt-daemon",
    binary: "zdt",
    title: "zdt",
    description: "The zero-downtime tracker: names the cause of each request that a rollout failed",
};

const LAB: Carries = Carries {
    package: "zdt-tests",
    binary: "zdt-lab",
    title: "zdt-lab",
    description: "The test server and the load client of zdt's lab",
};

pub fn run(args: &Args) -> Result<ExitCode> {
    let carries = if args.lab { LAB } else { DAEMON };
    let target = child::host()?;
    let architecture = architecture(&target)?;
    build::ebpf()?;
    let binary = binary(&carries, &target)?;
    let bytes = fs::read(&binary).with_context(|| format!("cannot read {}", binary.display()))?;
    elf::must_be_static(&bytes).with_context(|| binary.display().to_string())?;

    let sbom = sbom::of(carries.package, &target)?;
    let licence = |name: &str| {
        let text = fs::read(layout::root().join(name)).with_context(|| format!("cannot read {name}"))?;
        Ok::<_, anyhow::Error>(File::plain(&format!("licenses/{name}"), text))
    };
    let image = Image {
        name: carries.title.to_owned(),
        version: VERSION.to_owned(),
        architecture,
        entrypoint: format!("/{}", carries.binary),
        labels: labels(&carries)?,
        created_s: created_s()?,
        files: vec![
            File::program(carries.binary, bytes),
            licence("LICENSE-APACHE")?,
            licence("LICENSE-MIT")?,
            File::plain(&format!("sbom/{}.cdx.json", carries.title), sbom.clone()),
        ],
    };
    let archive = image.archive()?;
    let out = args.out.clone().unwrap_or_else(|| layout::target().join("oci"));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let name = format!("{}-{VERSION}-{architecture}", carries.title);
    let (tar, list) = (
        out.join(format!("{name}.oci.tar")),
        out.join(format!("{name}.cdx.json")),
    );
    fs::write(&tar, &archive).with_context(|| format!("cannot write {}", tar.display()))?;
    fs::write(&list, sbom).with_context(|| format!("cannot write {}", list.display()))?;
    eprintln!(
        "image: {}:{VERSION}, {:.1} MB in {}\n\
         image: what is inside: {}\n\
         image: `ctr -n k8s.io images import {name}.oci.tar`, or `kind load image-archive {name}.oci.tar`",
        carries.title,
        archive.len() as f64 / 1e6,
        tar.display(),
        list.display(),
    );
    Ok(ExitCode::SUCCESS)
}

/// As images name it (GOARCH).
fn architecture(target: &str) -> Result<&'static str> {
    match target {
        "x86_64-unknown-linux-gnu" => Ok("amd64"),
        "aarch64-unknown-linux-gnu" => Ok("arm64"),
        other => {
            bail!("no image for {other}: build on x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu")
        }
    }
}

/// Builds it with glibc inside, and with no path of this machine in it.
fn binary(carries: &Carries, target: &str) -> Result<PathBuf> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(build::without_paths(&layout::root())?);
    let mut cargo = child::cargo();
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args(["build", "--locked", "--profile", PROFILE, "--target", target])
        .args(["--package", carries.package, "--bin", carries.binary])
        .arg("--target-dir")
        .arg(layout::target());
    let (result, seconds) = child::timed(|| child::run(&mut cargo));
    result?;
    eprintln!("image: {} in {seconds:.1} s", carries.binary);
    Ok(layout::target().join(target).join(PROFILE).join(carries.binary))
}

/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md>; the time is added to them.
fn labels(carries: &Carries) -> Result<BTreeMap<String, String>> {
    let revision = git(&["rev-parse", "HEAD"])?;
    let labels = [
        ("title", carries.title),
        ("description", carries.description),
        ("version", VERSION),
        ("revision", &revision),
        ("licenses", "MIT OR Apache-2.0"),
    ];
    Ok(labels
        .into_iter()
        .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
        .collect())
}

/// The time of everything inside: `SOURCE_DATE_EPOCH` (reproducible-builds.org), or the commit's.
fn created_s() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(given) => given,
        Err(_) => git(&["log", "-1", "--format=%ct"])?,
    };
    text.parse()
        .with_context(|| format!("{text:?} are no seconds since 1970"))
}

fn git(args: &[&str]) -> Result<String> {
    let said = child::stdout(child::command("git").args(args))
        .context("the image names its commit: build it in a clone of the repository")?;
    Ok(said.trim().to_owned())
}

/// An object with one more field.
fn with(mut object: Value, field: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    object
}

/// For the errors of those who read a file of the repository.
fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
