//! Rules of a live agent: why it did what it did, and what it knows.

use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::console::{self, Line};
use crate::cli::Common;
use crate::client::{Client, segment};
use crate::exit::{About, Fault, Status};
use crate::output;

/// How long an agent may take to answer; it may be at work.
const WITHIN: Duration = Duration::from_secs(10);

/// Shows which rules of an agent fired on which facts, as text or as a picture in DOT.
pub(super) async fn explain(agent: &str, dot: bool, common: &Common) -> Result<Status, Fault> {
    let answer = ask(agent, &json!("trace"), common).await?;
    if common.json {
        output::json(&answer)?;
        return Ok(Status::Done);
    }
    let form = if dot { "dot" } else { "text" };
    let text = answer.get(form).and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() {
        output::warn(format_args!("no rule of {agent} has fired"));
    } else {
        output::raw(text.as_bytes())?;
    }
    Ok(Status::Done)
}

/// The prompt on a live agent. Ctrl-C while an answer is waited for ends the wait, and not the
/// program: what the agent does ends by its own limits.
pub(super) fn console(agent: &str, writes: bool, common: &Common) -> Result<Status, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .about("cannot start the runtime")?;
    let mut interrupts = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt()).about("cannot listen for Ctrl-C")?
    };
    console::live(writes, |line| {
        let question = match line {
            Line::Looks(command) => json!({"inspect": command}),
            Line::Does(command) => json!({"do": command}),
        };
        let answer = runtime.block_on(async {
            forget(&mut interrupts).await;
            tokio::select! {
                answer = ask(agent, &question, common) => answer,
                _ = interrupts.recv() => {
                    let why = format!("no longer waiting for {agent}, which may be at work yet");
                    Err(Fault::failed(why))
                }
            }
        })?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    })
}

/// Forgets a Ctrl-C from before a command was given: it was not meant for that one.
async fn forget(interrupts: &mut Signal) {
    // The runtime stands still between two commands, and hears of signals when it rests.
    tokio::task::yield_now().await;
    let heard = |context: &mut Context<'_>| {
        while let Poll::Ready(Some(())) = interrupts.poll_recv(context) {}
        Poll::Ready(())
    };
    std::future::poll_fn(heard).await;
}

async fn ask(agent: &str, question: &Value, common: &Common) -> Result<Value, Fault> {
    let within = common.timeout.unwrap_or(WITHIN);
    let client = Client::of(common);
    let body = json!({
        "message": {"$rules": question},
        "timeout_ms": u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
    });
    let path = format!("/v1/actors/{}/ask", segment(agent));
    let mut answer = client.post(&path, &body, within).await?;
    let answer = answer.get_mut("answer").map(Value::take);
    Ok(answer.unwrap_or_default())
}
