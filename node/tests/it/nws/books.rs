//! Values that go through several gateways while a node dies: none is handed out twice, and none
//! that was acknowledged is lost but what a client of the dead node may have been given.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use super::{Client, STRING, request, three, three_homes_for_everything};
use crate::harness::Node;

/// Values stored by each of the writers.
const VALUES: u64 = 150;

/// Values after which the node dies.
const DEATH_AFTER: u64 = 100;

/// What tells a reader to stop.
const STOP: &str = "stop";

/// What writers and readers know together.
#[derive(Default)]
struct Books {
    tried: AtomicU64,
    acknowledged: Mutex<BTreeSet<String>>,
    taken: Mutex<Vec<String>>,
    /// Takes that were asked for and never answered.
    open: AtomicU64,
}

/// A client that may be cut off.
fn client(node: &Node) -> Client {
    let mut client = Client::at(node);
    client.status(&["use ws", "w", "", "no"], "0000");
    client
}

impl Books {
    /// Stores values of its own until all are acknowledged or refused. What was refused may have
    /// been stored all the same, if its home could not say so; it is not tried again.
    fn write(&self, mut client: Client, name: &str) {
        for n in 0..VALUES {
            let value = format!("{name}-{n}");
            self.tried.fetch_add(1, Ordering::Relaxed);
            client.ask(&[b"store", b"w", b"v", STRING.as_bytes(), value.as_bytes()]);
            match client.read(4).as_slice() {
                b"0000" => drop(self.acknowledged.lock().unwrap().insert(value)),
                other => assert_eq!(other, b"0001"),
            }
        }
    }

    /// Takes until it is told to stop, or its node is gone. True if it was told.
    fn read(&self, mut client: Client) -> bool {
        loop {
            let asked = request(&[b"fetch", b"w", b"v"]);
            if std::io::Write::write_all(&mut client.stream, &asked).is_err() {
                return false;
            }
            self.open.fetch_add(1, Ordering::Relaxed);
            let Some(answer) = answer(&mut client) else {
                return false;
            };
            self.open.fetch_sub(1, Ordering::Relaxed);
            match answer.as_deref() {
                // Refused while there is no leader.
                None => {}
                Some(STOP) => return true,
                Some(value) => self.taken.lock().unwrap().push(value.to_owned()),
            }
        }
    }
}

/// A value, or none for a refusal; nothing when the node is gone.
fn answer(client: &mut Client) -> Option<Option<String>> {
    let mut head = [0; 4 + 20 + 20 + 20 + 20];
    client.stream.read_exact(&mut head).ok()?;
    let head = str::from_utf8(&head).unwrap();
    let mut payload = vec![0; head[64..].parse().unwrap()];
    client.stream.read_exact(&mut payload).ok()?;
    let payload = String::from_utf8(payload).unwrap();
    Some((&head[..4] == "0000").then_some(payload))
}

#[test]
fn of_what_goes_through_three_gateways_of_which_one_dies_nothing_is_lost_or_doubled() {
    let [a, b, c] = three();
    let mut owner = Client::at(&a);
    owner.status(&["open ws", "w", "1", "yes"], "0000");
    owner.status(&["declare var", "w", "v", "fifo"], "0000");
    three_homes_for_everything(&a);
    let (books, over) = (Books::default(), AtomicBool::new(false));
    let living = [&a, &c, &c];
    let doomed = [client(&b), client(&b)];
    thread::scope(|scope| {
        let writers = [(&a, "a"), (&c, "c")].map(|(node, name)| {
            let (client, books) = (client(node), &books);
            scope.spawn(move || books.write(client, name))
        });
        for client in doomed {
            let books = &books;
            scope.spawn(move || assert!(!books.read(client), "it was told to stop"));
        }
        let readers = living.map(|node| {
            let (client, books) = (client(node), &books);
            scope.spawn(move || books.read(client))
        });
        let over = &over;
        let tried = &books.tried;
        scope.spawn(move || {
            while tried.load(Ordering::Relaxed) < DEATH_AFTER && !over.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            b.end_by(Signal::KILL);
        });
        for writer in writers {
            writer.join().unwrap();
        }
        over.store(true, Ordering::Relaxed);
        // One for each reader that is left; which take it, the others wait no longer for.
        for _ in living {
            owner.status(&["store", "w", "v", STRING, STOP], "0000");
        }
        for reader in readers {
            assert!(reader.join().unwrap(), "a node that lives is gone");
        }
    });
    assert_eq!(
        owner.get(&["list vars", "w"]).as_deref(),
        Some("v\t0\t0\t0\tfifo")
    );
    let taken = books.taken.into_inner().unwrap();
    let once: BTreeSet<String> = taken.iter().cloned().collect();
    assert_eq!(taken.len(), once.len(), "taken twice: {taken:?}");
    let acknowledged = books.acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    let open = books.open.into_inner();
    println!(
        "{} acknowledged, {} taken, {open} takes of the dead node open, not there: {lost:?}",
        acknowledged.len(),
        taken.len()
    );
    assert!(open <= 2, "readers of the node that died");
    assert!(
        lost.len() as u64 <= open,
        "{open} takes open, lost: {lost:?}"
    );
    assert!(
        acknowledged.len() as u64 > DEATH_AFTER,
        "{}",
        acknowledged.len()
    );
}
