//! What rules ask for is carried out, each effect before the next; what takes its time comes back
//! as an event of its own.

use std::time::Duration;

use cpe::{Ack, SpaceError, SpawnOptions, Template, Tuple, Value};
use cpe_rules::{Effect, LaterFact, message_value};

use super::{
    ASK_WITHIN, Driver, EFFECT_WITHIN, Event, Held, REST, WAIT_AGAIN, now_ms, passes, put,
};
use crate::forest::blob::PART_WITHIN;
use crate::kinds::forest;
use crate::kinds::rules::durable;

impl Driver {
    pub(super) async fn carry_out(&mut self, effect: Effect) {
        let effect = match &mut self.ledger {
            Some(ledger) => ledger.note(effect),
            None => Some(effect),
        };
        if let Some(effect) = effect {
            self.act(effect).await;
        }
    }

    pub(in crate::kinds::rules) async fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Store {
                workspace,
                name,
                value,
            } => match Tuple::new(vec![Value::from(name), value]) {
                Ok(tuple) => self.put_out(&workspace, tuple).await,
                Err(error) => self.complain("store", &error),
            },
            Effect::Out { workspace, tuple } => self.put_out(&workspace, tuple).await,
            Effect::Find {
                request,
                workspace,
                template,
                wait,
            } => {
                self.await_tuple(request, workspace, template, wait, false);
            }
            Effect::Fetch {
                request,
                workspace,
                template,
                wait,
            } => {
                self.await_tuple(request, workspace, template, wait, true);
            }
            Effect::Subscribe {
                subscription,
                workspace,
                template,
            } => {
                self.subscribe(subscription, workspace, template);
            }
            Effect::Send { to, kind, body } => self.send(to, message_value(&kind, body)).await,
            Effect::Ask {
                request,
                to,
                kind,
                body,
            } => {
                let actors = self.node.actors().clone();
                self.request(request, true, async move {
                    let answer = actors
                        .ask(&to, message_value(&kind, body), ASK_WITHIN)
                        .await;
                    answer.map_err(|error| error.to_string())
                });
            }
            Effect::Reply { ask, value } => {
                if self.asked.as_ref().is_some_and(|asked| asked.number == ask) {
                    self.settle(Ok(Some(value)));
                }
            }
            Effect::After { ms, fact } => {
                let due_ms = now_ms().saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
                let ledger = self.ledger.as_mut();
                let timer = ledger.map_or(0, |ledger| ledger.timer(due_ms, fact.clone()));
                self.come_later(ms, fact, timer);
            }
            Effect::ForestPredict {
                request,
                model,
                features,
                probabilities,
            } => {
                let (space, models) = (self.node.space().clone(), self.models.clone());
                self.request(request, true, async move {
                    let forest = models.get(&space, &model, PART_WITHIN).await;
                    let forest = forest.map_err(|fault| fault.to_string())?;
                    let told = forest::predict_apart(forest, Value::List(features)).await?;
                    if probabilities {
                        return forest::probabilities(told);
                    }
                    Ok(told)
                });
            }
            Effect::Log { level, text } => self.log.line(level, text),
            Effect::Spawn { kind, name, args } => self.spawn_actor(&kind, &name, args).await,
            Effect::Stop => {
                let (actors, name) = (self.node.actors().clone(), self.name.clone());
                // Not a task of this agent: it ends with the agent and must outlive it.
                tokio::spawn(async move { actors.stop(&name, EFFECT_WITHIN).await });
            }
            other => self.complain("an effect this node does not know", &format!("{other:?}")),
        }
    }

    /// Durable here is enough: the order of an agent's stores is kept, and waiting for each home
    /// would make rules as slow as the network.
    async fn out(&self, workspace: &str, tuple: Tuple) -> Result<(), SpaceError> {
        let space = self.node.space();
        let stored = space.out_with(workspace, tuple, Ack::Local, EFFECT_WITHIN);
        stored.await.map(drop)
    }

    async fn put_out(&mut self, workspace: &str, tuple: Tuple) {
        if let Err(error) = self.out(workspace, tuple).await {
            self.complain("store", &error);
        }
    }

    pub(in crate::kinds::rules) fn come_later(&mut self, ms: u64, fact: LaterFact, timer: u64) {
        let queue = self.queue.clone();
        self.spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            put(&queue, Event::Later(timer, fact)).await;
        });
    }

    async fn send(&mut self, to: String, message: Value) {
        if to == self.name {
            // Through the mailbox it would wait for itself.
            let queue = self.queue.clone();
            self.spawn(async move {
                put(&queue, Event::Note(message)).await;
            });
            return;
        }
        let sent = tokio::time::timeout(EFFECT_WITHIN, self.node.actors().tell(&to, message)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.complain("tell", &error),
            Err(_) => self.complain("tell", &format!("{to} took nothing for {EFFECT_WITHIN:?}")),
        }
    }

    async fn spawn_actor(&mut self, kind: &str, name: &str, args: Value) {
        let options = SpawnOptions::default();
        let started = self.node.actors().spawn(kind, name, args, options);
        match tokio::time::timeout(EFFECT_WITHIN, started).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.complain("spawn", &error),
            Err(_) => self.complain("spawn", &format!("no answer for {EFFECT_WITHIN:?}")),
        }
    }

    fn await_tuple(
        &mut self,
        request: u64,
        workspace: String,
        template: Template,
        wait: bool,
        take: bool,
    ) {
        let space = self.node.space().clone();
        let leased = self.ledger.is_some();
        // One that waits may wait for ever: no reply is held up for it.
        self.taking_request(request, !wait, async move {
            loop {
                let held = || {
                    if take {
                        Held::Tuple(workspace.clone())
                    } else {
                        Held::Nothing
                    }
                };
                let whole = |tuple: Option<Tuple>| tuple.map(|tuple| (tuple, held()));
                let found = match (wait, take) {
                    (_, true) if leased => {
                        let taken = durable::lease(&space, &workspace, template.clone(), wait);
                        let taken = taken.await;
                        taken.map(|taken| taken.map(|(tuple, lease)| (tuple, Held::Lease(lease))))
                    }
                    (true, true) => space
                        .take(&workspace, template.clone(), WAIT_AGAIN)
                        .await
                        .map(|tuple| whole(Some(tuple))),
                    (true, false) => space
                        .rd(&workspace, template.clone(), WAIT_AGAIN)
                        .await
                        .map(|tuple| whole(Some(tuple))),
                    (false, true) => space
                        .try_take(&workspace, template.clone(), ASK_WITHIN)
                        .await
                        .map(whole),
                    (false, false) => space
                        .rdp(&workspace, template.clone(), None)
                        .await
                        .map(whole),
                };
                match found {
                    Ok(Some((tuple, held))) => {
                        return (Ok(Value::List(tuple.fields().to_vec())), held);
                    }
                    Ok(None) => return (Ok(Value::Null), Held::Nothing),
                    Err(SpaceError::Failed(failure)) if wait && passes(&failure) => {
                        tokio::time::sleep(REST).await;
                    }
                    Err(error) => return (Err(error.to_string()), Held::Nothing),
                }
            }
        });
    }

    pub(super) fn subscribe(&mut self, subscription: u64, workspace: String, template: Template) {
        let (space, queue, name) = (
            self.node.space().clone(),
            self.queue.clone(),
            self.name.clone(),
        );
        self.spawn(async move {
            match space.watch(&workspace, template).await {
                Ok(mut watch) => {
                    while let Some(tuple) = watch.next().await {
                        put(&queue, Event::Tuple(subscription, tuple)).await;
                    }
                    if watch.fell_behind() {
                        tracing::warn!(
                            actor = name,
                            workspace,
                            "its rules were too slow for what \
                            they subscribed to: tuples were missed"
                        );
                    }
                }
                Err(error) => tracing::warn!(actor = name, workspace, %error, "cannot subscribe"),
            }
        });
    }

    /// Does something whose outcome the rules wait for.
    fn request(
        &mut self,
        request: u64,
        holds_reply: bool,
        job: impl Future<Output = Result<Value, String>> + Send + 'static,
    ) {
        self.taking_request(
            request,
            holds_reply,
            async move { (job.await, Held::Nothing) },
        );
    }

    /// The same, for something that may have been taken.
    fn taking_request(
        &mut self,
        request: u64,
        holds_reply: bool,
        job: impl Future<Output = (Result<Value, String>, Held)> + Send + 'static,
    ) {
        if let Some(asked) = self.asked.as_mut().filter(|_| holds_reply) {
            asked.open.insert(request);
        }
        let queue = self.queue.clone();
        self.spawn(async move {
            let (answer, held) = job.await;
            put(&queue, Event::Answer(request, answer, held)).await;
        });
    }
}
