//! Boots a kernel in QEMU and runs one script in it, with this machine's files below it: what it writes is gone afterwards. Software
//! emulation: about ten times slower than outside, everywhere the same.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, write::GzEncoder};

use super::archive::{Kernel, Qemu};
use crate::{child, layout};

const INIT: &str = include_str!("init.sh");
/// What the root file system needs before it is there.
const MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];
const MEMORY_MIB: u32 = 2048;
/// Machines for one script.
const BOOTS: u32 = 3;

/// What a script did.
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// The kernel's own messages.
    pub console: String,
}

impl Outcome {
    /// The machine stopped by no fault of what ran in it: before the script had said a word, or on the breakpoint by which a kernel
    /// changes its own code (arch/x86/kernel/alternative.c text_poke_bp_batch), which the other CPU's emulation may meet behind its
    /// handler's time.
    fn is_the_emulators(&self) -> bool {
        (self.stdout.is_empty() && self.stderr.is_empty()) || self.console.contains("Oops: int3")
    }
}

/// Runs a script in a machine; where the emulator stopped it, in another one.
pub fn run(qemu: &Qemu, kernel: &Kernel, script: &str, limit: Duration) -> Result<Outcome> {
    for _ in 1..BOOTS {
        let outcome = boot(qemu, kernel, script, limit)?;
        if !outcome.is_the_emulators() {
            return Ok(outcome);
        }
        let last = outcome.console.lines().rfind(|l| l.contains("Oops"));
        eprintln!(
            "kernels: {} was stopped by its emulator ({}), once more",
            kernel.release,
            last.unwrap_or("it said nothing").trim()
        );
    }
    boot(qemu, kernel, script, limit)
}

fn boot(qemu: &Qemu, kernel: &Kernel, script: &str, limit: Duration) -> Result<Outcome> {
    let dir = kernel.root.join("run");
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir)?;
    let vmlinux = vmlinux(kernel)?;
    let initrd = dir.join("initrd");
    fs::write(&initrd, initramfs(kernel, script)?)?;
    let socket = dir.join("fs.socket");
    let files = [dir.join("console"), dir.join("stdout"), dir.join("stderr")];
    let mut share = Running(
        with_libraries(qemu, &qemu.virtiofsd)
            .arg(format!("--socket-path={}", socket.display()))
            .args([
                "-o",
                "source=/",
                "-o",
                "cache=auto",
                "-o",
                "sandbox=chroot",
                "--thread-pool-size=1",
            ])
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("virtiofsd"))?)
            .spawn()
            .context("cannot start virtiofsd")?,
    );
    wait_for(&socket)?;
    let mut command = with_libraries(qemu, &qemu.system);
    for folder in &qemu.firmware {
        command.arg("-L").arg(folder);
    }
    // /dev/kvm may be there and not work, and a run would not be the same everywhere. CMPXCHG16B of QEMU 7.2 breaks guests.
    command
        .args(["-accel", "tcg", "-cpu", "max,la57=off,-cx16", "-smp", "2", "-m"])
        .arg(format!("{MEMORY_MIB}M"))
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "pc,memory-backend=mem",
        ])
        .arg("-object")
        .arg(format!("memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on"))
        .arg("-chardev")
        .arg(format!("socket,id=fs,path={}", socket.display()))
        .args([
            "-device",
            "vhost-user-fs-pci,chardev=fs,tag=host",
            "-device",
            "virtio-rng-pci",
        ]);
    for file in &files {
        command.arg("-serial").arg(format!("file:{}", file.display()));
    }
    command
        .arg("-kernel")
        .arg(vmlinux)
        .arg("-initrd")
        .arg(&initrd)
        .args([
            "-append", // A busy machine looks to the kernel like one whose timer does not work.
            "console=ttyS0 quiet panic=-1 oops=panic no_timer_check",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("qemu"))?);
    let mut machine = Running(command.spawn().context("cannot start QEMU")?);
    machine.wait(limit)?;
    share.end();
    let [console, stdout, stderr] = files.map(|file| fs::read(file).unwrap_or_default());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\r', "");
    Ok(Outcome {
        stdout: text(stdout),
        stderr: text(stderr),
        console: text(console),
    })
}

/// A program that ends with us.
struct Running(Child);

