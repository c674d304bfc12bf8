//! What was seen on each kernel, against what must be seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{archive::Kernel, budget::Budget, score, vm::Outcome};

/// One program of the kernel half on one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hook {
    pub hook: String,
    /// `attached`, `not-needed`, `absent` (this kernel has no such tracepoint) or `refused`.
    pub state: String,
    /// Events that it wrote in the tests.
    #[serde(default)]
    pub fired: u64,
    /// Instructions that the verifier went through; the kernel tells it from 5.16 on.
    pub verified: Option<u64>,
}

/// One kernel.
#[derive(Debug, Serialize)]
pub struct Row {
    pub series: String,
    pub release: String,
    pub seconds: f64,
    pub hooks: Vec<Hook>,
    pub tests: Tests,
    /// Causes that need something which this kernel does not show.
    pub lost: Vec<String>,
    /// The sums of the lab, as `cargo xtask score --json` has them, with those of each scenario; null where it did not run.
    pub score: Value,
    /// Seconds since the machine's start at which each part began.
    pub parts: BTreeMap<String, f64>,
    pub complaints: Vec<String>,
    pub ok: bool,
    /// The machine ran everything that it was to run, well or not.
    #[serde(skip)]
    pub ended: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tests {
    pub passed: u64,
    pub failed: Vec<String>,
}

/// Programs that report nothing themselves.
const SILENT: [&str; 1] = ["cgroup_skb_ingress"];

impl Row {
    /// Of a machine that was to do the tests, or not, and so many scenarios.
    pub fn of(
        kernel: &Kernel,
        outcome: &Outcome,
        seconds: f64,
        (tested, scenarios): (bool, usize),
        budget: &Budget,
        bless: bool,
    ) -> Self {
        let parts = parts(&outcome.stdout);
        let lost = lost(&parts);
        let mut row = Self {
            series: kernel.series.clone(),
            release: kernel.release.clone(),
            seconds: seconds.round(),
            hooks: hooks(&parts),
            tests: tests(&parts),
            score: object(&parts, "score").map_or(Value::Null, |said| score::of(&said, &lost)),
            lost: lost.iter().cloned().collect(),
            parts: times(&parts),
            complaints: Vec::new(),
            ok: false,
            ended: parts.iter().any(|(name, _)| *name == "end"),
        };
        let mut complaints = row.complaints(tested, scenarios, &lost);
        if !row.ended {
            let last = outcome.console.lines().rfind(|l| !l.trim().is_empty());
            complaints.push(format!(
                "the machine did not come to the end; its kernel's last words: {}",
                last.unwrap_or("none")
            ));
        }
        if !bless {
            complaints.extend(budget.complaints(&row));
        }
        row.ok = complaints.is_empty();
        row.complaints = complaints;
        row
    }

