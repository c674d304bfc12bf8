//! Asks the API server whose a token is and whether it may read a path, as kube-rbac-proxy does: a TokenReview, then a
//! SubjectAccessReview of the path. Answers are kept for a while, so that a page that is looked at asks it once a minute.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    clock,
    input::Ktime,
    serve::{Admission, Admitted},
};

/// Answers kept.
const MOST: usize = 1_024;

/// What was allowed may have been taken back for so long.
const ALLOWED_MS: f64 = 60_000.0;

/// And what was refused may have been granted.
const REFUSED_MS: f64 = 10_000.0;

/// The API server must have answered by then.
const WITHIN: Duration = Duration::from_secs(5);

/// Longer than any token of an API server: a request's head has less room.
const LONGEST_TOKEN: usize = 8_192;

/// Whether somebody may read something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    Yes,
    /// It is nobody's token.
    Unknown,
    /// Whose it is may not.
    No,
}

/// The one that asks. One question at a time: whoever floods it waits for itself.
pub struct Reviewer {
    client: Client,
    kept: Mutex<Kept>,
}

/// By the hash of token, verb and path; the token itself is not kept.
type Kept = BTreeMap<[u8; 32], (Ktime, Allowed)>;

impl Reviewer {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kept: Mutex::default(),
        }
    }

    /// Whether whoever has this token may `verb` that path. None: the API server did not say.
    pub async fn may(&self, token: &str, verb: &str, path: &str) -> Option<Allowed> {
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Some(Allowed::Unknown);
        }
        let question = key(&[token, verb, path]);
        let mut kept = self.kept.lock().await;
        let now = clock::now();
        kept.retain(|_, (at, allowed)| {
            let for_ms = if *allowed == Allowed::Yes {
                ALLOWED_MS
            } else {
                REFUSED_MS
            };
            now.ms_since(*at) < for_ms
        });
        if let Some((_, allowed)) = kept.get(&question) {
            return Some(*allowed);
        }
        let allowed = match timeout(WITHIN, self.ask(token, verb, path)).await {
            Ok(Ok(allowed)) => allowed,
            Ok(Err(error)) => {
                tracing::warn!(
                    "the API server does not say whose a token is: {error}; it takes the role of deploy/token-review"
                );
                return None;
            }
            Err(_) => return None,
        };
        if kept.len() >= MOST
            && let Some(oldest) = kept.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key)
        {
            kept.remove(&oldest);
        }
        kept.insert(question, (clock::now(), allowed));
        Some(allowed)
    }

    /// The same for the HTTP interface.
    pub fn admits(self: &Arc<Self>, token: Option<&str>, verb: &str, page: &str) -> Admission {
        let reviewer = Arc::clone(self);
        let (token, verb, page) = (token.map(str::to_owned), verb.to_owned(), page.to_owned());
        Box::pin(async move {
            let Some(token) = token else {
                return Admitted::NoToken;
            };
            match reviewer.may(&token, &verb, &page).await {
                Some(Allowed::Yes) => Admitted::Yes,
                Some(Allowed::Unknown) => Admitted::NoToken,
                Some(Allowed::No) => Admitted::No,
                None => Admitted::Unknown,
            }
        })
    }

    async fn ask(&self, token: &str, verb: &str, path: &str) -> kube::Result<Allowed> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let params = PostParams::default();
        let reviewed = Api::all(self.client.clone()).create(&params, &review).await?;
        let status = reviewed.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Allowed::Unknown);
        };
        let access = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(path.to_owned()),
                    verb: Some(verb.to_owned()),
                }),
                resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let told: SubjectAccessReview = Api::all(self.client.clone()).create(&params, &access).await?;
        let allowed = told.status.is_some_and(|s| s.allowed && s.denied != Some(true));
        Ok(if allowed { Allowed::Yes } else { Allowed::No })
    }
}

fn key(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
