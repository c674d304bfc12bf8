//! The report as one HTML file: no script, nothing from elsewhere, light and dark. What comes from outside is escaped, and
//! a policy in the head forbids everything but the page's own style.

use std::{borrow::Cow, fmt::Write as _};

use super::{
    Style, escape,
    lane::{Lane, Step},
    patch_command,
    rollout::{revision, setting},
    screen::confidence,
    story::{Report, Story},
    svg::{self, lanes_svg, signed},
    switch_line, verdict_line,
};
use crate::verdict::{Change, Verdict};

/// Most verdicts listed of one rollout.
const MOST_LISTED: usize = 1_000;

const STYLE: &str = include_str!("page.css");

/// What the colours of a lane mean.
const COLOURS: &str = "<ul class=\"key\"><li><i class=\"seg serve\"></i>it serves</li><li><i class=\"seg route\"></i>the node \
     sends it new connections</li><li><i class=\"seg hole\"></i>sent there, and nobody serves</li><li><i class=\"seg \
     fail\"></i>a failed request</li></ul>\n";

/// What the colours and letters of lanes mean, for a page that shows them.
pub fn lanes_key() -> String {
    let steps = Step::END.iter().chain(&Step::BEGINNING);
    let mut key = format!("{COLOURS}<ul class=\"key\">");
    for step in steps {
        let _ = write!(key, "<li><b>{}</b>{}</li>", step.letter(), step.what());
    }
    key + "</ul>\n"
}

/// Text for an element or an attribute in double quotes.
pub(super) fn text(from: &str) -> Cow<'_, str> {
    let safe = escape(from);
    if !safe.contains(['<', '>', '&', '"', '\'']) {
        return safe;
    }
    let mut out = String::with_capacity(safe.len() + 16);
    for c in safe.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The whole file. Writing to a String cannot fail, here and below.
pub fn html(report: &Report) -> String {
    let title = match report.rollouts.as_slice() {
        [one] => format!("zdt: {} failed, {}", one.rollout.failed, name(one)),
        many => format!("zdt: {} failed, {} rollouts", report.failed(), many.len()),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src \
         'none'; style-src 'unsafe-inline'\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        text(&title)
    );
    for story in &report.rollouts {
        told(&mut page, story);
    }
    apart(&mut page, report);
    let _ = writeln!(
        page,
        "<footer>written by zdt {}</footer>\n</main>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn name(story: &Story) -> String {
    let r = &story.rollout;
    format!("{}/{}/{}", r.namespace, r.workload.kind, r.workload.name)
}

fn told(page: &mut String, story: &Story) {
    let r = &story.rollout;
    let _ = writeln!(page, "<section class=\"story\">\n<h1>{}</h1>", text(&name(story)));
    let revisions: Vec<String> = [&r.from, &r.to].into_iter().flatten().map(revision).collect();
    let elsewhere = match r.pods_elsewhere {
        0 => String::new(),
        more => format!(" (and {more} on other nodes)"),
    };
    let when =
        jiff::Timestamp::from_millisecond(r.wall.0).map_or_else(|_| String::new(), |t| format!("{t:.0}"));
    let _ = writeln!(
        page,
        "<p class=\"sub\">{} · {} pods{elsewhere} in {:.1} s · by {} · node {} · {when}</p>",
        text(&revisions.join(" → ")),
        r.pods,
        r.took_ms / 1000.0,
        r.trigger,
        text(&r.node)
    );
    facts(page, story);
    causes(page, story);
    advice(page, story);
    timeline(page, story);
    evidence(page, &story.verdicts);
    page.push_str("</section>\n");
}

fn facts(page: &mut String, story: &Story) {
    let r = &story.rollout;
    let bad = |n: usize, class: &'static str| if n > 0 { class } else { "" };
    let failed = if r.failed > 0 { "bad" } else { "ok" };
    let mut items = vec![
        (failed, r.failed.to_string(), "requests failed"),
        ("", r.explained.to_string(), "explained"),
        (
            bad(r.unexplained, "warn"),
            r.unexplained.to_string(),
            "unexplained",
        ),
        (
            if r.events_lost > 0 { "warn" } else { "" },
            r.events_lost.to_string(),
            "events lost",
        ),
    ];
    if r.not_the_rollout > 0 {
        items.push(("", r.not_the_rollout.to_string(), "failed otherwise"));
    }
    page.push_str("<ul class=\"facts\">\n");
    for (class, n, what) in items {
        let _ = writeln!(page, "<li class=\"{class}\"><b>{n}</b><span>{what}</span></li>");
    }
    let _ = writeln!(
        page,
        "</ul>\n<p class=\"sub\">{}</p>",
        text(&confidence(story, Style::PLAIN))
    );
}

fn causes(page: &mut String, story: &Story) {
    let r = &story.rollout;
    let Some(most) = r.causes.iter().map(|c| c.count).max() else {
        return;
    };
    page.push_str("<h2>Why</h2>\n<div class=\"scroll\"><table>\n");
    for cause in &r.causes {
        let share = 100 * cause.count / most.max(1);
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{}</td><td class=\"bar\"><i style=\"width:{share}%\"></i></td><td class=\"cause\">{}</td><td>{}</td></tr>",
            cause.count,
            text(cause.cause),
            text(&cause.summary)
        );
    }
    page.push_str("</table></div>\n");
}

