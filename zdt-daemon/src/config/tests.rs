//! Tests of `config`: what arguments are taken for.

use clap::{CommandFactory as _, Parser as _};
use proptest::prelude::*;

#[test]
fn arguments_are_well_formed() {
    super::Cli::command().debug_assert();
}

#[test]
fn address_to_listen_on_needs_no_port_and_no_name() {
    for (text, wanted) in [
        ("127.0.0.1", "127.0.0.1:9734"),
        ("10.0.0.7:80", "10.0.0.7:80"),
        ("::1", "[::1]:9734"),
        ("[::1]", "[::1]:9734"),
        ("[fd00::7]:80", "[fd00::7]:80"),
    ] {
        assert_eq!(super::listen(text).unwrap().to_string(), wanted);
    }
    for text in ["", "localhost", ":9734", "127.0.0.1:", "127.0.0.1:70000", "[::1"] {
        assert!(super::listen(text).unwrap_err().contains("127.0.0.1"), "{text}");
    }
}

/// Words that mean something somewhere, and others.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "run",
        "record",
        "replay",
        "report",
        "gate",
        "watch",
        "explain",
        "propagation",
        "causes",
        "doctor",
        "serve-gate",
        "version",
        "--listen",
        "--record",
        "--since",
        "--timeout",
        "--server",
        "--budget",
        "--format",
        "-o",
        "--tls-cert",
        "--tls-key",
        "--token-review",
        "--node",
        "--",
        "-",
        "json",
        "10m",
        "127.0.0.1:0",
        "deployment/web",
        "[::1]:",
        "http://",
        "99999999999999999999y",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => ".{0,20}", 1 => "[-0-9:.\\[\\]a-f/]{0,20}"]
}

proptest! {
    #[test]
    fn any_arguments_are_taken_or_refused_and_nothing_else(words in prop::collection::vec(word(), 0..8)) {
        let words = std::iter::once("zdt".to_owned()).chain(words);
        if let Err(refused) = super::Cli::try_parse_from(words) {
            prop_assert!(!refused.to_string().is_empty());
        }
    }

    #[test]
    fn any_text_is_an_address_a_duration_or_neither(text in prop_oneof![".{0,40}", "[-+0-9hms: .]{0,40}", "[0-9a-f:\\[\\].]{0,40}"]) {
        if let Ok(addr) = super::listen(&text) {
            // What is shown is taken again.
            prop_assert_eq!(super::listen(&addr.to_string()), Ok(addr));
        }
        let _ = super::since(&text);
        if let Ok(server) = text.parse::<super::Server>() {
            prop_assert_eq!(server.to_string().parse(), Ok(server));
        }
    }
}
