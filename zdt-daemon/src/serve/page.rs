//! The page: one file without anything from elsewhere. Its policy allows its own style and script by their hashes, and no
//! other.

use std::sync::OnceLock;

use hyper::{
    StatusCode,
    body::Bytes,
    header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY},
};
use sha2::{Digest as _, Sha256};

use super::answer::{Answer, typed};
use crate::report::lanes_key;

/// The report's style, and what the page has besides.
const STYLE: &str = concat!(include_str!("../report/page.css"), include_str!("page.css"));
const SCRIPT: &str = include_str!("page.js");
const BODY: &str = include_str!("page.html");

pub(super) fn page() -> Answer {
    static PAGE: OnceLock<(Bytes, HeaderValue)> = OnceLock::new();
    let (page, policy) = PAGE.get_or_init(|| {
        let page = BODY.replace("{{key}}", &lanes_key());
        let page = page.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        );
        let policy = HeaderValue::from_str(&policy);
        let policy = policy.unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        (Bytes::from(page), policy)
    });
    let mut response = typed(StatusCode::OK, "text/html; charset=utf-8", page.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// As a policy names it: `sha256-` and the hash in base64 (CSP Level 3, 2.3.1).
fn hash(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text)))
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let of = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for n in 0..4 {
            let sign = SIGNS.get((bits >> (18 - 6 * n) & 63) as usize).copied();
            let sign = if n > chunk.len() {
                b'='
            } else {
                sign.unwrap_or(b'=')
            };
            text.push(char::from(sign));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BODY, SCRIPT, STYLE, base64, hash};

    #[test]
    fn base64_is_rfc_4648s() {
        for (plain, wanted) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), wanted);
        }
        assert_eq!(hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn page_needs_nothing_else_and_writes_no_markup() {
        assert!(BODY.contains("{{style}}") && BODY.contains("{{script}}"));
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</script"));
        for dangerous in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!SCRIPT.contains(dangerous), "{dangerous}");
        }
        for elsewhere in ["http:", "https:", "//cdn", "@import", "url("] {
            let own = SCRIPT.replace("http://www.w3.org/", "");
            assert!(
                ![BODY, STYLE, own.as_str()].iter().any(|t| t.contains(elsewhere)),
                "{elsewhere}"
            );
        }
    }
}
