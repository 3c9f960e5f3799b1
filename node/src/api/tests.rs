//! The OpenAPI document and the routes say the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::page::OPENAPI;

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

#[test]
fn every_route_is_in_the_openapi_document() {
    let document = document();
    let described: BTreeSet<&str> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let routed: BTreeSet<&str> = super::routes().iter().map(|(path, _)| *path).collect();
    assert_eq!(routed, described);
}

#[test]
fn every_method_of_a_route_is_in_the_openapi_document() {
    let document = document();
    for (path, methods) in super::routes() {
        // axum shows a route's methods in its debug output alone, as `allow_header: Bytes(b"..")`.
        let shown = format!("{methods:?}");
        let allowed = shown.split("allow_header: ").nth(1).unwrap();
        for method in ["get", "put", "post", "delete", "patch"] {
            let routed = allowed.contains(&method.to_uppercase());
            let described = document["paths"][path].get(method).is_some();
            assert_eq!(routed, described, "{method} {path}");
        }
    }
}

#[test]
fn every_reference_in_the_openapi_document_leads_somewhere() {
    fn check(root: &Value, part: &Value) {
        match part {
            Value::Object(map) => {
                if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                    assert!(
                        root.pointer(target.trim_start_matches('#')).is_some(),
                        "{target}"
                    );
                }
                map.values().for_each(|value| check(root, value));
            }
            Value::Array(items) => items.iter().for_each(|item| check(root, item)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}
