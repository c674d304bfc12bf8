//! A record again and again: each copy is later, with other addresses, and about other pods and workloads.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use zdt_daemon::input::{Input, Ktime, What};

/// Between two copies, so that everything of the one is judged before the next.
const PAUSE_MS: u64 = 20_000;

/// Keys whose numbers are times, in nanoseconds.
const TIMES: [&str; 3] = ["at", "since", "first_syn"];
/// Whose text makes a name one that a cluster has once.
const NAMESPACE: &str = "namespace";

pub struct Repeated {
    inputs: Vec<Value>,
    length: u64,
}

impl Repeated {
    pub fn new(inputs: &[Input]) -> Self {
        let first = inputs.first().map_or(0, |i| i.at.0);
        let last = inputs.iter().map(|i| i.at.0).max().unwrap_or(0);
        Self {
            inputs: inputs.iter().map(|i| serde_json::to_value(i).unwrap()).collect(),
            length: Ktime(last - first).plus_ms(PAUSE_MS).0,
        }
    }

    /// The `n`th copy; only the first begins a run.
    pub fn copy(&self, n: usize) -> Vec<Input> {
        let begins = |input: &Input| matches!(input.what, What::Start(_) | What::Synced);
        let shifted = self.inputs.iter().map(|value| {
            let mut value = value.clone();
            self.shift(&mut value, "", n);
            serde_json::from_value::<Input>(value).expect("an input stays one")
        });
        shifted.filter(|input| n == 0 || !begins(input)).collect()
    }

    fn shift(&self, value: &mut Value, key: &str, n: usize) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    self.shift(value, key, n);
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|v| self.shift(v, key, n)),
            Value::Number(number) if TIMES.contains(&key) => {
                if let Some(at) = number.as_u64() {
                    *value = (at + self.length * n as u64).into();
                }
            }
            Value::String(text) => {
                if key == NAMESPACE || is_uid(text) {
                    *text = format!("{text}-{n}");
                } else if let Some(other) = address(text, n) {
                    *text = other;
                }
            }
            _ => {}
        }
    }
}

/// As the API server makes them (RFC 9562).
fn is_uid(text: &str) -> bool {
    text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes()[at] == b'-')
}

/// The same place in another network; none where the text is no address, or one that stands for any.
fn address(text: &str, n: usize) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(elsewhere(ip, n).to_string());
    }
    let socket: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(elsewhere(socket.ip(), n), socket.port()).to_string())
}

fn elsewhere(ip: IpAddr, n: usize) -> IpAddr {
    let n = u32::try_from(n).unwrap();
    match ip {
        _ if ip.is_unspecified() => ip,
        // The first 16 bits are the network; 10.244 and 10.96 stay apart for 2,000 copies.
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() ^ (n << 21)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() ^ (u128::from(n) << 64)).into()),
    }
}
