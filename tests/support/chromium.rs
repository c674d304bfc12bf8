//! A real headless Chromium, driven over the DevTools protocol through a pipe (`--remote-debugging-pipe`: messages end with
//! NUL; the browser reads descriptor 3 and writes descriptor 4), so that it needs no port and works in any network namespace.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a part of tests; what fails here must fail the test"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Starting it takes a second or two, on a busy machine more.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Chromium {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    next: u64,
    profile: PathBuf,
    /// What the console said that is no plain message, exceptions, and what the browser itself complained about.
    pub complaints: Vec<String>,
}

impl Chromium {
    /// In a named network namespace, or here.
    pub fn start(profile: &Path, netns: Option<&str>) -> Self {
        // The shell moves the pipes to where the browser has them; exec makes it take the shell's place.
        let script = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut command = match netns {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, "sh"]);
                command
            }
            None => Command::new("sh"),
        };
        // A group of its own: its children end with it. As root it has no sandbox; it opens our own page only.
        let mut child = std::os::unix::process::CommandExt::process_group(&mut command, 0)
            .args([
                "-c",
                script,
                "sh",
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--disable-sync",
                "--disable-extensions",
                "--disable-dev-shm-usage",
                "--mute-audio",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(["--remote-debugging-pipe", "about:blank"])
            .env("HOME", profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("no chromium: cargo xtask setup installs it");
        let to = child.stdin.take().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = sync_channel(1024);
        thread::spawn(move || {
            let mut message = Vec::new();
            while out.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                if let Ok(value) = serde_json::from_slice(&message)
                    && sender.send(value).is_err()
                {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            next: 0,
            profile: profile.to_owned(),
            complaints: Vec::new(),
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attached = browser.call(
            "Target.attachToTarget",
            &json!({"targetId": target["targetId"], "flatten": true}),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// One method; its result.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// One method; the whole answer.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left);
            let answer = answer.unwrap_or_else(|_| panic!("Chromium does not answer {method}"));
            if answer["id"] == id {
                return answer;
            }
            self.notice(&answer);
        }
    }

    fn notice(&mut self, event: &Value) {
        let params = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.consoleAPICalled") => params["type"] != "log",
            Some("Log.entryAdded") => {
                params["entry"]["level"] == "error" || params["entry"]["level"] == "warning"
            }
            Some("Runtime.exceptionThrown") => true,
            _ => false,
        };
        if complaint {
            self.complaints.push(event.to_string());
        }
    }

    /// Loads a page; all of it is there then.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", &json!({"url": url}));
        assert!(opened.get("errorText").is_none(), "{opened}");
        let there = format!("location.href === '{url}' && document.readyState === 'complete'");
        self.until(&there, PATIENCE);
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", &params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Whether an expression is true by now: a page that is still being loaded has no such element, or is another one.
    fn is_true(&mut self, expression: &str) -> bool {
        let params = json!({"expression": expression, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", &params);
        answer["result"]["result"]["value"] == true
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str, within: Duration) {
        let began = Instant::now();
        while !self.is_true(expression) {
            let text = || "document.body.innerText";
            if began.elapsed() > within {
                let shown = self.value(text());
                panic!(
                    "not within {within:?}: {expression}\n{}\n{:?}",
                    shown.as_str().unwrap_or_default(),
                    self.complaints
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The whole page as a picture.
    pub fn picture(&mut self, file: &Path, dark: bool, width: u32) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let shot = json!({"format": "png", "captureBeyondViewport": true});
        let shot = self.call("Page.captureScreenshot", &shot);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, base64(shot["data"].as_str().unwrap())).unwrap();
    }
}

fn base64(text: &str) -> Vec<u8> {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for sign in text.bytes().filter_map(|b| SIGNS.iter().position(|s| *s == b)) {
        bits = (bits << 6 | u32::try_from(sign).unwrap()) & 0xfff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    bytes
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // The whole group: the browser has processes of its own.
        let group = nix::unistd::Pid::from_raw(-i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
