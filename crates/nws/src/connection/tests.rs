use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use cpe_space::{Bound, Terms};
use cpe_tuple::{Blob, Template, Value};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::limits::{PAYLOAD_BYTES_MAX, SLOWEST_BYTES_PER_SECOND, WHOLE_BYTES_MAX};
use crate::spaces::{Answer, Health, Inlet, Listed, Outlet, Receipt, Trouble, Who};

/// Bytes of a value that no socket holds as a whole.
const LARGE: usize = 64 << 20;

/// What became of what was taken.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    confirmed: usize,
    back: usize,
}

/// Answers to reads.
type Reads = VecDeque<Result<Option<Tuple>, Trouble>>;

/// A space in which there is no value until somebody waits for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late {
    /// What reads are answered, one after the other; then nothing.
    pub(crate) reads: Arc<Mutex<Reads>>,
    /// What was done.
    pub(crate) acts: Arc<Mutex<Vec<Bound>>>,
    fate: Arc<Mutex<Fate>>,
    begun: Arc<Notify>,
    told: Arc<Notify>,
    /// What the replica shows once it was synced; before, nothing.
    pub(crate) later: Vec<Listed>,
    /// What was synced.
    pub(crate) synced: Arc<Mutex<Vec<Option<String>>>>,
    /// Takes are under way for ever.
    stuck: bool,
    /// The value, if it is another one than `late`.
    value: Option<Tuple>,
}

pub(crate) struct Taken {
    fate: Arc<Mutex<Fate>>,
    told: Arc<Notify>,
    confirmed: bool,
}

impl Receipt for Taken {
    fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut fate = self.fate.lock().unwrap();
        if self.confirmed {
            fate.confirmed += 1;
        } else {
            fate.back += 1;
        }
        self.told.notify_one();
    }
}

/// Counts what comes in, and says what would be the hash of it.
#[derive(Default)]
pub(crate) struct Counter(Vec<u8>);

impl Inlet for Counter {
    async fn push(&mut self, part: &[u8]) -> Result<(), Trouble> {
        assert!(part.len() <= READ_BYTES * 2, "in parts");
        self.0.extend_from_slice(part);
        Ok(())
    }

    async fn finish(self, text: bool) -> Result<Blob, Trouble> {
        Ok(Blob::of(text, &self.0).unwrap())
    }
}

/// So many bytes still to come.
pub(crate) struct Zeros(usize);

impl Outlet for Zeros {
    async fn part(&mut self) -> Result<Option<Bytes>, Trouble> {
        let part = self.0.min(1 << 18);
        self.0 -= part;
        Ok((part > 0).then(|| vec![0; part].into()))
    }
}

impl Late {
    fn fates(&self) -> (usize, usize) {
        let fate = self.fate.lock().unwrap();
        (fate.confirmed, fate.back)
    }
}

impl Spaces for Late {
    type Receipt = Taken;
    type Inlet = Counter;
    type Outlet = Zeros;

    async fn act(
        &self,
        _: &str,
        _: Terms,
        act: Bound,
        _: Duration,
    ) -> Result<(Answer, Option<Taken>), Trouble> {
        let Bound::Take { wait, leave, .. } = act else {
            let mut acts = self.acts.lock().unwrap();
            let first = acts.is_empty();
            acts.push(act.clone());
            // What others stored is of no instance before it is declared.
            if first && !self.later.is_empty() && matches!(act, Bound::Drop { .. }) {
                return Err(Trouble::Absent);
            }
            return Ok((Answer::Done, None));
        };
        let taken = Taken {
            fate: Arc::clone(&self.fate),
            told: Arc::clone(&self.told),
            confirmed: false,
        };
        self.begun.notify_one();
        if self.stuck {
            std::future::pending::<()>().await;
        }
        let late = || Tuple::named("v", "late").unwrap();
        let value = match &self.value {
            Some(value) => Some(value.clone()),
            None => wait.then(late),
        };
        let receipt = (value.is_some() && !leave).then_some(taken);
        Ok((Answer::Tuple(value), receipt))
    }

    async fn inlet(&self) -> Result<Counter, Trouble> {
        Ok(Counter::default())
    }

