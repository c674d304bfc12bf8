//! The page of a cause, from its file: `zdt causes NAME` prints it, and `docs/causes/` holds it.

use super::Rule;
use crate::verdict::Blame;

/// Markdown.
pub fn page(rule: &Rule) -> String {
    let Rule {
        name,
        id,
        what,
        told_by,
        remedy,
        ..
    } = rule;
    let blame = match rule.blame {
        Blame::Rollout => "the rollout",
        Blame::NotTheRollout => "not the rollout: reported, and never counted against it",
        Blame::NotARequest => "nobody: it was no request of a client",
        Blame::Unknown => "unknown",
    };
    let fix = match rule.fix {
        Some(yaml) => format!("\n```yaml\n{yaml}```\n"),
        None => "\nNo object of Kubernetes has a setting for it.\n".to_owned(),
    };
    let needs: Vec<String> = rule.needs.iter().map(|hook| format!("`{hook}`")).collect();
    format!(
        "# {name} ({id})\n\n\
         {}.\n\n\
         **To blame:** {blame}.\n\n\
         ## How it is told from its look-alikes\n\n\
         {}\n\n\
         ## What to change\n\n\
         {}.\n{fix}\n\
         ## What zdt needs for it\n\n\
         Hooks {}. `zdt doctor` says which of them this kernel has.\n",
        sentence(what),
        sentence(told_by),
        sentence(remedy),
        needs.join(", "),
    )
}

/// With a capital letter, unless it begins with the name of a setting.
fn sentence(text: &str) -> String {
    let first_word = text.split([' ', ',']).next().unwrap_or_default();
    if first_word.contains(['.', '_']) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + chars.as_str()
    })
}
