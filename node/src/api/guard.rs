//! Who may ask: the checks that come before every handler.
//!
//! The API has no password: whoever reaches it may use it, so it listens on loopback. What is left
//! to fear there is a web page in the user's browser. It could ask for a name of its own that it
//! lets point to 127.0.0.1 (DNS rebinding), so only loopback's names are answered; or send a form
//! across origins, so requests that change anything must carry JSON, which a browser sends across
//! origins only when allowed, and nothing here allows it. And whatever a page changes it changes
//! with a token that only this node's own page is given.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;

/// Where this node's page sends back the token that stands in it.
const TOKEN: HeaderName = HeaderName::from_static("x-cpe-token");

/// What browsers send beside the origin.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a hostile page could have sent.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let (method, headers) = (request.method(), request.headers());
    let checked = verdict(method, headers, &app.hosts, &app.token)
        .and_then(|()| fits(headers, app.body_bytes_max));
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Ends requests that wait when the node stops.
pub(crate) async fn until_stop(State(app): State<App>, request: Request, next: Next) -> Response {
    tokio::select! {
        biased;
        () = app.stop.cancelled() => ApiError::stopping().into_response(),
        response = next.run(request) => response,
    }
}

/// A body that says it is too large is refused before any of it is read.
fn fits(headers: &HeaderMap, body_bytes_max: usize) -> Result<(), ApiError> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse::<usize>().ok()) {
        Some(length) if length > body_bytes_max => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a body of {length} bytes; at most {body_bytes_max} (api.body_bytes_max)"),
        )),
        _ => Ok(()),
    }
}

fn verdict(
    method: &Method,
    headers: &HeaderMap,
    hosts: &[String],
    token: &str,
) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST) else {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "no Host header",
        ));
    };
    if !is_own(host, hosts) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("this node is not called `{host}`; name it in the setting api.hosts"),
        ));
    }
    if let Some(origin) = text(header::ORIGIN)
        && origin.strip_prefix("http://") != Some(host)
    {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("pages of {origin} may not use this node"),
        ));
    }
    // Browsers name the origin with everything that may change something; other programs do not.
    let is_page = text(header::ORIGIN).is_some() || headers.contains_key(FETCH_SITE);
    let only_reads = matches!(*method, Method::GET | Method::HEAD);
    if is_page && !only_reads && text(TOKEN) != Some(token) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "a page must send the token it came with, in X-CPE-Token; load it again",
        ));
    }
    let sends = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let kind = text(header::CONTENT_TYPE).unwrap_or("");
    // Neither can be sent by a page of another origin without asking first.
    let kind = kind.split(';').next().map(str::trim);
    let kinds = [Some("application/json"), Some("application/octet-stream")];
    if sends && !kinds.contains(&kind) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_request",
            "send JSON, with the header Content-Type: application/json, or a value's bytes with \
             application/octet-stream",
        ));
    }
    Ok(())
}

fn is_own(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let loopback = name
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    loopback
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, headers: &[(header::HeaderName, &str)]) -> Option<StatusCode> {
        let map = headers
            .iter()
            .map(|(k, v)| (k.clone(), v.parse().unwrap()))
            .collect();
        let verdict = verdict(&method, &map, &["node-7.lan".to_owned()], "secret");
        verdict.err().map(|error| error.into_response().status())
    }

    #[test]
    fn only_loopback_and_configured_names_are_answered() {
        for host in [
            "127.0.0.1:8766",
            "localhost:1",
            "LOCALHOST",
            "[::1]:8766",
            "node-7.lan:80",
        ] {
            assert_eq!(ask(Method::GET, &[(header::HOST, host)]), None, "{host}");
        }
        for host in [
            "evil.example:8766",
            "192.168.1.5:8766",
            "127.0.0.1.evil.example",
            "",
        ] {
            let status = ask(Method::GET, &[(header::HOST, host)]);
            assert_eq!(status, Some(StatusCode::FORBIDDEN), "{host}");
        }
        assert_eq!(ask(Method::GET, &[]), Some(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let host = (header::HOST, "localhost:8766");
        let own = ask(
            Method::GET,
            &[host.clone(), (header::ORIGIN, "http://localhost:8766")],
        );
        assert_eq!(own, None);
        for origin in ["http://localhost:9000", "https://localhost:8766", "null"] {
            let status = ask(Method::GET, &[host.clone(), (header::ORIGIN, origin)]);
            assert_eq!(status, Some(StatusCode::FORBIDDEN), "{origin}");
        }
    }

    #[test]
    fn a_page_changes_nothing_without_its_token() {
        let host = (header::HOST, "localhost:8766");
        let kind = (header::CONTENT_TYPE, "application/json");
        for method in [Method::POST, Method::DELETE, Method::PUT] {
            for sign in [
                (header::ORIGIN, "http://localhost:8766"),
                (FETCH_SITE, "same-origin"),
            ] {
                let page = [host.clone(), kind.clone(), sign];
                let status = ask(method.clone(), &page);
                assert_eq!(status, Some(StatusCode::FORBIDDEN));
                let wrong = [&page[..], &[(TOKEN, "guess")]].concat();
                let status = ask(method.clone(), &wrong);
                assert_eq!(status, Some(StatusCode::FORBIDDEN));
                let right = [&page[..], &[(TOKEN, "secret")]].concat();
                assert_eq!(ask(method.clone(), &right), None);
            }
            // A program is no page.
            assert_eq!(ask(method, &[host.clone(), kind.clone()]), None);
        }
    }

    #[test]
    fn what_changes_anything_must_be_json() {
        let host = (header::HOST, "localhost:8766");
        let plain = ask(
            Method::POST,
            &[host.clone(), (header::CONTENT_TYPE, "text/plain")],
        );
        assert_eq!(plain, Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        let kind = (header::CONTENT_TYPE, "application/json; charset=utf-8");
        assert_eq!(ask(Method::POST, &[host, kind]), None);
    }
}
