//! The kind `command`: an actor that runs a program for each message.
//!
//! Arguments: `{"program": P, "args": [TEXT, ...], "within_ms": N}`. A message is written to the
//! program's standard input, a text as it is and anything else as JSON; what the program writes to
//! standard output is the answer: a value if it is JSON, else a text without its last line end. A
//! program that ends with another status than 0 refuses the message, and the end of what it wrote
//! to standard error is the reason.
//!
//! A node runs only programs that it was told to allow, compared letter by letter; there is no
//! shell in between. Each allowed program is a capability of the node, so that an actor can require
//! it.

use std::process::Stdio;
use std::time::Duration;

use cpe::{ActorError, DynActor, DynContext, KindStart, NodeBuilder, Value, json};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::reaper::Group;

/// Bytes of an answer at most: the largest value a message carries is of this order.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Bytes of standard error that are kept for the reason, which has 1 KiB in all.
const ERROR_BYTES_MAX: usize = 700;

/// Arguments of a program at most.
const ARGS_MAX: usize = 256;

/// How long a program may take unless the actor's arguments say otherwise.
const WITHIN: Duration = Duration::from_secs(30);

/// The longest time that they may say.
const WITHIN_MAX: Duration = Duration::from_secs(3600);

/// Adds the kind and says which programs the node allows; without any there is no such kind.
pub(super) fn register(mut builder: NodeBuilder, allowed: &[String]) -> NodeBuilder {
    if allowed.is_empty() {
        return builder;
    }
    for program in allowed {
        builder = builder.capability(format!("command:{program}"), "yes");
    }
    let allowed = allowed.to_vec();
    builder.kind("command", move |start| CommandActor::make(&start, &allowed))
}

struct CommandActor {
    program: String,
    args: Vec<String>,
    within: Duration,
}

impl CommandActor {
    fn make(start: &KindStart, allowed: &[String]) -> Result<Box<dyn DynActor>, ActorError> {
        let actor = Self::of(&start.args).map_err(ActorError::refused)?;
        if allowed.contains(&actor.program) {
            return Ok(Box::new(actor));
        }
        Err(ActorError::refused(format!(
            "node {} does not allow the program `{}`; it allows {} (require \"command:PROGRAM\" \
             = \"yes\" to be put on a node that does, or start the node with --allow-command)",
            start.node.name(),
            actor.program,
            allowed.join(", ")
        )))
    }

    fn of(args: &Value) -> Result<Self, String> {
        const FORM: &str = "a command needs a program: {\"program\": P, \"args\": [TEXT, ...], \
                            \"within_ms\": N}, the last two at will";
        let map = args.as_map().ok_or(FORM)?;
        let known = ["program", "args", "within_ms"];
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("`{key}` is not known; {FORM}"));
        }
        let program = map.get("program").and_then(Value::as_str).ok_or(FORM)?;
        let args = match map.get("args") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::List(items)) if items.len() <= ARGS_MAX => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or(FORM))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(format!("args are a list of at most {ARGS_MAX}; {FORM}")),
        };
        // The system would say so at each message.
        if program.is_empty()
            || args
                .iter()
                .chain([&program.to_owned()])
                .any(|text| text.contains('\0'))
        {
            return Err(format!("an empty program, or a zero byte; {FORM}"));
        }
        let within = match map.get("within_ms") {
            None | Some(Value::Null) => WITHIN,
            Some(value) => value
                .as_int()
                .and_then(|ms| u64::try_from(ms).ok())
                .map(Duration::from_millis)
                .filter(|within| !within.is_zero() && *within <= WITHIN_MAX)
                .ok_or_else(|| format!("within_ms is 1 to {}", WITHIN_MAX.as_millis()))?,
        };
        Ok(Self {
            program: program.to_owned(),
            args,
            within,
        })
    }

    async fn run(&self, message: Value) -> Result<Value, ActorError> {
        let program = &self.program;
        let refused = |what: String| ActorError::refused(format!("`{program}` {what}"));
        let mut command = Command::new(program);
        command
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let group = Group::spawn(&mut command)
            .map_err(|error| refused(format!("cannot be started: {error}")))?;
        let input = match message {
            Value::String(text) => text,
            other => json::value_to_json(&other).to_string(),
        };
        match tokio::time::timeout(self.within, converse(group, input)).await {
            Err(_) => Err(refused(format!("did not end within {:?}", self.within))),
            Ok(Err(what)) => Err(refused(what)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

impl DynActor for CommandActor {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move { self.run(message).await.map(Some) })
    }

    // It has no state of its own: another node goes on with it from its arguments.
    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::Null))
    }
}