    async fn outlet(&self, _: &str, tuple: Tuple) -> Result<Zeros, Trouble> {
        let bytes = tuple.blobs().first().map_or(0, Blob::len);
        Ok(Zeros(usize::try_from(bytes).unwrap()))
    }

    async fn read(
        &self,
        _: &str,
        _: Template,
        _: Option<Duration>,
    ) -> Result<Option<Tuple>, Trouble> {
        let next = self.reads.lock().unwrap().pop_front();
        next.unwrap_or(Ok(None))
    }

    async fn sync(&self, workspace: Option<&str>, _: Duration) -> Result<(), Trouble> {
        let workspace = workspace.map(str::to_owned);
        self.synced.lock().unwrap().push(workspace);
        Ok(())
    }

    async fn list(&self, workspace: &str) -> Result<Vec<Listed>, Trouble> {
        let synced = self.synced.lock().unwrap();
        let shows = |it: &Option<String>| it.as_deref().is_none_or(|it| it == workspace);
        if synced.iter().any(shows) {
            return Ok(self.later.clone());
        }
        Ok(Vec::new())
    }

    fn me(&self) -> Who {
        Who { node: 1, life: 1 }
    }

    async fn nodes(&self) -> Result<Vec<(Who, Health)>, Trouble> {
        Ok(Vec::new())
    }
}

/// The two ends of a connection: the client's, and this one after the client's first bytes.
async fn connected(gateway: &Gateway<Late>) -> (TcpStream, Client<'_, Late>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
    let mut client = Client::new(gateway, near.unwrap().0);
    client.buffer.extend_from_slice(b"1112");
    (far.unwrap(), client)
}

#[tokio::test]
async fn too_large_a_payload_takes_no_room() {
    let gateway = Gateway::new(Late::default());
    let (mut far, mut client) = connected(&gateway).await;
    client.buffer.clear();
    announces(&mut far, PAYLOAD_BYTES_MAX + 1).await;
    far.shutdown().await.unwrap();
    let mut session = opened(&gateway);
    let opens = client.request(&session).await.unwrap().unwrap();
    let opens = Operation::read(opens).unwrap();
    client.execute(&mut session, opens).await.unwrap();
    assert_eq!(client.request(&session).await.unwrap(), None);
    assert!(client.room.is_none() && client.inlet.is_none());
}

/// Between two requests a client may be silent for as long as it likes, and has all of the time for
/// the second one.
#[tokio::test(start_paused = true)]
async fn a_request_has_its_time_from_the_first_byte_of_its_count() {
    let gateway = Gateway::new(Late::default());
    let (mut far, serving) = served(&gateway).await;
    let mut greeted = [0; 4];
    far.write_all(b"1112").await.unwrap();
    far.read_exact(&mut greeted).await.unwrap();
    tokio::time::sleep(100 * REQUEST_WITHIN).await;
    assert!(!serving.is_finished());
    far.write_all(b"00").await.unwrap();
    let begun = Instant::now();
    serving.await.unwrap();
    assert!((REQUEST_WITHIN..2 * REQUEST_WITHIN).contains(&begun.elapsed()));
}

fn takes(wait: bool) -> Operation {
    Operation::Retrieve {
        ws: b"__default".to_vec(),
        variable: b"v".to_vec(),
        how: crate::Retrieve {
            leave: false,
            wait,
            after: None,
        },
    }
}

fn opened<S: Spaces>(gateway: &Gateway<S>) -> Session {
    let mut session = gateway.begin("a test".to_owned());
    session.open.insert(b"__default".to_vec(), 1);
    session
}

#[tokio::test]
async fn a_value_that_comes_with_the_end_of_who_waits_is_given_back() {
    let gateway = Gateway::new(Late::default());
    // Without an order among the two it would be sent every other time.
    for _ in 0..32 {
        let (far, mut client) = connected(&gateway).await;
        client.buffer.clear();
        let mut session = opened(&gateway);
        drop(far);
        client.stream.readable().await.unwrap();
        let answer = client.execute(&mut session, takes(true)).await;
        assert!(answer.unwrap().is_none());
    }
    assert_eq!(gateway.spaces.fates().0, 0);
}