impl Running {
    /// Returns when it has ended, or when its time is over: then it is ended.
    fn wait(&mut self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.0.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn with_libraries(qemu: &Qemu, program: &Path) -> Command {
    let mut command = child::command(program);
    if let Some(libraries) = &qemu.libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

fn wait_for(socket: &Path) -> Result<()> {
    for _ in 0..100 {
        if socket.exists() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "virtiofsd makes no socket; its words are in {}",
        socket.with_file_name("virtiofsd").display()
    )
}

/// The kernel as an ELF file: to uncompress it takes an emulated machine long.
pub fn vmlinux(kernel: &Kernel) -> Result<PathBuf> {
    let file = kernel.root.join("vmlinux");
    if file.is_file() {
        return Ok(file);
    }
    let boot = kernel
        .root
        .join("boot")
        .join(format!("vmlinuz-{}", kernel.release));
    let image = [boot, kernel.modules().join("vmlinuz")]
        .into_iter()
        .find(|f| f.is_file());
    let image = fs::read(image.context("the kernel's package has no vmlinuz")?)?;
    let (program, arguments, payload) =
        payload(&image).context("this vmlinuz is packed in an unknown way")?;
    fs::write(&file, through(program, arguments, payload)?)?;
    Ok(file)
}

/// What a bzImage carries, and what unpacks it (Documentation/arch/x86/boot.rst: setup_sects at 0x1f1, payload_offset and
/// payload_length at 0x248, counted from the protected-mode code).
fn payload(image: &[u8]) -> Option<(&'static str, &'static [&'static str], &[u8])> {
    let number = |at: usize| -> Option<usize> {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = usize::from(*image.get(0x1f1)?);
    let start = (if sectors == 0 { 4 } else { sectors } + 1) * 512 + number(0x248)?;
    let payload = image.get(start..start + number(0x24c)?)?;
    let (program, arguments): (_, &[&str]) = match payload.get(..4)? {
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", &["-dcq"]),
        [0xfd, b'7', b'z', b'X'] => ("xz", &["-dc", "--single-stream"]),
        [0x02, 0x21, 0x4c, 0x18] => ("lz4", &["-dc"]),
        [0x1f, 0x8b, ..] => ("gzip", &["-dc"]),
        _ => return None,
    };
    Some((program, arguments, payload))
}

/// What a program prints for an input. Behind a kernel's payload its size may follow, at which some complain when they have
/// written all.
fn through(program: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut child = child::command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else {
        bail!("{program} has no pipes");
    };
    let mut output = Vec::new();
    thread::scope(|scope| {
        // It may not want the last bytes.
        scope.spawn(move || drop(stdin.write_all(input)));
        stdout.read_to_end(&mut output)
    })?;
    child.wait()?;
    if output.is_empty() {
        bail!("{program} printed nothing");
    }
    Ok(output)
}

/// A module, unpacked; its file may have an ending more.
pub fn module(path: &Path) -> Result<Vec<u8>> {
    let endings = ["", ".xz", ".zst"].iter();
    let mut files = endings.map(|more| PathBuf::from(format!("{}{more}", path.display())));
    let file = files.find(|file| file.is_file());
    let file = file.with_context(|| format!("there is no {}", path.display()))?;
    let bytes = fs::read(&file)?;
    match file.extension().and_then(|e| e.to_str()) {
        Some("xz") => through("xz", &["-dc"], &bytes),
        Some("zst") => through("zstd", &["-dcq"], &bytes),
        _ => Ok(bytes),
    }
}

/// The first file system: busybox, the modules for the second one, and the script.
fn initramfs(kernel: &Kernel, script: &str) -> Result<Vec<u8>> {
    let mut archive = Cpio::default();
    for dir in ["bin", "m", "proc", "sys", "dev", "lower", "upper", "root"] {
        archive.add(dir, 0o040_755, &[]);
    }
    archive.add(
        "bin/busybox",
        0o100_755,
        &fs::read("/bin/busybox").context("no /bin/busybox")?,
    );
    archive.add("init", 0o100_755, INIT.as_bytes());
    archive.add("vm.sh", 0o100_644, script.as_bytes());
    let environment = format!(
        "RELEASE='{}'\nMODULES='{}'\nDIR='{}'\nPATH='/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'\n",
        kernel.release,
        kernel.modules().display(),
        layout::root().display()
    );
    archive.add("vm.env", 0o100_644, environment.as_bytes());
    let mut modules = Vec::new();
    for name in MODULES {
        let said = child::stdout(
            child::command("/sbin/modprobe")
                .arg("-d")
                .arg(&kernel.root)
                .args(["-S", &kernel.release, "--show-depends", name]),
        )?;
        for line in said.lines().filter_map(|l| l.strip_prefix("insmod ")) {
            let file = line.trim().to_owned();
            if !modules.contains(&file) {
                modules.push(file);
            }
        }
    }
    for (number, file) in modules.iter().enumerate() {
        let plain = module(Path::new(file))?;
        archive.add(&format!("m/{number:03}.ko"), 0o100_644, &plain);
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&archive.finish())?;
    Ok(packed.finish()?)
}

/// The format of the kernel's first file system (Documentation/driver-api/early-userspace/buffer-format.rst, newc).
#[derive(Default)]
struct Cpio(Vec<u8>);

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        let inode = self.0.len();
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            0,
            0,
            1,
            0,
            bytes.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        );
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.pad();
        self.0.extend_from_slice(bytes);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_the_kernels_has_headers_of_110_bytes_at_boundaries_of_4() {
        let mut archive = Cpio::default();
        archive.add("a", 0o100_644, b"hello");
        let bytes = archive.finish();
        assert!(bytes.starts_with(b"070701"));
        assert_eq!(&bytes[112..117], b"hello");
        assert_eq!(&bytes[120..126], b"070701");
        assert!(bytes.len().is_multiple_of(4));
    }
}
