//! Debian's kernels and QEMU, from the package archives that this machine's apt knows. The machine's own packages and lists stay
//! as they are: everything is unpacked below `target/kernels`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{child, layout};

/// Archive and suite, in which the kernels of some series are.
const SUITES: &[(&str, &str)] = &[
    ("debian-security", "bullseye-security"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian", "trixie-backports"),
];

/// The flavour without drivers for hardware: small, with BTF, kprobes and every netfilter module that kube-proxy needs.
const FLAVOUR: &str = "cloud-amd64";

/// A kernel's files.
pub struct Kernel {
    pub series: String,
    pub release: String,
    /// Where its packages are unpacked.
    pub root: PathBuf,
}

impl Kernel {
    pub fn modules(&self) -> PathBuf {
        self.root.join("usr/lib/modules").join(&self.release)
    }
}

/// Where everything is kept.
pub fn folder() -> PathBuf {
    layout::target().join("kernels")
}

/// The newest kernel of each series; fetched once, until `target/kernels` is removed.
pub fn kernels(series: &[String]) -> Result<Vec<Kernel>> {
    let missing = series.iter().any(|s| found(s).is_none());
    let apt = if missing { Some(Apt::open()?) } else { None };
    let fetch = |series: &String| match (found(series), &apt) {
        (Some(kernel), _) => Ok(kernel),
        (None, Some(apt)) => apt.kernel(series),
        (None, None) => bail!("the kernel {series} went away"),
    };
    series.iter().map(fetch).collect()
}

fn found(series: &str) -> Option<Kernel> {
    let root = folder().join(series);
    let release = fs::read_to_string(root.join("release")).ok()?;
    Some(Kernel {
        series: series.to_owned(),
        release,
        root,
    })
}

/// An apt with its own lists and no packages installed.
struct Apt {
    home: PathBuf,
    packages: Vec<String>,
}

impl Apt {
    fn open() -> Result<Self> {
        let home = folder().join("apt");
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(dir))?;
        }
        fs::write(home.join("status"), "")?;
        let sites = child::stdout(child::command("apt-get").args(["indextargets", "--format", "$(SITE)"]))?;
        let lines: Result<Vec<String>> = SUITES
            .iter()
            .map(|(archive, suite)| {
                let site = sites.lines().find(|s| s.trim_end_matches('/').ends_with(archive));
                let site = site
                    .with_context(|| format!("apt knows no archive of {archive}: add it to its sources"))?;
                Ok(format!(
                    "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {site} {suite} main\n"
                ))
            })
            .collect();
        fs::write(home.join("sources.list"), lines?.concat())?;
        let mut apt = Self {
            home,
            packages: Vec::new(),
        };
        child::stdout(apt.command("apt-get").args(["-qq", "update"]))
            .context("Debian's lists cannot be read")?;
        let names = child::stdout(apt.command("apt-cache").arg("pkgnames"))?;
        apt.packages = names.lines().map(str::to_owned).collect();
        Ok(apt)
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = child::command(program);
        for (option, file) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State", "state"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", self.home.join(file).display()));
        }
        for option in [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
            "APT::Sandbox::User=root",
        ] {
            command.args(["-o", option]);
        }
        command
    }

    fn kernel(&self, series: &str) -> Result<Kernel> {
        let image = newest(&self.packages, series)
            .with_context(|| format!("Debian has no kernel of the series {series} any more"))?;
        let release = image.trim_start_matches("linux-image-").to_owned();
        // Since 6.17 the image's package is empty and names others.
        let binary = format!("linux-binary-{release}");
        let packages = if self.packages.contains(&binary) {
            vec![
                binary,
                format!("linux-modules-{release}"),
                format!("linux-base-{release}"),
            ]
        } else {
            vec![image.to_owned()]
        };
        eprintln!("kernels: fetching {release}");
        let root = folder().join(series);
        let debs = self.home.join("debs");
        drop(fs::remove_dir_all(&debs));
        fs::create_dir_all(&debs)?;
        child::stdout(
            self.command("apt-get")
                .current_dir(&debs)
                .args(["-qq", "download"])
                .args(&packages),
        )?;
        unpack(&debs, &root)?;
        // Before the merged /usr, modules are in /lib.
        if !root.join("usr/lib/modules").is_dir() {
            fs::create_dir_all(root.join("usr/lib"))?;
            fs::rename(root.join("lib/modules"), root.join("usr/lib/modules"))?;
        }
        drop(fs::remove_dir_all(root.join("lib")));
        std::os::unix::fs::symlink("usr/lib", root.join("lib"))?;
        child::stdout(child::command("/sbin/depmod").arg("-b").arg(&root).arg(&release))?;
        fs::write(root.join("release"), &release)?;
        Ok(Kernel {
            series: series.to_owned(),
            release,
            root,
        })
    }
}