#[tokio::test]
async fn a_take_under_way_ends_with_its_client() {
    for wait in [false, true] {
        let gateway = Gateway::new(Late {
            stuck: true,
            ..Late::default()
        });
        let (far, mut client) = connected(&gateway).await;
        client.buffer.clear();
        let mut session = opened(&gateway);
        let leaves = async {
            gateway.spaces.begun.notified().await;
            drop(far);
        };
        let (answer, ()) = tokio::join!(client.execute(&mut session, takes(wait)), leaves);
        assert!(answer.unwrap().is_none());
        assert_eq!(gateway.spaces.fates(), (0, 1));
    }
}

/// The whole of a connection, as the server serves it.
async fn served(gateway: &Arc<Gateway<Late>>) -> (TcpStream, tokio::task::JoinHandle<()>) {
    served_by(gateway, None).await
}

/// The same, with so many bytes that the system keeps on either side: with few of them, this side
/// gets rid of what the client takes in, and no more.
async fn served_by(
    gateway: &Arc<Gateway<Late>>,
    buffer: Option<u32>,
) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let far = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = buffer {
        far.set_recv_buffer_size(bytes).unwrap();
    }
    let (far, near) = tokio::join!(far.connect(address), listener.accept());
    let near = near.unwrap().0;
    if let Some(bytes) = buffer {
        let bytes = usize::try_from(bytes).unwrap();
        socket2::SockRef::from(&near)
            .set_send_buffer_size(bytes)
            .unwrap();
    }
    let serving = serve(
        Arc::clone(gateway),
        near,
        "a test".to_owned(),
        CancellationToken::new(),
    );
    (far.unwrap(), tokio::spawn(serving))
}

fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("{:04}", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("{:020}", argument.len()).into_bytes());
        bytes.extend(*argument);
    }
    bytes
}

/// Opens `__default` and asks for a value of `v`.
async fn asks(far: &mut TcpStream) {
    let mut sent = b"1112".to_vec();
    sent.extend(request(&[b"open ws", b"__default", b"1", b"no"]));
    sent.extend(request(&[b"fetchTry", b"__default", b"v"]));
    far.write_all(&sent).await.unwrap();
    let mut first = [0; 8];
    far.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"22230000");
}

fn large() -> Tuple {
    let blob = Blob::of(false, &vec![0; LARGE]).unwrap();
    let mark = cpe_tuple::Mark {
        descriptor: Some(2),
        ..cpe_tuple::Mark::default()
    };
    Tuple::named("v", Value::from(blob))
        .unwrap()
        .with_mark(mark)
}

