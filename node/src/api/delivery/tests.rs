//! Connections that end in the middle of an answer with something taken.

use std::sync::Arc;
use std::time::Duration;

use cpe::{Node, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::super::{About, Shared, router, server};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// Longer than what fits between server and client, shorter than what is kept apart.
const TEXT: &str = "a value of some length, of which the client hears only the beginning";

/// Bytes on their way at most.
const ON_THE_WAY: usize = 64;

async fn node() -> (Node, axum::Router) {
    let node = Node::builder().ephemeral().start().await.unwrap();
    node.mesh().joined(LONG).await.unwrap();
    let app = Shared {
        models: crate::forest::model::Models::default(),
        space: node.space(),
        actors: node.actors(),
        mesh: node.mesh(),
        nws: None,
        token: String::new(),
        about: About {
            name: String::new(),
            peer: String::new(),
            addresses: Vec::new(),
            version: "",
        },
        hosts: Vec::new(),
        body_bytes_max: 1 << 20,
        stop: CancellationToken::new(),
    };
    let router = router(&Arc::new(app));
    (node, router)
}

/// Connects and asks; the server works on while the test does.
async fn ask(router: &axum::Router, path: &str, body: &str) -> DuplexStream {
    let (mut client, stream) = tokio::io::duplex(ON_THE_WAY);
    let serving = server::connection(stream, router.clone());
    tokio::spawn(async move {
        serving.await.ok();
    });
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

const FORMS: [(&str, &str); 6] = [
    ("/v1/spaces/w/in", r#"{"template":["x",{"?":"any"}]}"#),
    ("/v1/spaces/w/inp", r#"{"template":["x",{"?":"any"}]}"#),
    (
        "/v1/spaces/w/in",
        r#"{"template":["x",{"?":"any"}],"lease_ms":86400000}"#,
    ),
    (
        "/v1/spaces/w/inp",
        r#"{"template":["x",{"?":"any"}],"lease_ms":86400000}"#,
    ),
    ("/v1/spaces/w/values/x/take", ""),
    ("/v1/spaces/w/values/x/take?wait=true", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_that_closes_in_the_middle_had_taken_goes_back() {
    let (node, router) = node().await;
    let space = node.space();
    for (path, body) in FORMS {
        space.store("w", "x", Value::from(TEXT)).await.unwrap();
        let mut client = ask(&router, path, body).await;
        let mut begin = [0; 15];
        client.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 OK", "{path} {body}");
        drop(client);
        let back = space.fetch("w", "x", LONG).await;
        assert_eq!(back.unwrap(), Value::from(TEXT), "{path} {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_has_read_to_its_end_stays_taken() {
    let (node, router) = node().await;
    let space = node.space();
    for (path, body) in FORMS {
        space.store("w", "x", Value::from(TEXT)).await.unwrap();
        let mut client = ask(&router, path, body).await;
        let mut said = String::new();
        // Text and the JSON around it end differently; all of them have this in the end.
        while !said.contains("only the beginning") {
            said.push(char::from(client.read_u8().await.unwrap()));
        }
        // The next answer comes when this one is over.
        let stated = "GET /v1/node HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.write_all(stated.as_bytes()).await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
        let gone = space.fetch_try("w", "x", LONG).await.unwrap();
        assert_eq!(gone, None, "{path} {body}");
    }
}
