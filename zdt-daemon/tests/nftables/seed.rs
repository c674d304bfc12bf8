//! Turns a listing of a rule set into the messages with which the kernel would dump it, handles included: a replay needs
//! the handles that the recorded notifications speak of, and no kernel would give them out again.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

pub const NEWCHAIN: u16 = 3;
pub const NEWRULE: u16 = 6;
pub const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const NEWGEN: u16 = 15;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, format!("{text}\0").as_bytes())
}

fn number(kind: u16, number: u32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

fn handle(kind: u16, object: &Value) -> Vec<u8> {
    attribute(kind, &object["handle"].as_u64().unwrap().to_be_bytes())
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &parts.concat())
}

pub fn message(number: u16, family: u8, generation: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut bytes = u32::try_from(20 + attributes.len())
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    bytes.extend((10u16 << 8 | number).to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend([family, 0]);
    bytes.extend(generation.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    nest(1, &[text(1, name), nest(2, parts)])
}

fn goes_to(verdict: i32, chain: &str) -> Vec<u8> {
    nest(2, &[number(1, verdict.cast_unsigned()), text(2, chain)])
}

/// `meta l4proto tcp`
fn is_tcp() -> Vec<u8> {
    let load = expression("meta", &[number(1, 1), number(2, 16)]);
    let compare = expression(
        "cmp",
        &[number(1, 1), number(2, 0), nest(3, &[attribute(1, &[6])])],
    );
    [load, compare].concat()
}

/// `-j DNAT --to-destination`, revision 2 (`struct nf_nat_range2`)
fn xt_dnat(to: SocketAddr) -> Vec<u8> {
    let mut address = match to {
        SocketAddr::V4(to) => to.ip().octets().to_vec(),
        SocketAddr::V6(to) => to.ip().octets().to_vec(),
    };
    address.resize(16, 0);
    let mut range = 3u32.to_ne_bytes().to_vec();
    range.extend(address.repeat(2));
    range.extend(to.port().to_be_bytes().repeat(2));
    range.extend([0; 8]);
    expression("target", &[text(1, "DNAT"), number(2, 2), attribute(3, &range)])
}

/// A chain of `ip kube-proxy`; the first is the base chain of nat output.
pub fn chain(at: usize) -> Vec<u8> {
    let mut attributes = vec![text(1, "kube-proxy"), text(3, &format!("chain-{at}"))];
    if at == 0 {
        attributes.push(nest(4, &[number(1, 3), number(2, 0)]));
        attributes.push(text(7, "nat"));
    }
    message(NEWCHAIN, 2, 0, &attributes)
}

/// A rule of that table which jumps, or translates.
pub fn rule(
    number: u16,
    generation: u16,
    chain: usize,
    handle: u64,
    leads_to: Result<usize, SocketAddr>,
) -> Vec<u8> {
    let expressions = match leads_to {
        Ok(to) => {
            let verdict = goes_to(-3, &format!("chain-{to}"));
            expression("immediate", &[self::number(1, 0), nest(2, &[verdict])])
        }
        Err(to) => [is_tcp(), xt_dnat(to)].concat(),
    };
    let chain = text(2, &format!("chain-{chain}"));
    let handle = attribute(3, &handle.to_be_bytes());
    message(
        number,
        2,
        generation,
        &[text(1, "kube-proxy"), chain, handle, nest(4, &[expressions])],
    )
}

/// The end of a transaction.
pub fn generation(id: u32) -> Vec<u8> {
    let low = u16::try_from(id & 0xffff).unwrap();
    message(NEWGEN, 0, low, &[number(1, id), text(3, "proptest")])
}

/// Where each KUBE-SEP chain of an `iptables-save` translates to.
pub fn destinations(save: &str) -> BTreeMap<String, SocketAddr> {
    let of_line = |line: &str| {
        let chain = line.strip_prefix("-A ")?.split(' ').next()?;
        let to = line.split("--to-destination ").nth(1)?;
        Some((chain.to_owned(), to.trim().parse().unwrap()))
    };
    save.lines().filter_map(of_line).collect()
}

/// The dump of what `nft -j list ruleset` printed.
pub fn dump(listing: &str, destinations: &BTreeMap<String, SocketAddr>) -> Vec<Vec<u8>> {
    let listing: Value = serde_json::from_str(listing).unwrap();
    let objects = listing["nftables"].as_array().unwrap();
    let mut seed = Seed {
        destinations,
        anonymous: 0,
        messages: Vec::new(),
    };
    for kind in ["chain", "map", "rule"] {
        for object in objects.iter().filter_map(|o| o.get(kind)) {
            let family = if object["family"] == "ip" { 2 } else { 10 };
            match kind {
                "chain" => seed.chain(object, family),
                "map" => seed.map(object, family),
                _ => seed.rule(object, family),
            }
        }
    }
    seed.messages
}

struct Seed<'a> {
    destinations: &'a BTreeMap<String, SocketAddr>,
    anonymous: u32,
    messages: Vec<Vec<u8>>,
}

fn str_of<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {object}"))
}

