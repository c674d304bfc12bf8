//! A record whose disk is full, or which nobody reads.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::OpenOptionsExt as _,
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount, umount},
    sys::stat::Mode,
    unistd::mkfifo,
};

use super::{Running, api, zdt::Dir};

/// A file system of its own, of so many bytes; gone with it.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(at: std::path::PathBuf, bytes: u32) -> Self {
        fs::create_dir(&at).unwrap();
        let size = format!("size={bytes}");
        mount(
            Some("tmpfs"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .unwrap();
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount(&self.0);
    }
}

/// More pods than a pipe, or the disk below, has room for.
fn many_pods() -> api::Store {
    let store = api::Store::default();
    for n in 0..250 {
        store.put("pods", api::pod(&format!("web-{n}"), &format!("10.0.0.{n}")));
    }
    store
}

#[test]
fn full_disk_costs_the_record_until_there_is_room_and_never_the_daemon() {
    let dir = Dir::new("full");
    let disk = Disk::new(dir.0.join("disk"), 1 << 20);
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; (1 << 20) - (16 << 10)]).unwrap();
    let server = api::Api::start(&many_pods());
    let record = disk.0.join("record");
    let kubeconfig = api::kubeconfig(&dir.0, server.addr);
    let mut run = Running::start(&kubeconfig, &["--record", record.to_str().unwrap()]);
    let line = run.until("the record cannot be written");
    assert!(
        line.contains("No space left") && line.contains("tries again"),
        "{line}"
    );
    fs::remove_file(&filler).unwrap();
    run.until("the record can be written again");
    assert_eq!(run.stop(), Some(0));
}

/// The value of a metric without labels.
fn metric(addr: &str, name: &str) -> f64 {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    write!(stream, "GET /metrics HTTP/1.0\r\nhost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

#[test]
fn a_record_that_nobody_reads_holds_up_neither_the_inputs_nor_the_end() {
    let dir = Dir::new("fifo");
    let fifo = dir.0.join("record");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    // Open for reading, so that the daemon may open it, and never read.
    let mut unread = fs::OpenOptions::new();
    let mut unread = unread
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap();
    // What fits into it is a pipe's 64 KiB at most: it is full before the daemon is ready.
    let filler = vec![b' '; 4096];
    let mut filled = 0;
    while filled < (64 << 10) - 4096 {
        filled += unread.write(&filler).unwrap();
    }
    let server = api::Api::start(&many_pods());
    let kubeconfig = api::kubeconfig(&dir.0, server.addr);
    let record = fifo.to_str().unwrap();
    let mut run = Running::start(&kubeconfig, &["--record", record, "--listen", "127.0.0.1:0"]);
    let line = run.until("serving the page");
    let addr = line.trim().rsplit("http://").next().unwrap().to_owned();
    run.until("ready: ");
    // Ticks are inputs: the consumer takes them on and on.
    let taken = metric(&addr, "zdt_inputs_total");
    let mut looks = 0;
    while metric(&addr, "zdt_inputs_total") < taken + 12.0 {
        looks += 1;
        assert!(looks < 600, "the consumer is stuck");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(run.stop(), Some(0), "nor does it wait for the record at its end");
}
