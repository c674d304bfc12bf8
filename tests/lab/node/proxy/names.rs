//! Names of kube-proxy's chains: a prefix and a part of a hash.

use sha2::{Digest as _, Sha256};

use super::endpoints::Key;

/// pkg/proxy/iptables/proxier.go, portProtoHash and servicePortEndpointChainName: base32 of SHA-256, first 16 characters.
fn hash(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.concat());
    // 16 characters of 5 bits are the first 10 bytes.
    let bits = digest
        .iter()
        .take(10)
        .fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    (0..16u32)
        .map(|n| {
            let five = u8::try_from(bits >> (75 - 5 * n) & 31).unwrap_or(0);
            // RFC 4648: A to Z, 2 to 7.
            char::from(if five < 26 { b'A' + five } else { b'2' + five - 26 })
        })
        .collect()
}

/// `port` is `namespace/name` or `namespace/name:port`; `protocol` is lower case.
pub(super) fn service(prefix: &str, port: &str, protocol: &str) -> String {
    format!("{prefix}{}", hash(&[port, protocol]))
}

/// What follows the prefix in nftables mode: 8 characters of the hash and what was hashed
/// (pkg/proxy/nftables/proxier.go, hashAndTruncate; the lab's names are far below its 240 characters).
pub(super) fn nftables((namespace, name): &Key, protocol: &str, port: &str) -> String {
    let whole = format!("{namespace}/{name}/{protocol}/{port}");
    let hash: String = hash(&[&whole]).chars().take(8).collect();
    format!("{hash}-{whole}")
}

/// `endpoint` is `ip:port`, IPv6 in brackets.
pub(super) fn endpoint(port: &str, protocol: &str, endpoint: &str) -> String {
    format!("KUBE-SEP-{}", hash(&[port, protocol, endpoint]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From iptables-save of a real cluster (1.36.2).
    #[test]
    fn names_are_those_of_a_real_kube_proxy() {
        assert_eq!(
            service("KUBE-SVC-", "default/web", "tcp"),
            "KUBE-SVC-LOLE4ISW44XBNF3G"
        );
        assert_eq!(
            service("KUBE-EXT-", "default/web", "tcp"),
            "KUBE-EXT-LOLE4ISW44XBNF3G"
        );
        assert_eq!(
            service("KUBE-SVC-", "default/kubernetes:https", "tcp"),
            "KUBE-SVC-NPX46M4PTMTKRN6Y"
        );
        assert_eq!(
            endpoint("default/web", "tcp", "10.244.1.13:8080"),
            "KUBE-SEP-7SBJABJFXKNZTP6W"
        );
        let key = |name: &str| ("default".to_owned(), name.to_owned());
        assert_eq!(nftables(&key("web"), "tcp", ""), "PFISGYVC-default/web/tcp/");
        assert_eq!(
            nftables(&key("kubernetes"), "tcp", "https"),
            "2QRHZV4L-default/kubernetes/tcp/https"
        );
    }
}
