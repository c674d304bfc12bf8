//! A request to the HTTP interface, as the bytes of a connection.
#![no_main]

#[path = "said.rs"]
mod said;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    time::timeout,
};
use zdt_parsers::{
    serve::{self, Aside, Pages, Site, Text, Told},
    sink::{Sink as _, recent::Recent},
};

struct Kept(Arc<Recent>);

impl Pages for Kept {
    fn metrics(&self) -> Text {
        Box::pin(async { Some("made\n".to_owned()) })
    }

    fn metrics_type(&self) -> &'static str {
        "text/plain"
    }

    fn alive(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn ready(&self) -> Result<(), &'static str> {
        Ok(())
    }

    fn recent(&self) -> &Arc<Recent> {
        &self.0
    }

    fn aside(&self, work: Box<dyn FnOnce() -> Told + Send>) -> Aside {
        Box::pin(async move { Some(work()) })
    }

    fn dropped_listener(&self) {}

    fn asked(&self, _: &'static str, _: u16) {}
}

/// What a real rollout led to.
fn kept() -> Arc<Recent> {
    let (recent, mut sink) = Recent::new("n1");
    for line in include_str!("../../tests/fixtures/immediate-exit/yes-answer-cut.verdicts.jsonl").lines() {
        let output = serde_json::from_str(line).expect("a fixture");
        sink.deliver(&output).expect("kept in memory");
    }
    recent
}

fuzz_target!(|request: &[u8]| {
    static STARTED: OnceLock<(Runtime, Arc<Recent>)> = OnceLock::new();
    let (runtime, recent) = STARTED.get_or_init(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // Time goes on when nothing else does.
        let runtime = runtime.enable_time().start_paused(true).build();
        (runtime.expect("a runtime"), kept())
    });
    let answer = runtime.block_on(async {
        let site = Arc::new(Site::new(Arc::new(Kept(Arc::clone(recent)))));
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let _ = near.write_all(&request[..request.len().min(1 << 19)]).await;
        let asking = async {
            let mut answer = Vec::new();
            // Events go on without end.
            while answer.len() < 1 << 16
                && let Ok(Ok(1..)) = timeout(Duration::from_secs(1), near.read_buf(&mut answer)).await
            {
            }
            // A request that has not ended.
            let _ = near.shutdown().await;
            while answer.len() < 1 << 16
                && let Ok(Ok(1..)) = timeout(Duration::from_secs(1), near.read_buf(&mut answer)).await
            {
            }
            answer
        };
        tokio::select! {
            answer = asking => answer,
            () = async { serve::one(far, site).await; std::future::pending().await } => Vec::new(),
        }
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    let text = String::from_utf8_lossy(&answer);
    for line in text.split("\r\n") {
        said::harmless(line);
    }
});
