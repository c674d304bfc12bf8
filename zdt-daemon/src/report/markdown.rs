use super::Report;
pub fn markdown(_: &Report) -> String { String::new() }
