//! A node with an actor kind of its own: `cargo run -p cpe --example own_kinds`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use cpe::prelude::*;

/// Greets people, and puts the names of those it greeted into the shared space.
struct Greeter {
    node: NodeHandle,
    word: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    Greet(String),
}

impl Actor for Greeter {
    type Message = Message;
    type Reply = String;
    const ACCEPTS: &'static str = r#"{"greet":"NAME"}"#;

    async fn handle(
        &mut self,
        message: Message,
        _: &mut Context<Self>,
    ) -> Result<String, ActorError> {
        let Message::Greet(whom) = message;
        let space = self.node.space();
        space
            .store("guests", "name", Value::from(whom.as_str()))
            .await?;
        Ok(format!(
            "{} {whom}, from node {}",
            self.word,
            self.node.name()
        ))
    }
}

/// Starts a node that can run greeters, and talks to one as any node of the mesh could.
pub(crate) async fn run() -> Result<String, Box<dyn std::error::Error>> {
    let node = Node::builder()
        .name("here")
        .ephemeral()
        .listen("/ip4/127.0.0.1/tcp/0")
        .typed_kind("greeter", |start: KindStart| {
            let word = start.args.as_str().unwrap_or("hello").to_owned();
            Ok(Greeter {
                node: start.node,
                word,
            })
        })
        .start()
        .await?;
    let (actors, second) = (node.actors(), Duration::from_secs(1));
    actors
        .spawn(
            "greeter",
            "polly",
            Value::from("ahoy"),
            SpawnOptions::default(),
        )
        .await?;
    let greet = cpe::json::parse_value(r#"{"greet":"Ada"}"#)?;
    let answer = actors.ask("polly", greet, second).await?;
    println!("polly says {answer}");
    println!(
        "guests: {}",
        node.space().find("guests", "name", second).await?
    );
    node.shutdown(second * 10).await?;
    Ok(answer.as_str().unwrap_or_default().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run().await.map(drop)
}
