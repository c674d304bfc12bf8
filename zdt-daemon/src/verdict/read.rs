//! Outputs read back from the JSON lines of `zdt run -o json`: names of causes and amplifiers become the registry's again.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Evidence, Finding, Judgement};
use crate::causes::{RULES, UNEXPLAINED, amplifiers::AMPLIFIERS};

/// A name of the registry. (An alias: serde would borrow a plain `&'static str` from the text that it reads.)
pub(super) type Name = &'static str;

/// The cause's name as the registry has it.
pub(super) fn cause<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
    let name = String::deserialize(from)?;
    known_cause(&name).ok_or_else(|| D::Error::custom(unknown("cause", &name)))
}

pub(super) fn causes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let known = |name: &String| known_cause(name).ok_or_else(|| D::Error::custom(unknown("cause", name)));
    names.iter().map(known).collect()
}

pub(super) fn amplifiers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let known = |name: &String| {
        let one = AMPLIFIERS.iter().find(|a| a.name == name);
        one.map(|a| a.name)
            .ok_or_else(|| D::Error::custom(unknown("amplifier", name)))
    };
    names.iter().map(known).collect()
}

fn known_cause(name: &str) -> Option<Name> {
    let all = RULES.iter().map(|r| r.name).chain([UNEXPLAINED]);
    all.into_iter().find(|known| *known == name)
}

fn unknown(what: &str, name: &str) -> String {
    format!("this zdt knows no {what} {name:?}: read it with the zdt that wrote it, or a newer one")
}

/// A judgement as it is written.
#[derive(Deserialize)]
pub(super) struct Written {
    cause: String,
    finding: Option<Finding>,
    #[serde(default)]
    seen: Vec<Evidence>,
    #[serde(default)]
    missing: Vec<String>,
}

impl TryFrom<Written> for Judgement {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let cause = known_cause(&written.cause).ok_or_else(|| unknown("cause", &written.cause))?;
        match written.finding {
            Some(finding) => Ok(Self::Explained { cause, finding }),
            None if cause == UNEXPLAINED => Ok(Self::Unexplained {
                seen: written.seen,
                missing: written.missing,
            }),
            None => Err(format!("cause {cause} without a finding")),
        }
    }
}
