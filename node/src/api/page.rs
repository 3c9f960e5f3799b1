//! The status page and the machine-readable description of the API.

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use super::App;

const PAGE: &str = include_str!("page.html");

/// Where the token stands in the page.
const TOKEN_PLACE: &str = "{{token}}";

pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// The page loads nothing from elsewhere, sends nothing elsewhere and cannot be framed.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'none'";

const HARDENING: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// A page that shows this node, its peers and its workspaces, and keeps them current.
pub(crate) async fn page(State(app): State<App>) -> impl IntoResponse {
    let page = PAGE.replace(TOKEN_PLACE, &app.token);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // The token in it is of this run.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (HARDENING, headers, page)
}

/// The OpenAPI document.
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