/// Gives a program its input, and reads its answer. What it started ends with it.
async fn converse(mut group: Group, input: String) -> Result<Value, String> {
    let piped = "its pipes are taken once";
    let mut stdin = group.child.stdin.take().ok_or(piped)?;
    let stdout = group.child.stdout.take().ok_or(piped)?;
    let stderr = group.child.stderr.take().ok_or(piped)?;
    // All at once: a program may write before it has read all.
    let (_, out, err) = tokio::join!(
        async move {
            // It need not read its input.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        },
        first(stdout),
        last(stderr),
    );
    let out = out.map_err(|error| format!("cannot be read: {error}"))?;
    if out.len() > ANSWER_BYTES_MAX {
        return Err(format!(
            "wrote more than {ANSWER_BYTES_MAX} bytes: let it put the data into the space"
        ));
    }
    let status = group.child.wait().await;
    let status = status.map_err(|error| format!("cannot be waited for: {error}"))?;
    if !status.success() {
        let err = String::from_utf8_lossy(&err);
        return Err(format!("ended with {status}: {}", err.trim_end()));
    }
    answer(out)
}

/// The first bytes, one more than are allowed at most; the rest is not read.
async fn first(from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    from.take(most).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The last bytes.
async fn last(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut kept, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read) = from.read(&mut part).await
        && read > 0
    {
        kept.extend(part.iter().take(read));
        let over = kept.len().saturating_sub(ERROR_BYTES_MAX);
        kept.drain(..over);
    }
    kept
}

/// What a program wrote, as a value.
fn answer(bytes: Vec<u8>) -> Result<Value, String> {
    let text = String::from_utf8(bytes).map_err(|_| "wrote what is no UTF-8".to_owned())?;
    if let Ok(value) = json::parse_value(&text) {
        return Ok(value);
    }
    Ok(Value::from(text.strip_suffix('\n').unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(args: &str) -> Result<CommandActor, String> {
        CommandActor::of(&json::parse_value(args).unwrap())
    }

    async fn say(args: &str, message: Value) -> Result<Value, String> {
        let answer = actor(args).unwrap().run(message).await;
        answer.map_err(|error| error.reason().to_owned())
    }

    fn sh(script: &str) -> String {
        serde_json::json!({"program": "sh", "args": ["-c", script]}).to_string()
    }

    #[test]
    fn arguments_that_are_wrong_are_refused() {
        for args in [
            "null",
            "{}",
            r#"{"program":""}"#,
            r#"{"program":17}"#,
            r#"{"program":"a\u0000b"}"#,
            r#"{"program":"a","args":"b"}"#,
            r#"{"program":"a","args":[1]}"#,
            r#"{"program":"a","within_ms":0}"#,
            r#"{"program":"a","within_ms":3600001}"#,
            r#"{"program":"a","shell":true}"#,
        ] {
            assert!(actor(args).is_err(), "{args}");
        }
    }

    #[tokio::test]
    async fn a_program_reads_the_message_and_its_output_is_the_answer() {
        let cat = r#"{"program":"cat"}"#;
        let message = json::parse_value(r#"{"a":[1,null]}"#).unwrap();
        assert_eq!(say(cat, message.clone()).await, Ok(message));
        let text = Value::from("no json: {\n");
        assert_eq!(say(cat, text).await, Ok(Value::from("no json: {")));
        // It does not read its input, which is larger than a pipe.
        let long = Value::from("x".repeat(1 << 20));
        let seven = sh("echo 7");
        assert_eq!(say(&seven, long).await, Ok(Value::from(7)));
    }

    #[tokio::test]
    async fn a_program_that_fails_refuses_with_what_it_said_last() {
        let fails = sh("seq 100000 >&2; echo the reason >&2; exit 3");
        let error = say(&fails, Value::Null).await.unwrap_err();
        assert!(error.contains("status: 3"), "{error}");
        assert!(error.ends_with("the reason"), "{error}");
        assert!(error.len() < 2 * ERROR_BYTES_MAX);
        let none = say(r#"{"program":"/no/such"}"#, Value::Null).await;
        assert!(none.unwrap_err().contains("cannot be started"));
    }

    #[tokio::test]
    async fn a_program_that_writes_for_ever_or_never_ends_is_killed() {
        let error = say(r#"{"program":"yes"}"#, Value::Null).await.unwrap_err();
        assert!(error.contains("more than"), "{error}");
        // The child of the shell holds the pipes open; it ends with the shell.
        let hangs = r#"{"program":"sh","args":["-c","sleep 1000 & wait"],"within_ms":100}"#;
        let error = say(hangs, Value::Null).await.unwrap_err();
        assert!(error.contains("did not end within 100ms"), "{error}");
    }
}
