//! `metadata.uid` of a pod: 36 letters that are 16 bytes. A cluster has 150,000 of them, and they are compared and copied all the time.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Uuid, fmt::Hyphenated};

/// A text that mostly is a UUID (RFC 9562, lower case, as Kubernetes writes them).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UidText(Repr);

/// A text has one of the two only, so that they can be compared.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Uuid(Uuid),
    /// A static pod's hash, and whatever else there may be.
    Other(Box<str>),
}

/// What is written otherwise (capitals, braces, no dashes) would come back as another text.
fn parse(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (written(uuid, &mut [0; Hyphenated::LENGTH]) == text).then_some(uuid)
}

fn written(uuid: Uuid, letters: &mut [u8; Hyphenated::LENGTH]) -> &str {
    uuid.hyphenated().encode_lower(letters)
}

impl UidText {
    fn with<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Repr::Uuid(uuid) => take(written(*uuid, &mut [0; Hyphenated::LENGTH])),
            Repr::Other(text) => take(text),
        }
    }
}

impl From<&str> for UidText {
    fn from(text: &str) -> Self {
        Self(parse(text).map_or_else(|| Repr::Other(text.into()), Repr::Uuid))
    }
}

impl From<String> for UidText {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Default for UidText {
    fn default() -> Self {
        "".into()
    }
}

impl fmt::Display for UidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|text| f.write_str(text))
    }
}

impl fmt::Debug for UidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|text| fmt::Debug::fmt(text, f))
    }
}

impl PartialEq<&str> for UidText {
    fn eq(&self, other: &&str) -> bool {
        self.with(|text| text == *other)
    }
}

/// As the texts are ordered.
impl Ord for UidText {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Digits are ordered as their letters, and the dashes are all in the same places.
            (Repr::Uuid(one), Repr::Uuid(other)) => one.cmp(other),
            _ => self.with(|one| other.with(|other| one.cmp(other))),
        }
    }
}

impl PartialOrd for UidText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for UidText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for UidText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// UUIDs, what is nearly one, and what is none.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-g]{4}-[0-9a-f]{4}[-0][0-9a-f]{12}",
            "([{]|urn:uuid:)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}[}]?",
            // A static pod's.
            "[0-9a-f]{32}",
            "[0-9a-f]{8}(-[0-9a-f]{0,4})?",
            ".{0,40}",
        ]
    }

    proptest! {
        #[test]
        fn a_uid_is_its_text(one in text(), other in text()) {
            let (a, b) = (UidText::from(one.as_str()), UidText::from(other.clone()));
            prop_assert_eq!(a.to_string(), one.clone());
            prop_assert_eq!(format!("{a:?}"), format!("{one:?}"));
            prop_assert!(a == one.as_str());
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&one).unwrap());
            prop_assert_eq!(serde_json::from_str::<UidText>(&json).unwrap(), a);
        }
    }

    #[test]
    fn a_uuid_takes_no_allocation() {
        let uid = UidText::from("6eb8ce33-66ec-4c5f-acb6-bd914cf4f354");
        assert!(matches!(uid.0, Repr::Uuid(_)));
        assert_eq!(size_of::<UidText>(), 24);
    }
}
