//! Publish and subscribe within one system.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cpe_tuple::Value;

use crate::{ActorId, Address, DeadReason, System, TellError, error::bounded};

/// The most subscribers of one topic.
pub const MAX_SUBSCRIBERS: usize = 65_536;

/// The most topics of one system that have subscribers.
pub const MAX_TOPICS: usize = 65_536;

/// Something events of type `T` are published on: the type itself, or a name beside it.
///
/// ```
/// # use cpe_actors::{Actor, ActorError, Context, System, Topic};
/// #[derive(Clone)]
/// struct Alarm(&'static str);
///
/// struct Guard;
/// impl Actor for Guard {
///     type Message = Alarm;
///     type Reply = ();
///     async fn handle(&mut self, it: Alarm, _: &mut Context<Self>) -> Result<(), ActorError> {
///         assert_eq!(it.0, "fire");
///         Ok(())
///     }
///     async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
///         Ok(ctx.subscribe(&Topic::<Alarm>::of_type(), |alarm| alarm)?)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let system = System::default();
/// let guard = system.spawn(Guard)?;
/// # while system.publish(&Topic::<Alarm>::of_type(), &Alarm("fire")).delivered == 0 {
/// #     tokio::task::yield_now().await;
/// # }
/// let published = system.publish(&Topic::of_type(), &Alarm("fire"));
/// assert_eq!((published.delivered, published.missed), (1, 0));
/// # Ok(())
/// # }
/// ```
pub struct Topic<T> {
    name: Arc<str>,
    event: PhantomData<fn(T)>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            event: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = std::any::type_name::<T>();
        write!(f, "Topic<{event}>({:?})", self.name)
    }
}

impl<T: Clone + Send + Sync + 'static> Topic<T> {
    /// All events of this type that are published without a name.
    #[must_use]
    pub fn of_type() -> Self {
        Self::named("")
    }

    /// Events of this type under a name.
    #[must_use]
    pub fn named(name: impl AsRef<str>) -> Self {
        Self {
            name: Arc::from(name.as_ref()),
            event: PhantomData,
        }
    }

    fn key(&self) -> (TypeId, Arc<str>) {
        (TypeId::of::<T>(), Arc::clone(&self.name))
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Subscribers in whose mailbox it is.
    pub delivered: usize,
    /// Subscribers whose mailbox was full; each miss is a dead letter.
    pub missed: usize,
}

/// The topic, or the system, has as many subscribers or topics as it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subscriber} cannot subscribe to topic {topic:?}: {limit} {what} are the limit")]
pub struct TooManySubscribers {
    /// The actor that was to subscribe: name, or kind and number.
    pub subscriber: String,
    /// The topic's name.
    pub topic: String,
    /// The limit that is reached.
    pub limit: usize,
    what: &'static str,
}

/// What a subscriber did with an event.
enum Took {
    Yes,
    Full(Option<Value>),
    Ended,
}

struct Subscriber<T> {
    id: ActorId,
    label: String,
    give: Box<dyn Fn(T) -> Took + Send + Sync>,
    ended: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Copied when it changes, so that events are given out without the lock.
type Subscribers<T> = Arc<Vec<Arc<Subscriber<T>>>>;

/// By the event's type and the topic's name; each value is the [`Subscribers`] of that type.
type ByTopic = BTreeMap<(TypeId, Arc<str>), Box<dyn Any + Send>>;

/// The topics of one system that have subscribers.
#[derive(Default)]
pub(crate) struct Topics {
    topics: Mutex<ByTopic>,
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, ByTopic> {
        // No user code runs under this lock, so a poisoned one is still in order.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe<T, M, R>(
        &self,
        topic: &Topic<T>,
        address: &Address<M, R>,
        wrap: impl Fn(T) -> M + Send + Sync + 'static,
        describe: fn(&M) -> Option<Value>,
    ) -> Result<(), TooManySubscribers>
    where
        T: Clone + Send + Sync + 'static,
        M: Send + 'static,
        R: Send + 'static,
    {
        let weak = Arc::downgrade(&address.shared);
        let watched = weak.clone();
        let subscriber = Arc::new(Subscriber {
            id: address.id(),
            label: address.label(),
            give: Box::new(move |event| {
                let Some(shared) = weak.upgrade() else {
                    return Took::Ended;
                };
                match (Address { shared }).try_tell(wrap(event)) {
                    Ok(()) => Took::Yes,
                    Err(TellError::Full { message, .. }) => Took::Full(describe(&message)),
                    Err(TellError::Dead { .. }) => Took::Ended,
                }
            }),
            ended: Box::new(move || {
                let shared = watched.upgrade();
                shared.is_none_or(|shared| shared.exit_reason().is_some())
            }),
        });
        let too_many = |limit, what| TooManySubscribers {
            subscriber: address.label(),
            topic: bounded(topic.name.to_string()),
            limit,
            what,
        };
        let mut topics = self.lock();
        let full = topics.len() >= MAX_TOPICS && !topics.contains_key(&topic.key());
        if full {
            return Err(too_many(MAX_TOPICS, "topics"));
        }
        let entry = topics
            .entry(topic.key())
            .or_insert_with(|| Box::new(Subscribers::<T>::default()));
        // The key has the event's type in it.
        let Some(subscribers) = entry.downcast_mut::<Subscribers<T>>() else {
            return Ok(());
        };
        let all = Arc::make_mut(subscribers);
        if all.len() == all.capacity() {
            all.retain(|other| !(other.ended)());
        }
        all.retain(|other| other.id != subscriber.id);
        if all.len() >= MAX_SUBSCRIBERS {
            return Err(too_many(MAX_SUBSCRIBERS, "subscribers"));
        }
        all.push(subscriber);
        Ok(())
    }

    pub(crate) fn unsubscribe<T>(&self, topic: &Topic<T>, gone: impl Fn(ActorId) -> bool)
    where
        T: Clone + Send + Sync + 'static,
    {
        let mut topics = self.lock();
        let entry = topics.get_mut(&topic.key());
        if let Some(subscribers) = entry.and_then(|it| it.downcast_mut::<Subscribers<T>>()) {
            Arc::make_mut(subscribers).retain(|subscriber| !gone(subscriber.id));
            if subscribers.is_empty() {
                topics.remove(&topic.key());
            }
        }
    }

    pub(crate) fn publish<T>(&self, system: &System, topic: &Topic<T>, event: &T) -> Published
    where
        T: Clone + Send + Sync + 'static,
    {
        let subscribers = {
            let topics = self.lock();
            let entry = topics.get(&topic.key());
            match entry.and_then(|it| it.downcast_ref::<Subscribers<T>>()) {
                Some(subscribers) => Arc::clone(subscribers),
                None => return Published::default(),
            }
        };
        let mut published = Published::default();
        let mut gone = Vec::new();
        for subscriber in subscribers.iter() {
            match (subscriber.give)(event.clone()) {
                Took::Yes => published.delivered += 1,
                Took::Full(detail) => {
                    published.missed += 1;
                    let actor = subscriber.label.clone();
                    system.dead_letter(actor, DeadReason::MailboxFull, detail);
                }
                Took::Ended => gone.push(subscriber.id),
            }
        }
        if !gone.is_empty() {
            self.unsubscribe(topic, |id| gone.contains(&id));
        }
        published
    }
}
