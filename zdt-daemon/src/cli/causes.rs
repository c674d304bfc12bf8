//! `zdt causes`: what zdt can name, straight from the registry.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    causes::{RULES, Rule, amplifiers::AMPLIFIERS, page},
    config,
    sink::Format,
    verdict::Blame,
};

/// One amplifier as `-o json` prints it.
#[derive(Serialize)]
struct AmplifierLine<'a> {
    amplifier: &'a str,
    id: &'a str,
    what: &'a str,
}

/// One cause as `-o json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    id: &'a str,
    blame: Blame,
    what: &'a str,
    told_by: &'a str,
    remedy: &'a str,
    fix: Option<&'a str>,
    needs: &'a [&'a str],
}

pub(super) fn causes(args: &config::Causes) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout());
    if let Some(name) = &args.name {
        let rule = RULES.iter().find(|r| r.name == name);
        let rule = rule.with_context(|| format!("there is no cause {name}: `zdt causes` lists them"))?;
        match args.output.format {
            Format::Json => writeln!(out, "{}", serde_json::to_string(&line(rule))?)?,
            Format::Text => out.write_all(page(rule).as_bytes())?,
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    match args.output.format {
        Format::Json => {
            for rule in RULES {
                writeln!(out, "{}", serde_json::to_string(&line(rule))?)?;
            }
            for one in AMPLIFIERS {
                let line = AmplifierLine {
                    amplifier: one.name,
                    id: one.id,
                    what: one.what,
                };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            }
        }
        Format::Text => {
            let wide = RULES.iter().map(|r| r.name.len()).max().unwrap_or(0);
            writeln!(out, "{:<wide$}  {:<3}  {:<15}  WHAT", "CAUSE", "ID", "BLAME")?;
            for rule in RULES {
                writeln!(
                    out,
                    "{:<wide$}  {:<3}  {:<15}  {}",
                    rule.name,
                    rule.id,
                    blame(rule.blame),
                    rule.what
                )?;
            }
            writeln!(out, "\n{:<wide$}  {:<3}  WHAT", "AMPLIFIER", "ID")?;
            for one in AMPLIFIERS {
                writeln!(out, "{:<wide$}  {:<3}  {}", one.name, one.id, one.what)?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn line(rule: &'static Rule) -> Line<'static> {
    Line {
        name: rule.name,
        id: rule.id,
        blame: rule.blame,
        what: rule.what,
        told_by: rule.told_by,
        remedy: rule.remedy,
        fix: rule.fix,
        needs: rule.needs,
    }
}

fn blame(blame: Blame) -> &'static str {
    match blame {
        Blame::Rollout => "the rollout",
        Blame::NotTheRollout => "not the rollout",
        Blame::NotARequest => "not a request",
        Blame::Unknown => "unknown",
    }
}
