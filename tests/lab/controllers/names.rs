//! Names that Kubernetes makes up: random suffixes and the hash of a pod template.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Without vowels and look-alikes (apimachinery util/rand).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

fn letter(number: usize) -> char {
    ALPHABET
        .get(number % ALPHABET.len())
        .map_or('x', |byte| char::from(*byte))
}

/// Five random letters, as generateName adds them.
pub fn suffix(rng: &mut fastrand::Rng) -> String {
    (0..5).map(|_| letter(rng.usize(..ALPHABET.len()))).collect()
}

/// The `pod-template-hash`: FNV-1a of the template, its decimal digits written in the safe alphabet
/// (pkg/controller ComputeHash, rand.SafeEncodeString). Of the JSON form rather than Go's dump: the value differs from
/// a real cluster's, its shape does not.
pub fn template_hash(template: &PodTemplateSpec) -> String {
    // A template always has a JSON form; if not, two templates that have none are the same one.
    let json = serde_json::to_vec(template).unwrap_or_default();
    let hash = json.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_string()
        .bytes()
        .map(|digit| letter(usize::from(digit)))
        .collect()
}
