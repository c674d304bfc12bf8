//! The page in a real browser: it shows a lab rollout's failures as they are judged, survives a restart of the daemon, takes
//! thousands of verdicts, and makes no mark-up of names; and `zdt gate` and `zdt watch` beside it, at the same daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "clippy knows tests by their attribute; this whole file is one, and it measures time"
)]

#[path = "support/chromium.rs"]
mod chromium;
#[path = "support/held.rs"]
mod held;
#[path = "support/served.rs"]
mod served;
mod support;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use chromium::Chromium;
use held::{Lab, zdt};
use served::Started;
use support::{fixtures, outputs};
use zdt_daemon::verdict::Output;

/// Short, and it fails some requests for more than one reason.
const SCENARIO: &str = "
name: page
description: A rolling update that refuses and loses some requests.
workload: {replicas: 2, max_surge: 1, max_unavailable: 0}
app: {on_sigterm: close-listener}
noise: false
client: {rate: 100, seconds: 6, timeout_ms: 1000}
network: {min_sync_period_ms: 100, rules_delay_ms: 400}
actions:
  - {at_ms: 1500, do: rolling-update}
expect:
  failed: {min: 10}
";

/// From the verdict to its row.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("zdt-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where pictures of the page are kept, for people to look at.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page")
}

/// How long each count of verdicts took to be on the page.
fn follow(browser: &mut Chromium, lab: &Lab) -> Duration {
    let mut waiting: Vec<(Instant, usize)> = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut printed = 0;
    let began = Instant::now();
    loop {
        let now = lab.verdicts();
        if now > printed {
            printed = now;
            waiting.push((Instant::now(), now));
        }
        let shown = browser.value("parseInt(document.getElementById('failures-count').textContent) || 0");
        let shown = usize::try_from(shown.as_u64().unwrap()).unwrap();
        let seen = |(at, count): &(Instant, usize)| (shown >= *count).then(|| at.elapsed());
        slowest = waiting.iter().filter_map(seen).fold(slowest, Duration::max);
        waiting.retain(|(_, count)| shown < *count);
        let over = browser.value("document.querySelector('#cards .tag.bad') !== null") == true;
        if over && waiting.is_empty() && printed > 0 {
            return slowest;
        }
        assert!(
            began.elapsed() < Duration::from_secs(90),
            "{printed} printed, {shown} shown"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn page_shows_a_lab_rollout_as_it_is_judged_and_the_gate_fails_it() {
    let dir = Dir::new("page-lab");
    let mut lab = Lab::start(&dir.0, "page", SCENARIO);
    let [(netns, addr)] = lab.nodes().try_into().unwrap();
    let server = format!("--server=http://{addr}");
    let piped = |args: &[&str]| {
        let mut command = zdt(&netns, args);
        command.arg(&server).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut browser = Chromium::start(&dir.0.join("profile"), Some(&netns));
    browser.open(&format!("http://{addr}/"));
    let of_web = ["deployment/web", "-n", "shop"];
    let gate = piped(&[&["gate"], &of_web[..], &["--format", "junit", "--timeout", "2m"]].concat());
    let watch = piped(&[&["watch"], &of_web[..]].concat());
    let nobody = piped(&["gate", "deployment/nobody", "-n", "shop", "--timeout", "1s"]);
    browser.until(
        "document.getElementById('link').textContent === 'live'",
        Duration::from_secs(20),
    );
    let slowest = follow(&mut browser, &lab);
    assert!(slowest < SHOWN_WITHIN, "{slowest:?} from a verdict to its row");

    let failed = lab.verdicts();
    let text = browser.value("document.querySelector('#cards article').innerText");
    let text = text.as_str().unwrap();
    for wanted in [
        "shop/deployment/web",
        "lost requests",
        "preStop",
        &failed.to_string(),
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    // One lane for each pod that ended, with what failed at it.
    browser.until(
        "document.querySelectorAll('#cards .lanes svg > g').length === 2",
        Duration::from_secs(10),
    );
    let marks = browser.value("document.querySelectorAll('#cards .lanes svg line.fail').length");
    assert_eq!(marks.as_u64(), Some(failed as u64));
    browser.picture(&pictures().join("rollout-light.png"), false, 1180);
    browser.picture(&pictures().join("rollout-dark.png"), true, 1180);
    browser.picture(&pictures().join("rollout-narrow.png"), false, 420);
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    println!("slowest row {slowest:?}, {failed} failed");

    let gate = gate.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&gate.stdout).into_owned();
    assert_eq!(gate.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("<failure message=\"{failed} requests lost\">")),
        "{said}"
    );
    let watch = watch.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&watch.stdout).into_owned();
    assert_eq!(watch.status.code(), Some(1), "{said}");
    assert!(
        said.contains("old pods ") && said.contains(&format!("gate failed: {failed} requests lost")),
        "{said}"
    );
    let nobody = nobody.wait_with_output().unwrap();
    assert_eq!(
        nobody.status.code(),
        Some(2),
        "{}",
        String::from_utf8_lossy(&nobody.stdout)
    );
    lab.release();
}

/// A rollout on two nodes that loses nothing.
const CLEAN: &str = "
name: gate
description: A rolling update on two nodes that waits for the rules.
topology: {nodes: 2}
workload: {replicas: 2, max_surge: 1, max_unavailable: 0, pre_stop_sleep_s: 3}
app: {on_sigterm: close-listener}
noise: false
client: {rate: 50, seconds: 8, timeout_ms: 1000}
network: {min_sync_period_ms: 100}
actions:
  - {at_ms: 1000, do: rolling-update}
expect:
  failed: {max: 0}
";

#[test]
fn gate_passes_a_clean_rollout_when_every_node_is_asked_and_not_otherwise() {
    let dir = Dir::new("page-gate");
    let mut lab = Lab::start(&dir.0, "gate", CLEAN);
    let [(netns, one), (_, two)] = lab.nodes().try_into().unwrap();
    let servers = [format!("--server={one}"), format!("--server={two}")];
    let gate = |servers: &[String]| {
        let mut command = zdt(
            &netns,
            &["gate", "deployment/web", "-n", "shop", "--timeout", "2m"],
        );
        command.args(servers).stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = gate(&servers);
    let alone = gate(&servers[..1]);
    let ended = both.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(
        said.starts_with("gate passed: no request lost\n") && said.contains("node n1, n2"),
        "{said}"
    );
    let ended = alone.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("pods ended on nodes that did not tell"), "{said}");
    lab.release();
}

/// Ends elements and attributes.
const HOSTILE: &str =
    "x\"'><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";

/// What a refused request and its rollout come to, under a name from outside.
fn refused(name: Option<&str>) -> Vec<Output> {
    let all = fixtures();
    let found = all
        .iter()
        .find(|f| f.cause == "endpoint-removal-race" && f.name == "yes-refused");
    let said = outputs(&found.unwrap().inputs);
    let Some(name) = name else { return said };
    let renamed = |o: &Output| {
        let text = serde_json::to_string(o).unwrap();
        let name = serde_json::to_string(name).unwrap();
        let name = &name[1..name.len() - 1];
        serde_json::from_str(
            &text
                .replace("\"web-", &format!("\"{name}web-"))
                .replace("SYN refused: ", &format!("{name} ")),
        )
        .unwrap()
    };
    said.iter().map(renamed).collect()
}

#[test]
fn page_survives_a_restart_takes_thousands_and_makes_no_markup_of_names() {
    let dir = Dir::new("page");
    let mut daemon = Started::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let addr = daemon.addr;
    daemon.deliver(&refused(Some(HOSTILE)));
    let mut browser = Chromium::start(&dir.0.join("profile"), None);
    browser.open(&format!("http://{addr}/"));
    let soon = Duration::from_secs(10);
    browser.until(
        "document.querySelectorAll('#failures tbody tr').length === 1",
        soon,
    );
    browser.until("document.querySelector('#cards .lanes svg') !== null", soon);
    let text = browser.value("document.body.innerText");
    assert!(
        text.as_str().unwrap().contains("<script>document.title="),
        "{text}"
    );
    let made = browser.value("document.querySelectorAll('main script, main img, main [onerror]').length");
    assert_eq!(made, 0);
    assert!(
        !browser
            .value("document.title")
            .as_str()
            .unwrap()
            .contains("owned")
    );

    // For those who do not see it, and for the keyboard.
    for wanted in [
        "['main', 'header', 'footer'].every((t) => document.querySelector(t))",
        "[...document.querySelectorAll('table')].every((t) => t.querySelector('th[scope=col]'))",
        "[...document.querySelectorAll('section')].every((s) => s.getAttribute('aria-labelledby'))",
        "document.querySelector('[aria-live=polite]') && document.getElementById('link').getAttribute('role') === 'status'",
        "document.querySelector('#cards svg').getAttribute('aria-label').length > 10",
    ] {
        assert_eq!(browser.value(&format!("Boolean({wanted})")), true, "{wanted}");
    }
    let tab = |kind: &str| serde_json::json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
    browser.call("Input.dispatchKeyEvent", &tab("keyDown"));
    browser.call("Input.dispatchKeyEvent", &tab("keyUp"));
    assert_eq!(browser.value("document.activeElement.className"), "skip");
    assert_ne!(
        browser.value("getComputedStyle(document.activeElement).outlineStyle"),
        "none"
    );

    // Thousands: the rows are so many, the rest is counted.
    let verdict = refused(None)
        .into_iter()
        .find(|o| matches!(o, Output::Verdict(_)))
        .unwrap();
    daemon.deliver(&vec![verdict; 4_000]);
    browser.until(
        "document.getElementById('failures-count').textContent.startsWith('4001,')",
        Duration::from_secs(30),
    );
    assert_eq!(
        browser.value("document.querySelectorAll('#failures tbody tr').length"),
        200
    );
    let more = browser.value("document.getElementById('failures-more').textContent");
    assert!(
        more.as_str().unwrap().starts_with("3801 more before these"),
        "{more}"
    );
    browser.picture(&pictures().join("thousands.png"), false, 1180);
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);

    // The daemon is away and comes back as another one.
    drop(daemon);
    browser.until("document.getElementById('link').className === 'lost'", soon);
    let mut daemon = Started::new(addr);
    browser.until(
        "document.getElementById('link').className === 'live'",
        Duration::from_secs(20),
    );
    browser.until(
        "document.getElementById('notes').textContent.includes('zdt was restarted')",
        soon,
    );
    daemon.deliver(&refused(None));
    browser.until(
        "document.getElementById('failures-count').textContent.startsWith('4002,')",
        soon,
    );
    assert!(daemon.recent.newest() > 0);
    // That nobody answered is all that the browser may complain about.
    browser.complaints.retain(|c| !c.contains("net::ERR_"));
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
}
