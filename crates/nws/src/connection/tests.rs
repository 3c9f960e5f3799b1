use cpe_space::{Bound, Terms};
use cpe_tuple::{Template, Tuple};
use tokio::net::TcpListener;

use super::*;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::spaces::{Answer, Health, Listed, Trouble, Who};

/// A space in which there is no value until somebody waits for one.
struct Late;

impl Spaces for Late {
    async fn act(&self, _: &str, _: Terms, act: Bound, _: Duration) -> Result<Answer, Trouble> {
        let waits = matches!(act, Bound::Take { wait: true, .. });
        let value = waits.then(|| Tuple::named("v", "late").unwrap());
        Ok(Answer::Tuple(value))
    }

    async fn read(
        &self,
        _: &str,
        _: Template,
        _: Option<Duration>,
    ) -> Result<Option<Tuple>, Trouble> {
        Ok(None)
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
    assert_eq!(client.request().await.unwrap(), None);
}

#[tokio::test]
async fn too_large_a_payload_has_the_time_of_its_length_and_no_room() {
    let gateway = Gateway::new(Late);
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
    assert!(client.room.is_none());
}

#[tokio::test]
async fn a_request_has_its_time_from_the_first_byte_of_its_count() {
    let gateway = Gateway::new(Late);
    let (far, mut client) = connected(&gateway).await;
    // As after a long silence.
    client.due = Instant::now();
    let due = within(REQUEST_WITHIN, 0);
    hears(far, &mut client, b"00").await;
    assert!(client.due >= due);
}

#[tokio::test]
async fn a_value_that_comes_with_the_end_of_who_waits_is_given_back() {
    let gateway = Gateway::new(Late);
    // Without an order among the two it would be sent every other time.
    for _ in 0..32 {
        let (far, mut client) = connected(&gateway).await;
        client.buffer.clear();
        let mut session = gateway.begin("a test".to_owned());
        session.open.insert(b"__default".to_vec(), 1);
        drop(far);
        client.stream.readable().await.unwrap();
        let operation = Operation::Retrieve {
            ws: b"__default".to_vec(),
            variable: b"v".to_vec(),
            how: crate::Retrieve {
                leave: false,
                wait: true,
                after: None,
            },
        };
        let answer = client.execute(&mut session, operation).await;
        assert!(answer.unwrap().is_none());
    }
}
