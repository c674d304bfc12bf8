//! A real Prometheus on loopback, and what it answers.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

pub struct Prometheus {
    process: Child,
    addr: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts it in `dir`: it scrapes the targets of that file every second, and evaluates the rules of the other.
    pub fn start(dir: &Path, targets: &Path, rules: &Path) -> Self {
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "zdt",
                // As in deploy/monitoring.
                "honor_labels": true,
                "file_sd_configs": [{"files": [targets], "refresh_interval": "1s"}],
            }],
        });
        // JSON is YAML.
        let file = dir.join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .expect("no prometheus: cargo xtask setup installs it");
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        let addr = loop {
            let from = said.len();
            assert!(log.read_line(&mut said).unwrap() > 0, "Prometheus ended:\n{said}");
            let line = said[from..].trim_end();
            if let Some((_, addr)) = line.split_once("msg=\"Listening on\" address=") {
                break addr.to_owned();
            }
        };
        // It must not wait for somebody who reads.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, addr }
    }

    /// What `/api/v1/<path>` says; an error is a failed test.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let encode = |text: &str| {
            text.bytes().fold(String::new(), |mut all, byte| {
                write!(all, "%{byte:02X}").unwrap();
                all
            })
        };
        let body: Vec<String> = parameters
            .iter()
            .map(|(k, v)| format!("{}={}", encode(k), encode(v)))
            .collect();
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "GET /api/v1/{path}?{} HTTP/1.0\r\nhost: {}\r\n\r\n",
            body.join("&"),
            self.addr
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut answer: Value =
            serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {answer}"));
        assert_eq!(answer["status"], "success", "{path} {parameters:?}: {answer}");
        answer["data"].take()
    }

    /// The values of an expression at a time.
    pub fn values(&self, expr: &str, at: f64) -> Vec<f64> {
        let said = self.ask("query", &[("query", expr), ("time", &at.to_string())]);
        let results = said["result"].as_array().unwrap();
        results
            .iter()
            .map(|r| r["value"][1].as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Up to when each of so many daemons has been scraped.
    pub fn scraped_until(&self, daemons: usize) -> f64 {
        let said = self.ask("query", &[("query", "zdt_build_info[10m]")]);
        let series = said["result"].as_array().unwrap();
        assert_eq!(series.len(), daemons, "{said}");
        let last = series.iter().map(|s| {
            s["values"].as_array().unwrap().last().unwrap()[0]
                .as_f64()
                .unwrap()
        });
        last.fold(f64::INFINITY, f64::min)
    }

    /// Asks until there is something, for 10 s; by its own clock.
    pub fn wait_for(&self, expr: &str) {
        for _ in 0..100 {
            let said = self.ask("query", &[("query", expr)]);
            if !said["result"].as_array().unwrap().is_empty() {
                return;
            }
            // Prometheus tells nobody that it has scraped.
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{expr} gives nothing");
    }
}
