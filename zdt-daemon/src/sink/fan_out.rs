//! One output to several sinks, in order.

use std::io;

use super::Sink;
use crate::{report, verdict::Output};

/// Delivers to each of its sinks; the first one that fails ends it.
pub struct FanOut(pub Vec<Box<dyn Sink + Send>>);

impl Sink for FanOut {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        let json = if self.0.iter().filter(|sink| sink.writes_json()).count() > 1 {
            Some(report::json(output)?)
        } else {
            None
        };
        self.0
            .iter_mut()
            .try_for_each(|sink| match json.as_deref().filter(|_| sink.writes_json()) {
                Some(json) => sink.deliver_json(output, json),
                None => sink.deliver(output),
            })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.flush())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        input::{Ktime, Wall},
        report::Style,
        sink::{Format, Stdout, recent::Recent},
        verdict::NotSeen,
    };

    /// What was written.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output() -> Output {
        Output::NotSeen(Box::new(NotSeen {
            node: "n1\u{9b}31m".into(),
            of: vec!["pods".into()],
            from: Ktime(1),
            to: Ktime(2),
            wall: Wall(3),
        }))
    }

    #[test]
    fn json_that_is_made_once_is_what_each_sink_would_make() {
        let style = Style { colour: false };
        let written = [(); 3].map(|()| Shared::default());
        let stdout = |n: usize, format| Box::new(Stdout::new(written[n].clone(), format, style));
        let (recent, kept) = Recent::new("n1");
        let sinks: Vec<Box<dyn Sink + Send>> =
            vec![stdout(0, Format::Json), Box::new(kept), stdout(1, Format::Text)];
        FanOut(sinks).deliver(&output()).unwrap();
        FanOut(vec![stdout(2, Format::Json)]).deliver(&output()).unwrap();
        let [json, text, alone] = written.map(|w| String::from_utf8(w.0.lock().unwrap().clone()).unwrap());
        assert_eq!(json, alone);
        assert!(json.starts_with('{') && !text.starts_with('{') && !text.is_empty());
        let kept = recent.behind(0, 1, 1 << 20).kept.remove(0).line;
        let numbered = format!("{},\"seq\":1}}", json.trim_end().strip_suffix('}').unwrap());
        assert_eq!(kept, numbered);
    }
}