/// The package of a series' newest kernel.
fn newest<'a>(packages: &'a [String], series: &str) -> Option<&'a str> {
    let of = |name: &'a str| -> Option<(Vec<u32>, &'a str)> {
        let release = name.strip_prefix("linux-image-")?.strip_suffix(FLAVOUR)?;
        let rest = release.strip_prefix(series)?.strip_prefix('.')?;
        // Only digits, dots and the mark of a backport: not the packages of debug symbols or unsigned ones.
        let numbers = rest
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok());
        Some((numbers.collect(), name))
    };
    packages.iter().filter_map(|p| of(p)).max().map(|(_, name)| name)
}

/// Programs of a QEMU that is used here only.
pub struct Qemu {
    pub system: PathBuf,
    pub virtiofsd: PathBuf,
    /// Folders of firmware; of libraries.
    pub firmware: Vec<PathBuf>,
    pub libraries: Option<String>,
}

/// The machine's own QEMU, or one that is unpacked beside it: to install it may take away what is there, when parts of another
/// QEMU are.
pub fn qemu() -> Result<Qemu> {
    let virtiofsd = |root: &Path| {
        let file = root.join("usr/lib/qemu/virtiofsd");
        file.is_file().then_some(file)
    };
    if let (Some(system), Some(virtiofsd)) = (child::find("qemu-system-x86_64"), virtiofsd(Path::new("/"))) {
        return Ok(Qemu {
            system,
            virtiofsd,
            firmware: Vec::new(),
            libraries: None,
        });
    }
    let root = folder().join("qemu");
    if virtiofsd(&root).is_none() {
        eprintln!("kernels: fetching QEMU");
        let debs = folder().join("qemu-debs");
        fs::create_dir_all(debs.join("partial"))?;
        child::stdout(
            child::command("apt-get")
                .args([
                    "install",
                    "--download-only",
                    "-y",
                    "-qq",
                    "--no-install-recommends",
                ])
                .arg("-o")
                .arg(format!("Dir::Cache::archives={}", debs.display()))
                // Nothing is installed.
                .args([
                    "-o",
                    "Debug::NoLocking=1",
                    "-o",
                    "APT::Sandbox::User=root",
                    "qemu-system-x86",
                ]),
        )
        .context("QEMU cannot be fetched: is apt's list of packages up to date (apt-get update)?")?;
        unpack(&debs, &root)?;
        fs::remove_dir_all(&debs)?;
    }
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
    let libraries = std::env::join_paths(libraries).context("the repository's path has a colon")?;
    Ok(Qemu {
        system: root.join("usr/bin/qemu-system-x86_64"),
        virtiofsd: virtiofsd(&root).context("this QEMU has no virtiofsd")?,
        firmware: ["usr/share/qemu", "usr/share/seabios"]
            .map(|dir| root.join(dir))
            .into(),
        libraries: Some(libraries.to_string_lossy().into_owned()),
    })
}

fn unpack(debs: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(debs)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|e| e == "deb") {
            child::run(child::command("dpkg").arg("-x").arg(&deb).arg(root))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn newest_is_by_number_and_of_the_series_alone() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(newest(&packages, "6.1"), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(
            newest(&packages, "7"),
            Some("linux-image-7.3.4+deb13-cloud-amd64")
        );
        assert_eq!(newest(&packages, "5.10"), None);
    }
}
