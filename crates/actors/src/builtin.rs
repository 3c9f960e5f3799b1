//! The kinds that come with this crate.

use cpe_tuple::Value;
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::{Actor, ActorError, Context, DynActor, DynContext, KindContext};

/// Kind `echo`: answers what it gets.
pub(crate) struct Echo;

impl DynActor for Echo {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async { Ok(Some(message)) })
    }

    // It has no state of its own: another node goes on with it as it is.
    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::Null))
    }
}

/// Kind `counter`: `{"add":n}` answers the new total, `"get"` the total. The argument is the total
/// to begin with, 0 if there is none. Takes a snapshot at each change.
pub(crate) struct Counter {
    total: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CounterMessage {
    Add(i64),
    Get,
}

impl Counter {
    pub(crate) fn from_args(context: KindContext) -> Result<Self, ActorError> {
        match context.args {
            Value::Null => Ok(Self { total: 0 }),
            Value::Int(total) => Ok(Self { total }),
            other => Err(ActorError::failed(format!(
                "a counter begins with an integer or nothing, not with a {}",
                other.kind()
            ))),
        }
    }
}

impl Actor for Counter {
    type Message = CounterMessage;
    type Reply = i64;

    const ACCEPTS: &'static str = r#"{"add":n} with an integer n, or "get""#;

    async fn handle(
        &mut self,
        message: CounterMessage,
        ctx: &mut Context<Self>,
    ) -> Result<i64, ActorError> {
        if let CounterMessage::Add(n) = message {
            self.total = self.total.checked_add(n).ok_or_else(|| {
                ActorError::refused(format!("{} + {n} is beyond 64 bits", self.total))
            })?;
            ctx.save_snapshot();
        }
        Ok(self.total)
    }

    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::Int(self.total)))
    }

    fn restore(&mut self, snapshot: Value) -> Result<(), ActorError> {
        self.total = crate::bridge::from_value(&snapshot)?;
        Ok(())
    }
}
