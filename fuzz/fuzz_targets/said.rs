//! What zdt says of whatever it was told: readable, and harmless where it is shown.

use zdt_parsers::{
    correlate::{Correlator, Settings},
    input::Input,
    report::{
        self, Report, Style, Wanted, explanation, html, live_stories, markdown, not_seen_line, rollout_block,
        screen, switch_line, verdict_line,
    },
    verdict::Output,
};

/// Bounds that a short input reaches.
fn small() -> Settings {
    Settings {
        max_flows: 16,
        max_pods: 8,
        max_endpoints: 32,
        max_services: 8,
        ..Settings::default()
    }
}

/// Everything through the correlator and the reports.
pub fn all<'a>(inputs: impl IntoIterator<Item = &'a Input>) {
    let mut correlator = Correlator::new(small());
    let mut out = Vec::new();
    for input in inputs {
        correlator.step(input, &mut out);
    }
    for table in correlator.tables() {
        let bound = match table.name {
            "flows" => small().max_flows,
            "pods" => small().max_pods,
            "endpoint-addresses" | "routes" => small().max_endpoints,
            _ => continue,
        };
        assert!(table.entries <= bound, "{table:?}");
    }
    let under_way = correlator.under_way();
    correlator.finish(&mut out);
    for output in &out {
        let said = match output {
            Output::Verdict(v) => {
                harmless(&explanation(v, Style::PLAIN));
                verdict_line(v, Style::PLAIN)
            }
            Output::Rollout(r) => rollout_block(r, Style::PLAIN),
            Output::SelectorSwitch(s) => switch_line(s),
            Output::NotSeen(n) => not_seen_line(n),
            Output::Propagation(_) => String::new(),
        };
        harmless(&said);
        let line = report::json(output).unwrap_or_default();
        harmless(&line);
        assert!(!line.is_empty() && serde_json::from_str::<Output>(&line).is_ok_and(|back| back == *output));
    }
    let wanted = Wanted::default();
    let report = Report::of(live_stories(out, &under_way), &wanted);
    for text in [screen(&report, Style::PLAIN), markdown(&report), html(&report)] {
        harmless(&text);
    }
}

/// No control character but the line's end, and nothing that turns the direction of text.
pub fn harmless(text: &str) {
    for line in text.lines() {
        assert_eq!(report::escape(line), line);
    }
}
