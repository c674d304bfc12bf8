//! `kind: Status`: how the API says that something is wrong.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One failure, with the reason word that clients match on (apimachinery meta/v1 StatusReason).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
}

impl Failure {
    pub fn bad_request(message: String) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            reason: "BadRequest",
            message,
        }
    }

    pub fn not_found(what: &str) -> Self {
        let message = format!("{what} not found");
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message,
        }
    }

    pub fn method_not_allowed() -> Self {
        let message = "the lab's API server serves GET (list, get, watch), and POST for events".to_owned();
        Self {
            code: StatusCode::METHOD_NOT_ALLOWED,
            reason: "MethodNotAllowed",
            message,
        }
    }

    /// 401: no token, or another one.
    pub fn unauthorized() -> Self {
        Self {
            code: StatusCode::UNAUTHORIZED,
            reason: "Unauthorized",
            message: "the token of the kubeconfig that `zdt-lab up` printed is needed".to_owned(),
        }
    }

    /// 415: a patch of a kind that is not served.
    pub fn unsupported_media_type(what: &str) -> Self {
        Self {
            code: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            reason: "UnsupportedMediaType",
            message: format!("{what}: only application/merge-patch+json is served"),
        }
    }

    /// 403: what no role of a monitoring tool allows.
    pub fn forbidden(what: &str) -> Self {
        Self {
            code: StatusCode::FORBIDDEN,
            reason: "Forbidden",
            message: format!("nobody may {what} here"),
        }
    }

    pub fn already_exists(message: String) -> Self {
        Self {
            code: StatusCode::CONFLICT,
            reason: "AlreadyExists",
            message,
        }
    }

    /// 422: the object is understood and wrong.
    pub fn invalid(what: &str) -> Self {
        Self {
            code: StatusCode::UNPROCESSABLE_ENTITY,
            reason: "Invalid",
            message: what.to_owned(),
        }
    }

    /// 500
    pub fn internal(what: &str) -> Self {
        Self {
            code: StatusCode::INTERNAL_SERVER_ERROR,
            reason: "InternalError",
            message: what.to_owned(),
        }
    }

    /// 410: the version is older than the event log. The client must list again.
    pub fn gone(asked: u64, oldest: u64) -> Self {
        // The text of apiserver storage/errors NewTooOldResourceVersionError.
        let message = format!("too old resource version: {asked} ({oldest})");
        Self {
            code: StatusCode::GONE,
            reason: "Expired",
            message,
        }
    }

    /// 504: the version has not happened yet (apiserver storage NewTooLargeResourceVersionError).
    pub fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        Self {
            code: StatusCode::GATEWAY_TIMEOUT,
            reason: "Timeout",
            message,
        }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.code, Json(self.to_json())).into_response()
    }
}
