//! Cuts one connection out of a record: everything about the cluster and the lives of its processes, and of the kernel's
//! reports on connections only those of one client. What is left is a fixture.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
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
    let file = File::open(&args.record).with_context(|| format!("cannot read {}", args.record.display()))?;
    let kept = cut(BufReader::new(file), BufWriter::new(io::stdout().lock()), &args.client)?;
    if kept == 0 {
        bail!("no connection of {} in {}: take the client of a verdict", args.client.join(", "), args.record.display());
    }
    Ok(())
}

/// Copies what belongs to the fixture; returns how many reports on the clients' connections that were.
fn cut(from: impl BufRead, mut to: impl Write, clients: &[String]) -> anyhow::Result<usize> {
    let mut kept = 0;
    let mut last_tick = None;
    for (number, line) in from.lines().enumerate() {
        let line = line?;
        let input: Value = serde_json::from_str(&line).with_context(|| format!("line {} is not JSON", number + 1))?;
        let text = |path: &str| input.pointer(path).and_then(Value::as_str);
        let of_client = |paths: &[&str]| paths.iter().any(|p| text(p).is_some_and(|a| clients.iter().any(|c| c == a)));
        let keep = match text("/what") {
            // Only the last tick says something: that time went on.
            Some("tick") => {
                last_tick = Some(line);
                continue;
            }
            Some("translation") => of_client(&["/orig/from"]),
            Some("kernel") => match input.get("sock") {
                Some(_) => of_client(&["/sock/local", "/sock/remote"]),
                None => true,
            },
            _ => true,
        };
        kept += usize::from(keep && matches!(text("/what"), Some("kernel")) && input.get("sock").is_some());
        if keep {
            writeln!(to, "{line}")?;
        }
    }
    if let Some(tick) = last_tick {
        writeln!(to, "{tick}")?;
    }
    to.flush()?;
    Ok(kept)
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
        let mut out = Vec::new();
        let kept = cut(record.as_bytes(), &mut out, &["10.0.0.1:5".to_owned()]).unwrap();
        let ats: Vec<i64> = String::from_utf8(out)
            .unwrap()
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).unwrap().get("at").and_then(Value::as_i64))
            .collect();
        assert_eq!(kept, 1);
        assert_eq!(ats, [1, 2, 4, 6]);
    }
}
