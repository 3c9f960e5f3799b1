//! Giving poison back: a message that failed its receiver twice goes to the named actor that told
//! it, wherever that lives now. It is among the dead letters of the receiver's node all the same:
//! nothing is lost with it if nobody is there to take it.

use std::sync::Arc;
use std::time::Duration;

use cpe_actors::{AsActor, Poisoned};
use cpe_tuple::Value;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::envelope::{Answer, Envelope};
use super::{Actors, Inner};

/// How long it may take. It is no harm if it does not come.
const WITHIN: Duration = Duration::from_secs(5);

/// A message that failed an actor twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Poison {
    /// The actor.
    pub(crate) actor: String,
    /// What it said the second time.
    pub(crate) reason: String,
    pub(crate) message: Value,
}

impl Inner {
    /// From now on, what was told here and is poison goes back to the named actor that told it.
    pub(crate) fn give_poison_back(self: &Arc<Self>) {
        let inner = Arc::downgrade(self);
        self.system.on_return(move |sender, poisoned| {
            let Some(inner) = inner.upgrade() else { return };
            let (actor, reason) = (poisoned.actor.clone(), poisoned.reason.clone());
            let Ok(message) = poisoned.into_message::<Value>() else {
                return;
            };
            let poison = Poison {
                actor,
                reason,
                message,
            };
            let giving = give_back(Arc::clone(&inner), sender.to_owned(), poison);
            inner.tasks.spawn(giving);
        });
    }

    /// Gives poison to the actor of this node that had told it.
    pub(super) fn take_back(&self, name: &str, token: u64, poison: Poison) -> Answer {
        let Some(sender) = self.hosted(name, token) else {
            return self.not_here(name, token);
        };
        let Poison {
            actor,
            reason,
            message,
        } = poison;
        let poisoned = Poisoned::new(actor, reason, message);
        sender.as_actor().give_back(poisoned);
        Answer::Done
    }
}

async fn give_back(inner: Arc<Inner>, sender: String, poison: Poison) {
    let until = Instant::now() + WITHIN;
    let given = Actors::new(inner)
        .request(&sender, WITHIN, until, |place, inner| {
            let (name, poison) = (sender.clone(), poison.clone());
            async move {
                let token = place.token;
                if place.host.node == inner.me.node {
                    return Ok(inner.take_back(&name, token, poison));
                }
                let request = |id| Envelope::Poisoned {
                    id,
                    name,
                    token,
                    poison,
                };
                inner.call(place.host.node, until, request).await
            }
        })
        .await;
    let why = match given {
        Ok((Answer::Done, _)) => return,
        Ok((other, _)) => format!("{other:?}"),
        Err(error) => error.to_string(),
    };
    let actor = &poison.actor;
    tracing::debug!(%actor, %sender, %why, "poison did not go back, and is a dead letter only");
}
