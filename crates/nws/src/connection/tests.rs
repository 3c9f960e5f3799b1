use std::collections::VecDeque;
use std::sync::Mutex;

use cpe_space::{Bound, Terms};
use cpe_tuple::{Blob, Template, Value};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::limits::{PAYLOAD_BYTES_MAX, WHOLE_BYTES_MAX};
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
            self.acts.lock().unwrap().push(act);
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

    async fn sync(&self, _: Option<&str>, _: Duration) -> Result<(), Trouble> {
        Ok(())
    }

    async fn list(&self, _: &str) -> Result<Vec<Listed>, Trouble> {
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
    let client = Client {
        gateway,
        stream: near.unwrap().0,
        buffer: BytesMut::from(&b"1112"[..]),
        decoder: Decoder::default(),
        collector: Collector::default(),
        inlet: None,
        cookies: true,
        room: None,
        due: within(REQUEST_WITHIN, 0),
    };
    (far.unwrap(), client)
}

/// Reads what the client sends before it goes, which is no whole request.
async fn hears(mut far: TcpStream, client: &mut Client<'_, Late>, sent: &[u8]) {
    far.write_all(sent).await.unwrap();
    far.shutdown().await.unwrap();
    let session = client.gateway.begin("a test".to_owned());
    assert_eq!(client.request(&session).await.unwrap(), None);
}

#[tokio::test]
async fn too_large_a_payload_has_the_time_of_its_length_and_no_room() {
    let gateway = Gateway::new(Late::default());
    let (far, mut client) = connected(&gateway).await;
    let mut sent = b"0005".to_vec();
    for argument in ["store", "ws", "v", "00000000000000000001"] {
        sent.extend(format!("{:020}{argument}", argument.len()).into_bytes());
    }
    let bytes = PAYLOAD_BYTES_MAX + 1;
    sent.extend(format!("{bytes:020}").into_bytes());
    let due = within(REQUEST_WITHIN, bytes);
    hears(far, &mut client, &sent).await;
    assert!(client.due >= due);
    assert!(client.room.is_none() && client.inlet.is_none());
}

#[tokio::test]
async fn a_request_has_its_time_from_the_first_byte_of_its_count() {
    let gateway = Gateway::new(Late::default());
    let (far, mut client) = connected(&gateway).await;
    // As after a long silence.
    client.due = Instant::now();
    let due = within(REQUEST_WITHIN, 0);
    hears(far, &mut client, b"00").await;
    assert!(client.due >= due);
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
    let near = near.unwrap().0;
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
