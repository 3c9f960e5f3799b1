//! What people see of the gateway, and what they change by it.

use serde_json::json;

use super::{Client, STRING, alone, until};
use crate::api::{raw, send};
use crate::harness::Node;

fn get(node: &Node, path: &str) -> serde_json::Value {
    let (status, body) = send(node, "GET", path, "Host: localhost\r\n", "");
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn clients_and_who_waits_and_values_are_shown() {
    let node = alone();
    let mut client = Client::at(&node);
    client.status(&["open ws", "w", "12", "yes"], "0000");
    let pickled: [&[u8]; 5] = [b"store", b"w", b"v", b"00000000000016777216", b"\x80K"];
    client.ask(&pickled);
    client.says(b"0000");
    client.status(&["store", "w", "v", STRING, "tea"], "0000");
    let mut waits = Client::at(&node);
    waits.status(&["use ws", "w", "", "no"], "0000");
    waits.ask(&[b"fetch", b"w", b"q"]);
    until("it is shown that one waits", || {
        get(&node, "/v1/nws")["waiting"] != json!([])
    });
    let shown = get(&node, "/v1/nws");
    let waiting = json!([{"workspace": "w", "variable": "q", "fetchers": 1, "finders": 0}]);
    assert_eq!(shown["waiting"], waiting);
    let peer = client.stream.local_addr().unwrap().to_string();
    assert_eq!(shown["clients"].as_array().unwrap().len(), 2);
    assert_eq!(shown["clients"][0]["peer"], peer);
    assert_eq!(shown["clients"][0]["owned"], 1);
    let owner = format!("{peer} (12)");
    let made = json!([{"name": "w", "workspace": "w", "owner": owner, "persistent": true}]);
    assert_eq!(shown["workspaces"], made);
    let values = get(&node, "/v1/spaces/w/variables/v");
    let wanted = json!([
        {"type": "bytes", "language": "Python", "size": 2, "text": "\\x80K", "cut": false},
        {"type": "string", "language": null, "size": 3, "text": "tea", "cut": false},
    ]);
    assert_eq!(values, wanted);
    assert_eq!(
        get(&node, "/v1/spaces/w/variables/v?limit=1")
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// As a browser would ask.
#[test]
fn a_page_deletes_with_its_token_and_never_by_get() {
    let node = alone();
    let mut client = Client::at(&node);
    client.status(&["open ws", "w", "12", "yes"], "0000");
    client.status(&["store", "w", "v", STRING, "tea"], "0000");
    let (status, page) = raw(
        &node,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status, 200);
    let token = page.split("name=\"token\" content=\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap();
    let port = node.api.rsplit_once(':').unwrap().1;
    let own = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n");
    let json = "Content-Type: application/json\r\n";
    let with = format!("{own}{json}X-CPE-Token: {token}\r\n");
    for path in ["/v1/nws/w", "/v1/spaces/w", "/v1/spaces/w/variables/v"] {
        let (status, _) = send(&node, "DELETE", path, &own, "");
        assert_eq!(status, 403, "{path}");
        let (status, _) = send(&node, "GET", &format!("{path}/delete"), &own, "");
        assert_eq!(status, 404, "{path}");
    }
    let take = "/v1/spaces/w/values/v/take";
    let (status, _) = send(&node, "POST", take, &format!("{own}{json}"), "");
    assert_eq!(status, 403);
    assert_eq!(send(&node, "GET", take, &own, "").0, 405);
    assert_eq!(client.get(&["find", "w", "v"]).as_deref(), Some("tea"));
    // fetchTry, and then the workspace.
    let take =
        format!("POST {take} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n{with}\r\n");
    let (status, taken) = raw(&node, &take);
    assert!(status == 200 && taken.contains("tea"), "{taken}");
    assert_eq!(client.get(&["findTry", "w", "v"]), None);
    assert_eq!(send(&node, "DELETE", "/v1/nws/w", &with, "").0, 200);
    client.status(&["store", "w", "v", STRING, "x"], "0001");
    assert_eq!(client.get(&["list wss", "w"]).as_deref(), Some(""));
    assert_eq!(send(&node, "DELETE", "/v1/nws/w", &with, "").0, 404);
}