fn advice(page: &mut String, story: &Story) {
    let r = &story.rollout;
    if !r.advice.is_empty() {
        page.push_str("<h2>What to change</h2>\n");
    }
    for advice in &r.advice {
        let _ = writeln!(
            page,
            "<div class=\"do\"><b>{}</b><p>would have prevented {} of {}</p><p class=\"because\">{}</p></div>",
            text(&setting(advice)),
            advice.prevents,
            r.failed,
            text(&advice.because)
        );
    }
    for saving in &r.savings {
        let _ = writeln!(
            page,
            "<h2>What could be spared</h2>\n<div class=\"do saving\"><b>{}</b><p class=\"because\">{}</p></div>",
            text(&setting(saving)),
            text(&saving.because)
        );
    }
    if let Some(patch) = &story.patch {
        let _ = writeln!(
            page,
            "<pre>{} &lt;&lt;'EOF'\n{}EOF</pre>",
            text(&patch_command(r)),
            lines(patch)
        );
    }
}

/// The same for text of several lines, which stay lines.
fn lines(from: &str) -> String {
    from.lines()
        .flat_map(|line| [text(line).into_owned(), "\n".to_owned()])
        .collect()
}

fn timeline(page: &mut String, story: &Story) {
    let shown = svg::shown(story);
    let svg = lanes_svg(&shown, svg::TITLE);
    if svg.is_empty() {
        return;
    }
    page.push_str(
        "<h2>Each pod <small>times since its own deletion, or since Ready for new pods</small></h2>\n",
    );
    page.push_str(COLOURS);
    let _ = writeln!(page, "<div class=\"scroll\">{svg}</div>");
    page.push_str("<ul class=\"key\">");
    for step in Step::END.iter().chain(&Step::BEGINNING) {
        if shown.iter().any(|l| l.mark(*step).is_some()) {
            let _ = write!(page, "<li><b>{}</b>{}</li>", step.letter(), step.what());
        }
    }
    page.push_str("</ul>\n");
    for (steps, change, title) in [
        (
            &Step::END[1..],
            Change::Removal,
            "The times of the pods that ended",
        ),
        (
            &Step::BEGINNING[1..],
            Change::Addition,
            "The times of the pods that began",
        ),
    ] {
        let own: Vec<&Lane> = story.lanes.iter().filter(|l| l.change == Some(change)).collect();
        if own.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "<details><summary>{title}</summary>\n<div class=\"scroll\"><table><tr><th>pod</th>"
        );
        for step in steps {
            let _ = write!(page, "<th class=\"n\">{}</th>", step.what());
        }
        page.push_str("<th class=\"n\">failed</th></tr>\n");
        for lane in own {
            let _ = write!(
                page,
                "<tr><td>{}</td>",
                text(lane.pod.as_deref().unwrap_or_default())
            );
            for step in steps {
                let at = lane.mark(*step).map_or_else(|| "—".to_owned(), signed);
                let _ = write!(page, "<td class=\"n\">{at}</td>");
            }
            let _ = writeln!(page, "<td class=\"n\">{}</td></tr>", lane.failures.len());
        }
        page.push_str("</table></div></details>\n");
    }
}

fn evidence(page: &mut String, verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "<details><summary>The {} failed requests, one by one</summary>\n<pre>",
        verdicts.len()
    );
    listed(page, verdicts);
    page.push_str("</pre>\n<p><code>zdt explain --record FILE ID</code> prints the evidence of one of them.</p></details>\n");
}

fn listed(page: &mut String, verdicts: &[Verdict]) {
    for verdict in verdicts.iter().take(MOST_LISTED) {
        let line = verdict_line(verdict, Style::PLAIN);
        let _ = writeln!(page, "{}\n    id {}", text(&line), text(&verdict.id));
    }
    if verdicts.len() > MOST_LISTED {
        let _ = writeln!(page, "… {} more", verdicts.len() - MOST_LISTED);
    }
}

fn apart(page: &mut String, report: &Report) {
    if report.apart.is_empty() && report.switches.is_empty() {
        return;
    }
    page.push_str("<section class=\"story\">\n");
    for switch in &report.switches {
        let _ = writeln!(page, "<p>{}</p>", text(&switch_line(switch)));
    }
    if !report.apart.is_empty() {
        let _ = write!(
            page,
            "<h2>{} failed requests that no rollout did</h2>\n<pre>",
            report.apart.len()
        );
        listed(page, &report.apart);
        page.push_str("</pre>\n");
    }
    page.push_str("</section>\n");
}