#[tokio::test]
async fn a_large_value_is_confirmed_when_all_of_it_was_written() {
    let gateway = Gateway::new(Late {
        value: Some(large()),
        ..Late::default()
    });
    let (mut far, serving) = served(&gateway).await;
    asks(&mut far).await;
    let mut head = [0; 84];
    far.read_exact(&mut head).await.unwrap();
    assert_eq!(&head[64..], format!("{LARGE:020}").as_bytes());
    assert_eq!(gateway.spaces.fates(), (0, 0), "most of it is not written");
    let mut value = vec![1; LARGE];
    far.read_exact(&mut value).await.unwrap();
    assert!(value.iter().all(|byte| *byte == 0));
    gateway.spaces.told.notified().await;
    assert_eq!(gateway.spaces.fates(), (1, 0));
    drop(far);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_value_whose_client_dies_in_the_middle_of_it_is_given_back() {
    let gateway = Gateway::new(Late {
        value: Some(large()),
        ..Late::default()
    });
    let (mut far, serving) = served(&gateway).await;
    asks(&mut far).await;
    let mut some = vec![0; LARGE / 8];
    far.read_exact(&mut some).await.unwrap();
    drop(far);
    serving.await.unwrap();
    assert_eq!(gateway.spaces.fates(), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_is_cut_off_and_gets_nothing_taken() {
    let gateway = Gateway::new(Late {
        value: Some(large()),
        ..Late::default()
    });
    let (mut far, serving) = served(&gateway).await;
    let mut sent = b"1112".to_vec();
    sent.extend(request(&[b"open ws", b"__default", b"1", b"no"]));
    sent.extend(request(&[b"fetchTry", b"__default", b"v"]));
    far.write_all(&sent).await.unwrap();
    let begun = Instant::now();
    serving.await.unwrap();
    assert_eq!(gateway.spaces.fates(), (0, 1));
    assert!(begun.elapsed() >= ANSWER_WITHIN);
    let free = gateway.room.available_permits();
    assert_eq!(free, UNDER_WAY_KIB_MAX, "its room is free again");
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_waited_for_a_bounded_time() {
    let gateway = Gateway::new(Late::default());
    let (mut far, serving) = served(&gateway).await;
    far.write_all(b"11120002000000").await.unwrap();
    let begun = Instant::now();
    serving.await.unwrap();
    assert!((REQUEST_WITHIN..2 * REQUEST_WITHIN).contains(&begun.elapsed()));
}

#[tokio::test]
async fn a_large_payload_is_passed_on_in_parts_and_the_next_request_is_read() {
    let gateway = Gateway::new(Late::default());
    let (mut far, mut client) = connected(&gateway).await;
    let session = opened(&gateway);
    let payload = vec![b'x'; WHOLE_BYTES_MAX + 1];
    let store: [&[u8]; 5] = [b"store", b"__default", b"v", b"1", &payload];
    let mut sent = request(&store);
    // A workspace that was not opened: nothing of it goes to the disk.
    sent.extend(request(&[b"store", b"other", b"v", b"1", &payload]));
    sent.extend(request(&[b"list wss"]));
    let sends = async {
        far.write_all(&sent).await.unwrap();
        far
    };
    let reads = async {
        let stored = client.request(&session).await.unwrap().unwrap();
        let refused = client.request(&session).await.unwrap().unwrap();
        let last = client.request(&session).await.unwrap().unwrap();
        (stored, refused, last)
    };
    let (_far, (stored, refused, last)) = tokio::join!(sends, reads);
    assert_eq!(stored.apart, Some(Blob::of(true, &payload).unwrap()));
    assert!(!stored.is_too_large);
    assert!(refused.is_too_large && refused.apart.is_none());
    assert_eq!(last.arguments, [b"list wss"]);
}

/// Sends the first bytes of a store, up to the length of its payload.
async fn announces(far: &mut TcpStream, bytes: u64) {
    let mut sent = b"1112".to_vec();
    sent.extend(request(&[b"open ws", b"__default", b"1", b"no"]));
    sent.extend(b"0005");
    for argument in ["store", "__default", "v", "00000000000000000001"] {
        sent.extend(format!("{:020}{argument}", argument.len()).into_bytes());
    }
    sent.extend(format!("{bytes:020}").into_bytes());
    far.write_all(&sent).await.unwrap();
}

/// What a client says is to come buys it no time: it could hold a connection, and room that others
/// need, for days.
#[tokio::test(start_paused = true)]
async fn who_announces_much_and_sends_nothing_is_cut_off_like_anybody() {
    for bytes in [
        PAYLOAD_BYTES_MAX,
        PAYLOAD_BYTES_MAX + 1,
        WHOLE_BYTES_MAX as u64,
    ] {
        let gateway = Gateway::new(Late::default());
        let (mut far, serving) = served(&gateway).await;
        announces(&mut far, bytes).await;
        let begun = Instant::now();
        serving.await.unwrap();
        let passed = begun.elapsed();
        assert!((REQUEST_WITHIN..2 * REQUEST_WITHIN).contains(&passed));
        let free = gateway.room.available_permits();
        assert_eq!(free, UNDER_WAY_KIB_MAX, "its room is free again");
    }
}

/// At an eighth of the slowest speed, for as long as it is served.
#[tokio::test(start_paused = true)]
async fn who_sends_a_large_value_too_slowly_is_cut_off() {
    let gateway = Gateway::new(Late::default());
    let (mut far, serving) = served(&gateway).await;
    announces(&mut far, LARGE as u64).await;
    let begun = Instant::now();
    let sends = async {
        let piece = vec![0; usize::try_from(SLOWEST_BYTES_PER_SECOND / 8).unwrap()];
        while far.write_all(&piece).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(sends, async { serving.await.unwrap() });
    assert!(begun.elapsed() < 3 * REQUEST_WITHIN);
}

#[tokio::test(start_paused = true)]
async fn who_takes_in_a_large_value_too_slowly_is_cut_off_and_it_is_given_back() {
    let gateway = Gateway::new(Late {
        value: Some(large()),
        ..Late::default()
    });
    let (mut far, serving) = served_by(&gateway, Some(8 * 1024)).await;
    asks(&mut far).await;
    let begun = Instant::now();
    let takes = async {
        let mut piece = vec![0; usize::try_from(SLOWEST_BYTES_PER_SECOND / 8).unwrap()];
        let patience = begun + 20 * ANSWER_WITHIN;
        while Instant::now() < patience && !serving.is_finished() {
            far.read_exact(&mut piece).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    takes.await;
    assert!(begun.elapsed() < 4 * ANSWER_WITHIN);
    serving.await.unwrap();
    assert_eq!(gateway.spaces.fates(), (0, 1));
}

/// A slow client that keeps the pace gets all of it, however long that takes.
#[tokio::test(start_paused = true)]
async fn who_sends_at_twice_the_slowest_speed_may_take_many_minutes() {
    let gateway = Gateway::new(Late::default());
    let (mut far, mut client) = connected(&gateway).await;
    let session = opened(&gateway);
    let piece = vec![b'x'; usize::try_from(2 * SLOWEST_BYTES_PER_SECOND).unwrap()];
    let pieces = 300;
    let sends = async {
        far.write_all(b"0005").await.unwrap();
        for argument in ["store", "__default", "v", "00000000000000000001"] {
            let argument = format!("{:020}{argument}", argument.len());
            far.write_all(argument.as_bytes()).await.unwrap();
        }
        let length = format!("{:020}", piece.len() * pieces);
        far.write_all(length.as_bytes()).await.unwrap();
        for _ in 0..pieces {
            far.write_all(&piece).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let begun = Instant::now();
    let (stored, ()) = tokio::join!(client.request(&session), sends);
    assert!(stored.unwrap().unwrap().apart.is_some());
    assert!(begun.elapsed() > 2 * REQUEST_WITHIN);
}

/// Each by itself costs more than what it answers.
#[tokio::test]
async fn requests_that_came_together_are_answered_in_one_piece() {
    let gateway = Gateway::new(Late::default());
    let (mut far, serving) = served(&gateway).await;
    let mut sent = b"1112".to_vec();
    sent.extend(request(&[b"open ws", b"__default", b"1", b"no"]));
    for _ in 0..3 {
        sent.extend(request(&[b"store", b"__default", b"v", b"1", b"x"]));
    }
    // Of what follows only a part is here, and nobody knows when the rest comes.
    sent.extend(b"0003");
    far.write_all(&sent).await.unwrap();
    let mut replies = [0; 64];
    let read = far.read(&mut replies).await.unwrap();
    assert_eq!(&replies[..read], b"22230000000000000000");
    drop(far);
    serving.await.unwrap();
}

#[tokio::test]
async fn what_was_asked_before_an_unknown_operation_is_answered() {
    let gateway = Gateway::new(Late::default());
    let (mut far, serving) = served(&gateway).await;
    let mut sent = b"1112".to_vec();
    sent.extend(request(&[b"open ws", b"__default", b"1", b"no"]));
    sent.extend(request(&[b"no such thing"]));
    far.write_all(&sent).await.unwrap();
    serving.await.unwrap();
    let mut replies = Vec::new();
    far.read_to_end(&mut replies).await.unwrap();
    assert_eq!(replies, b"22230000");
}

/// Its client left while the next request was executed: the value was never written.
#[tokio::test]
async fn a_value_whose_reply_waits_when_its_client_goes_is_given_back() {
    let gateway = Gateway::new(Late {
        value: Some(Tuple::named("v", Value::from("x")).unwrap()),
        ..Late::default()
    });
    let (far, mut client) = connected(&gateway).await;
    client.buffer.clear();
    let mut session = opened(&gateway);
    let answer = client.execute(&mut session, takes(false)).await.unwrap();
    client.answer(answer.unwrap()).await.unwrap();
    assert_eq!(gateway.spaces.fates(), (0, 0), "nothing is written yet");
    drop(far);
    client.stream.readable().await.unwrap();
    let error = client.flush().await.unwrap_err();
    assert!(matches!(error, Closed::Gone), "{error}");
    assert_eq!(gateway.spaces.fates(), (0, 1));
}
