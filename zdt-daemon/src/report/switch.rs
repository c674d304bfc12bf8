//! A service's switch to other pods, in one line.

use super::escape;
use crate::verdict::SelectorSwitch;

/// What it let go of, and the connections that stayed.
pub fn switch_line(switch: &SelectorSwitch) -> String {
    let name = &switch.service;
    let stayed = switch.stayed.map_or_else(
        || "the connections that stayed on the old ones were not counted".to_owned(),
        |n| format!("{n} connections stayed on the old ones, until they end"),
    );
    format!(
        "switch   {}/{} selects other pods now: {} let go of, {} ready; {stayed}   node {}",
        escape(&name.namespace),
        escape(&name.name),
        switch.left,
        switch.ready,
        escape(&switch.node),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Ktime, NsName, Wall};

    #[test]
    fn the_connections_that_stayed_are_named_or_said_to_be_unknown() {
        let mut switch = SelectorSwitch {
            node: "n1".to_owned(),
            service: NsName {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
            },
            at: Ktime::default(),
            wall: Wall(0),
            left: 2,
            ready: 3,
            stayed: Some(90),
        };
        let line = switch_line(&switch);
        assert_eq!(
            line,
            "switch   shop/web selects other pods now: 2 let go of, 3 ready; 90 connections stayed on the old ones, until \
             they end   node n1"
        );
        switch.stayed = None;
        assert!(switch_line(&switch).contains("were not counted"));
    }
}
