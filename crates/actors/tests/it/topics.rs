//! Publish and subscribe, and what can be seen from outside.

use std::sync::{Arc, Mutex};

use cpe_actors::{
    Actor, ActorError, ActorTree, Context, DeadReason, Options, Published, Supervision, System,
    Topic,
};

use crate::{Do, Log, capacity, gated, lines, log, settle, spawn};

#[derive(Clone)]
struct News(&'static str);

/// Notes what it hears on the topics it was made with.
struct Listener(Log, Vec<Topic<News>>);

impl Actor for Listener {
    type Message = News;
    type Reply = ();

    async fn handle(&mut self, news: News, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        if news.0 == "enough" {
            for topic in &self.1 {
                ctx.unsubscribe(topic);
            }
        }
        let line = format!("{} {}", ctx.label(), news.0);
        self.0.lock().unwrap().push(line);
        Ok(())
    }

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        for topic in &self.1 {
            ctx.subscribe(topic, |news| news)?;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn events_reach_the_subscribers_of_their_type_and_topic() {
    let (system, log) = (System::default(), log());
    let (all, sport) = (Topic::of_type(), Topic::named("sport"));
    let make = |topics| Listener(Arc::clone(&log), topics);
    let a = system
        .spawn_named("a", make(vec![all.clone(), sport.clone()]))
        .unwrap();
    system.spawn_named("b", make(vec![all.clone()])).unwrap();
    settle().await;
    let delivered = |topic: &Topic<News>, text| system.publish(topic, &News(text)).delivered;
    assert_eq!(delivered(&all, "rain"), 2);
    assert_eq!(delivered(&sport, "goal"), 1);
    assert_eq!(delivered(&Topic::named("art"), "paint"), 0);
    // Another type of the same name is another topic.
    assert_eq!(
        system.publish(&Topic::named("sport"), &7_u8),
        Published::default()
    );
    settle().await;
    let mut heard = lines(&log);
    heard.sort();
    assert_eq!(heard, ["a goal", "a rain", "b rain"]);
    // Who ends or unsubscribes hears no more.
    assert_eq!(delivered(&all, "enough"), 2);
    settle().await;
    assert_eq!(delivered(&all, "more"), 0);
    assert_eq!(delivered(&sport, "again"), 0);
    system.subscribe(&all, &a, |news| news).unwrap();
    assert_eq!(delivered(&all, "more"), 1);
    a.stop();
    a.ended().await;
    assert_eq!(delivered(&all, "late"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_finds_a_full_mailbox_is_counted_and_a_dead_letter() {
    let (system, log) = (System::default(), log());
    let (actor, _gate) = gated(&system, &log, capacity(1).name("p"));
    let topic = Topic::<News>::of_type();
    system
        .subscribe(&topic, &actor, |news| Do::Note(news.0))
        .unwrap();
    actor.tell(Do::Wait).await.unwrap();
    settle().await;
    let one = Published {
        delivered: 1,
        missed: 0,
    };
    assert_eq!(system.publish(&topic, &News("a")), one);
    let none = Published {
        delivered: 0,
        missed: 1,
    };
    assert_eq!(system.publish(&topic, &News("b")), none);
    let letters = system.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].actor.as_str(), &letters[0].reason),
        ("p", &DeadReason::MailboxFull)
    );
}

#[tokio::test(start_paused = true)]
async fn the_tree_shows_who_is_whose_child_and_how_they_do() {
    let (system, log) = (System::default(), log());
    let parent = spawn(&system, &log, Options::default().name("parent"));
    let kids = ["a", "b"].map(|name| (name, Supervision::default()));
    parent.ask(Do::Kids(kids.to_vec())).await.unwrap();
    let b = system.find::<Do, i64>("b").unwrap();
    b.ask(Do::Kids(vec![("c", Supervision::default())]))
        .await
        .unwrap();
    let _ = b.tell_after(crate::SECOND, Do::Add(1)).unwrap();
    spawn(&system, &log, Options::default().name("other"));
    fn shape(trees: &[ActorTree]) -> String {
        trees
            .iter()
            .map(|tree| {
                let name = tree.info.name.clone().unwrap();
                format!("{name}({})", shape(&tree.children))
            })
            .collect()
    }
    let tree = system.tree();
    assert_eq!(shape(&tree), "parent(a()b(c()))other()");
    let b = &tree[0].children[1].info;
    assert_eq!((b.handled, b.timers, b.kind.as_str()), (1, 1, "Puppet"));
    let json = serde_json::to_value(&tree).unwrap();
    assert_eq!(json[0]["children"][1]["children"][0]["name"], "c");
    let back: Vec<ActorTree> = serde_json::from_value(json).unwrap();
    assert_eq!(back, tree);
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_logs_names_its_actor() {
    struct Talker;
    impl Actor for Talker {
        type Message = ();
        type Reply = ();
        async fn handle(&mut self, (): (), _: &mut Context<Self>) -> Result<(), ActorError> {
            tokio::task::yield_now().await;
            tracing::info!("hello");
            Ok(())
        }
    }
    let notes = Notes::default();
    let writer = notes.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let system = System::default();
    let talker = system.spawn_named("polly", Talker).unwrap();
    talker.ask(()).await.unwrap();
    let text = String::from_utf8(notes.0.lock().unwrap().clone()).unwrap();
    let line = text.lines().find(|line| line.contains("hello")).unwrap();
    assert!(line.contains("actor{id=1 actor=polly}"), "{line}");
}
