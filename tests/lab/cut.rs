//! Cuts one connection out of a record: everything about the cluster and the lives of its processes, and of the kernel's
//! reports on connections only those of one client. What is left is a fixture.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The record, as `zdt record` or a lab run wrote it
    record: PathBuf,
    /// The client's address and port, as a verdict names it; may be given several times
    #[arg(long, required = true)]
    client: Vec<String>,
}

/// Writes the cut to stdout.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let name = args.record.display();
    let text = fs::read_to_string(&args.record).with_context(|| format!("cannot read {name}"))?;
    let (lines, connections) = cut(&text, &args.client)?;
    if connections == 0 {
        bail!(
            "no connection of {} in {name}: take the client of a verdict",
            args.client.join(", ")
        );
    }
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The lines that belong to the fixture, and how many of them report on the clients' connections.
fn cut<'a>(record: &'a str, clients: &[String]) -> anyhow::Result<(Vec<&'a str>, usize)> {
    let mut inputs = Vec::new();
    for (number, line) in record.lines().enumerate() {
        let input: Value =
            serde_json::from_str(line).with_context(|| format!("line {} is not JSON", number + 1))?;
        inputs.push((line, input));
    }
    let names = names(&inputs, clients);
    let mut connections = 0;
    let mut kept = Vec::new();
    let mut last_tick = None;
    for (line, input) in &inputs {
        match text(input, "/what") {
            // Only the last tick says something: that time went on.
            Some("tick") => last_tick = Some(*line),
            Some("translation" | "kernel") if !speaks_of(input, &names) => {}
            what => {
                let of_one = input.get("sock").is_some() || input.get("packet").is_some();
                connections += usize::from(what == Some("kernel") && of_one);
                kept.push(*line);
            }
        }
    }
    kept.extend(last_tick);
    Ok((kept, connections))
}

/// Every address and initial sequence number that the clients' connections go by: a masquerade changes the one, nothing
/// changes the other.
fn names(inputs: &[(&str, Value)], clients: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = clients.iter().cloned().collect();
    for (_, input) in inputs {
        for entry in ["", "/packet/ct"] {
            let end = |path: &str| text(input, &format!("{entry}{path}"));
            if end("/orig/from").is_some_and(|from| names.contains(from)) {
                names.extend(end("/reply/to").map(str::to_owned));
            }
        }
        if let Some(isn) = input.pointer("/packet/isn")
            && text(input, "/packet/from").is_some_and(|from| names.contains(from))
        {
            names.insert(isn.to_string());
        }
        let own = text(input, "/sock/local").is_some_and(|local| names.contains(local));
        if let Some(isn) = input.pointer("/sock/tcp/isn").filter(|_| own) {
            names.insert(isn.to_string());
        }
    }
    names
}

/// Whether a translation or a kernel's report is about one of these; what is about no connection always is.
fn speaks_of(input: &Value, names: &BTreeSet<String>) -> bool {
    let any = |paths: &[&str]| {
        paths
            .iter()
            .any(|p| text(input, p).is_some_and(|name| names.contains(name)))
    };
    if text(input, "/what") == Some("translation") {
        return any(&["/orig/from"]);
    }
    let mut isns = ["/isn", "/packet/isn"].iter().filter_map(|p| input.pointer(p));
    let of_none = input.get("sock").is_none() && input.get("packet").is_none();
    of_none
        || isns.any(|isn| names.contains(&isn.to_string()))
        || any(&[
            "/sock/local",
            "/sock/remote",
            "/packet/from",
            "/packet/ct/orig/from",
        ])
}

fn text<'a>(input: &'a Value, path: &str) -> Option<&'a str> {
    input.pointer(path).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clients_connections_are_kept() {
        let record = concat!(
            "{\"format\":\"zdt-record\",\"version\":1}\n",
            "{\"at\":1,\"what\":\"start\"}\n",
            "{\"at\":2,\"what\":\"kernel\",\"hook\":\"retransmit\",\"sock\":{\"local\":\"10.0.0.1:5\",\"remote\":\"10.0.0.2:80\"}}\n",
            "{\"at\":3,\"what\":\"kernel\",\"hook\":\"retransmit\",\"sock\":{\"local\":\"10.0.0.1:6\",\"remote\":\"10.0.0.2:80\"}}\n",
            "{\"at\":4,\"what\":\"kernel\",\"hook\":\"signal\"}\n",
            "{\"at\":5,\"what\":\"tick\"}\n",
            "{\"at\":6,\"what\":\"tick\"}\n",
        );
        let (kept, connections) = cut(record, &["10.0.0.1:5".to_owned()]).unwrap();
        let ats: Vec<i64> = kept
            .iter()
            .filter_map(|l| {
                serde_json::from_str::<Value>(l)
                    .unwrap()
                    .get("at")
                    .and_then(Value::as_i64)
            })
            .collect();
        assert_eq!(connections, 1);
        assert_eq!(ats, [1, 2, 4, 6]);
    }

    #[test]
    fn interruptions_of_the_watches_are_kept() {
        let record = concat!(
            "{\"at\":1,\"what\":\"kernel\",\"packet\":{\"from\":\"10.0.0.1:5\",\"isn\":7}}\n",
            "{\"at\":2,\"what\":\"watch-broken\",\"resource\":\"pods\",\"since\":1}\n",
            "{\"at\":3,\"what\":\"loss\",\"source\":\"ring\",\"count\":1}\n",
            "{\"at\":4,\"what\":\"watch-gap\",\"resource\":\"pods\",\"since\":1}\n",
            "{\"at\":5,\"what\":\"stopping\"}\n",
        );
        let (kept, _) = cut(record, &["10.0.0.1:5".to_owned()]).unwrap();
        assert_eq!(kept.len(), 5);
    }

    #[test]
    fn packets_of_the_clients_connections_are_kept() {
        let record = concat!(
            "{\"at\":1,\"what\":\"kernel\",\"packet\":{\"from\":\"10.0.0.9:1\",\"isn\":7,\"ct\":{\"orig\":{\"from\":\"10.0.0.1:5\"},\"reply\":{\"to\":\"10.0.0.9:1\"}}}}\n",
            "{\"at\":2,\"what\":\"kernel\",\"packet\":{\"from\":\"10.0.0.9:1\",\"isn\":7}}\n",
            "{\"at\":3,\"what\":\"kernel\",\"packet\":{\"from\":\"10.0.0.2:5\",\"isn\":8}}\n",
        );
        let (kept, connections) = cut(record, &["10.0.0.1:5".to_owned()]).unwrap();
        assert_eq!((kept.len(), connections), (2, 2));
    }

    #[test]
    fn the_servers_view_of_a_masqueraded_client_is_kept() {
        let record = concat!(
            "{\"at\":1,\"what\":\"kernel\",\"isn\":7,\"sock\":{\"local\":\"10.0.0.2:80\",\"remote\":\"10.0.0.9:1\"}}\n",
            "{\"at\":2,\"what\":\"kernel\",\"isn\":8,\"sock\":{\"local\":\"10.0.0.2:80\",\"remote\":\"10.0.0.9:2\"}}\n",
            "{\"at\":3,\"what\":\"kernel\",\"sock\":{\"local\":\"10.0.0.1:5\",\"remote\":\"10.0.0.9:80\",\"tcp\":{\"isn\":7}}}\n",
        );
        let (kept, connections) = cut(record, &["10.0.0.1:5".to_owned()]).unwrap();
        assert_eq!((kept.len(), connections), (2, 2));
    }
}