    fn complaints(&self, tested: bool, scenarios: usize, lost: &BTreeSet<String>) -> Vec<String> {
        let mut all = Vec::new();
        if self.hooks.is_empty() {
            all.push("`zdt doctor` said nothing of the hooks".to_owned());
        }
        for hook in &self.hooks {
            let name = &hook.hook;
            match hook.state.as_str() {
                "attached" if tested && hook.fired == 0 && !SILENT.contains(&name.as_str()) => {
                    all.push(format!("{name} never fired"));
                }
                "attached" | "not-needed" | "absent" => {}
                state => all.push(format!("{name} is {state}")),
            }
        }
        if tested && self.tests.passed == 0 {
            all.push("no test passed".to_owned());
        }
        all.extend(
            self.tests
                .failed
                .iter()
                .map(|name| format!("the test {name} failed")),
        );
        if scenarios > 0 {
            all.extend(score::complaints(&self.score, scenarios, lost));
        }
        all
    }
}

/// The standard output by its headings.
fn parts(stdout: &str) -> Vec<(&str, Vec<&str>)> {
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in stdout.lines() {
        if let Some(heading) = line.strip_prefix("== ") {
            parts.push((heading.trim(), Vec::new()));
        } else if let Some((_, lines)) = parts.last_mut() {
            lines.push(line);
        }
    }
    parts
}

fn object<'a>(parts: &[(&str, Vec<&'a str>)], heading: &str) -> Option<Value> {
    let (_, lines) = parts.iter().find(|(name, _)| *name == heading)?;
    lines
        .iter()
        .find_map(|line: &&'a str| serde_json::from_str(line).ok())
}

fn hooks(parts: &[(&str, Vec<&str>)]) -> Vec<Hook> {
    let doctor = object(parts, "doctor").unwrap_or_default();
    let mut hooks: Vec<Hook> = doctor
        .get("hooks")
        .and_then(|h| Vec::deserialize(h).ok())
        .unwrap_or_default();
    for (_, lines) in parts.iter().filter(|(name, _)| name.starts_with("tests ")) {
        // Each test says what there was since the hooks were loaded, once for all tests of the program.
        let mut most: BTreeMap<&str, u64> = BTreeMap::new();
        for line in lines {
            let mut words = line.split_whitespace();
            if let (Some("fired"), Some(hook), Some(Ok(count))) =
                (words.next(), words.next(), words.next().map(str::parse::<u64>))
            {
                let of = most.entry(hook).or_default();
                *of = (*of).max(count);
            }
        }
        for (hook, count) in most {
            // A hook of a program may have a second name behind a slash.
            let program = hook.split('/').next().unwrap_or(hook);
            if let Some(counted) = hooks.iter_mut().find(|h| h.hook == program) {
                counted.fired += count;
            }
        }
    }
    hooks
}

fn tests(parts: &[(&str, Vec<&str>)]) -> Tests {
    let mut tests = Tests::default();
    for (name, lines) in parts.iter().filter(|(name, _)| name.starts_with("tests ")) {
        let mut ended = false;
        for line in lines {
            ended |= line.starts_with("test result: ");
            let Some((test, result)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) else {
                continue;
            };
            if result == "ok" {
                tests.passed += 1;
            } else if result == "FAILED" {
                tests.failed.push(test.to_owned());
            }
        }
        if !ended {
            tests.failed.push(format!("{name} (did not end)"));
        }
    }
    tests
}

fn lost(parts: &[(&str, Vec<&str>)]) -> BTreeSet<String> {
    let doctor = object(parts, "doctor").unwrap_or_default();
    let lost = doctor
        .get("lost")
        .and_then(|lost| BTreeSet::deserialize(lost).ok());
    lost.unwrap_or_default()
}

/// The first line of each part is /proc/uptime's.
fn times(parts: &[(&str, Vec<&str>)]) -> BTreeMap<String, f64> {
    let began = |(name, lines): &(&str, Vec<&str>)| {
        let uptime = lines.first()?.split(' ').next()?.parse().ok()?;
        Some(((*name).to_owned(), uptime))
    };
    parts.iter().filter_map(began).collect()
}

pub fn json(rows: &[Row]) -> Result<String> {
    Ok(serde_json::to_string(&serde_json::json!({ "kernels": rows }))?)
}

/// Hooks by kernels: what was written, and below it what the verifier needed.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<22}", "hook: events seen");
    let wide = 12;
    let heading = |text: &mut String| {
        for row in rows {
            let _ = write!(text, "{:>wide$}", row.series);
        }
        text.push('\n');
    };
    heading(&mut text);
    let names: Vec<&String> = rows
        .iter()
        .map(|r| &r.hooks)
        .max_by_key(|h| h.len())
        .into_iter()
        .flatten()
        .map(|h| &h.hook)
        .collect();
    let cell = |row: &Row, name: &str, of: &dyn Fn(&Hook) -> String| {
        row.hooks
            .iter()
            .find(|h| h.hook == name)
            .map_or_else(|| "?".to_owned(), of)
    };
    let fired = |hook: &Hook| match hook.state.as_str() {
        "attached" if hook.fired > 0 => hook.fired.to_string(),
        state => state.to_owned(),
    };
    let verified = |hook: &Hook| hook.verified.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for name in &names {
        let _ = write!(text, "{name:<22}");
        for row in rows {
            let _ = write!(text, "{:>wide$}", cell(row, name, &fired));
        }
        text.push('\n');
    }
    let _ = write!(text, "\n{:<22}", "verifier: instructions");
    heading(&mut text);
    for name in &names {
        let _ = write!(text, "{name:<22}");
        for row in rows {
            let _ = write!(text, "{:>wide$}", cell(row, name, &verified));
        }
        text.push('\n');
    }
    text.push('\n');
    for row in rows {
        let _ = writeln!(
            text,
            "{:<8}{:<28}{:>3} tests, {} failed   {}   {:>4} s   {}",
            row.series,
            row.release,
            row.tests.passed,
            row.tests.failed.len(),
            score::line(&row.score),
            row.seconds,
            if row.ok { "ok" } else { "FAILED" }
        );
        for line in score::lines(&row.score) {
            let _ = writeln!(text, "        {line}");
        }
        for complaint in &row.complaints {
            let _ = writeln!(text, "        {complaint}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "== doctor\n4.5 8.0\n\
        {\"checks\":[],\"hooks\":[{\"hook\":\"kfree_skb\",\"state\":\"attached\",\"verified\":100},\
        {\"hook\":\"icmp_send\",\"state\":\"absent\"},{\"hook\":\"net_dev_queue\",\"state\":\"attached\"}]}\n\
        == tests packets\ntest a ... ok\ntest b ... FAILED\nfired kfree_skb 2\nfired kfree_skb 3\nfired kfree_skb/x 1\ntest result: FAILED.\n\
        == tests kernel\ntest c ... ok\n\
        == score\n{\"total\":{\"recall\":0.5,\"precision\":1.0,\"cause_accuracy\":1.0,\"failed\":9}}\n== end\n";

    fn row() -> Row {
        let kernel = Kernel {
            series: "6.1".to_owned(),
            release: "6.1.0".to_owned(),
            root: "".into(),
        };
        let outcome = Outcome {
            stdout: SAID.to_owned(),
            stderr: String::new(),
            console: String::new(),
        };
        let budget = Budget(BTreeMap::from([(
            "6.1.0".to_owned(),
            BTreeMap::from([("kfree_skb".to_owned(), 90)]),
        )]));
        Row::of(&kernel, &outcome, 1.0, (true, 1), &budget, false)
    }

    #[test]
    fn everything_that_is_missing_is_said() {
        let row = row();
        assert_eq!(row.hooks[0].fired, 4);
        assert!((row.parts["doctor"] - 4.5).abs() < 0.01);
        assert_eq!(row.tests.passed, 2);
        assert_eq!(
            row.complaints,
            [
                "net_dev_queue never fired",
                "the test b failed",
                "the test tests kernel (did not end) failed",
                "recall is 0.500, below 0.9",
                "cause accuracy is 0.000, below 0.9",
                "0 of 1 scenarios have a score",
                "kfree_skb: the verifier needs 100 instructions, it was 90; `cargo xtask kernels --bless` if that is meant",
            ]
        );
        assert!(!row.ok);
    }

    #[test]
    fn the_table_has_a_line_for_each_hook() {
        let text = table(&[row()]);
        assert!(text.contains("icmp_send") && text.contains("absent"), "{text}");
        assert!(text.contains("FAILED"), "{text}");
    }
}
