//! The query of a request: names and values.

use std::collections::BTreeMap;

/// The last value of each name counts.
pub(super) fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|p| !p.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// `%2F` and `+`, as forms have them (WHATWG URL, application/x-www-form-urlencoded). What is no such sign stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = behind;
                }
                _ => bytes.push(b'%'),
            },
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(hex: u8) -> Option<u8> {
    u8::try_from(char::from(hex).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn values_are_decoded_and_the_last_one_counts() {
        let asked = query("workload=deployment%2Fweb&namespace=a&namespace=shop&x=1+2%zz%4&empty=&alone");
        let of = |name: &str| asked.get(name).map(String::as_str);
        assert_eq!(of("workload"), Some("deployment/web"));
        assert_eq!(of("namespace"), Some("shop"));
        assert_eq!(of("x"), Some("1 2%zz%4"));
        assert_eq!((of("empty"), of("alone"), of("none")), (Some(""), Some(""), None));
        assert_eq!(query("a=%ff%00").get("a").map(String::as_str), Some("\u{fffd}\0"));
    }
}