impl Seed<'_> {
    fn push(&mut self, number: u16, family: u8, attributes: &[Vec<u8>]) {
        self.messages.push(message(number, family, 0, attributes));
    }

    fn chain(&mut self, chain: &Value, family: u8) {
        let mut attributes = vec![
            text(1, str_of(chain, "table")),
            handle(2, chain),
            text(3, str_of(chain, "name")),
        ];
        if let Some(hook) = chain["hook"].as_str() {
            let hooks = ["prerouting", "input", "forward", "output", "postrouting"];
            let hook = hooks.iter().position(|h| *h == hook).unwrap();
            attributes.push(nest(4, &[number(1, u32::try_from(hook).unwrap()), number(2, 0)]));
            attributes.push(text(7, str_of(chain, "type")));
        }
        self.push(NEWCHAIN, family, &attributes);
    }

    fn map(&mut self, map: &Value, family: u8) {
        assert_eq!(map["map"], "verdict");
        let (table, name) = (text(1, str_of(map, "table")), str_of(map, "name"));
        let set = [
            table.clone(),
            text(2, name),
            number(3, 8),
            number(6, 0xffff_ff00),
            handle(16, map),
        ];
        self.push(NEWSET, family, &set);
        for element in map["elem"].as_array().into_iter().flatten() {
            let key = nest(1, &[attribute(1, element[0].to_string().as_bytes())]);
            let verdict = nest(2, &[goes_to(-4, str_of(&element[1]["goto"], "target"))]);
            let list = nest(3, &[nest(1, &[key, verdict])]);
            self.push(NEWSETELEM, family, &[table.clone(), text(2, name), list]);
        }
    }

    fn rule(&mut self, rule: &Value, family: u8) {
        let (table, chain) = (str_of(rule, "table"), str_of(rule, "chain"));
        let mut expressions = Vec::new();
        for part in rule["expr"].as_array().unwrap() {
            if part["match"]["left"]["meta"]["key"] == "l4proto" && part["match"]["right"] == "tcp" {
                expressions.push(is_tcp());
            } else if part["jump"].is_object() {
                let verdict = goes_to(-3, str_of(&part["jump"], "target"));
                expressions.push(expression("immediate", &[number(1, 0), nest(2, &[verdict])]));
            } else if part["goto"].is_object() {
                let verdict = goes_to(-4, str_of(&part["goto"], "target"));
                expressions.push(expression("immediate", &[number(1, 0), nest(2, &[verdict])]));
            } else if let Some(map) = part["vmap"]["data"].as_str() {
                let map = text(1, map.trim_start_matches('@'));
                expressions.push(expression("lookup", &[map, number(2, 1), number(3, 0)]));
            } else if part["dnat"].is_object() {
                expressions.push(self.dnat(&part["dnat"]["addr"]["map"], table, family));
            } else if part["xt"]["name"] == "DNAT" {
                expressions.push(xt_dnat(self.destinations[chain]));
            }
        }
        let attributes = [
            text(1, table),
            text(2, chain),
            handle(3, rule),
            nest(4, &expressions),
        ];
        self.push(NEWRULE, family, &attributes);
    }

    /// `dnat to numgen random mod … map { … }`, its map named as the kernel names them (`nf_tables_set_alloc_name`).
    fn dnat(&mut self, map: &Value, table: &str, family: u8) -> Vec<u8> {
        let name = format!("__map{}", self.anonymous);
        self.anonymous += 1;
        self.push(
            NEWSET,
            family,
            &[text(1, table), text(2, &name), number(3, 0xb), number(6, 12)],
        );
        for element in map["data"]["set"].as_array().unwrap() {
            let to = &element[1]["concat"];
            let mut value = to[0]
                .as_str()
                .unwrap()
                .parse::<std::net::Ipv4Addr>()
                .unwrap()
                .octets()
                .to_vec();
            value.extend(u16::try_from(to[1].as_u64().unwrap()).unwrap().to_be_bytes());
            value.extend([0, 0]);
            let key = nest(1, &[attribute(1, &element[0].as_u64().unwrap().to_be_bytes())]);
            let list = nest(3, &[nest(1, &[key, nest(2, &[attribute(1, &value)])])]);
            self.push(NEWSETELEM, family, &[text(1, table), text(2, &name), list]);
        }
        let lookup = expression("lookup", &[text(1, &name), number(2, 1), number(3, 1)]);
        let registers = [number(3, 1), number(4, 1), number(5, 9), number(6, 9)];
        let nat = [&[number(1, 1), number(2, family.into())][..], &registers].concat();
        [lookup, expression("nat", &nat)].concat()
    }
}
