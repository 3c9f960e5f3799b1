//! A client of the NetWorkSpaces gateway that speaks its protocol and nothing more: a load tool.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::ours::WORKSPACE;

/// Digits before the payload of a value, in the short form.
const VALUE_HEAD: usize = 4 + 20 + 20;

/// A connection.
pub(crate) struct Gateway {
    stream: BufReader<TcpStream>,
}

impl Gateway {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = BufReader::new(stream);
        let mut this = Self { stream };
        this.stream.get_mut().write_all(b"1111").await.unwrap();
        assert_eq!(this.read(4).await, b"2223");
        this.status(&["use ws", WORKSPACE, "", "no"]).await;
        this
    }

    pub(crate) async fn store(&mut self, variable: &str, value: &str) {
        self.stores(variable, value, 1).await;
    }

    /// Stores so many times, with all requests under way before the first reply is read.
    pub(crate) async fn stores(&mut self, variable: &str, value: &str, count: usize) {
        // A plain string.
        let request = ["store", WORKSPACE, variable, "1", value];
        self.send(&request, count).await;
        for _ in 0..count {
            assert_eq!(self.read(4).await, b"0000", "{request:?}");
        }
    }

    /// True when there was a value.
    pub(crate) async fn fetch_try(&mut self, variable: &str) -> bool {
        self.send(&["fetchTry", WORKSPACE, variable], 1).await;
        self.value().await
    }

    /// Takes so many values that are there, with all requests under way before the first reply is
    /// read.
    pub(crate) async fn fetches(&mut self, variable: &str, count: usize) {
        self.send(&["fetchTry", WORKSPACE, variable], count).await;
        for _ in 0..count {
            assert!(self.value().await);
        }
    }

    async fn value(&mut self) -> bool {
        let head = String::from_utf8(self.read(VALUE_HEAD).await).unwrap();
        let length = head[24..].parse().unwrap();
        self.read(length).await;
        head.starts_with("0000")
    }

    async fn status(&mut self, request: &[&str]) {
        self.send(request, 1).await;
        assert_eq!(self.read(4).await, b"0000", "{request:?}");
    }

    /// Sends a request so many times, in one piece.
    async fn send(&mut self, arguments: &[&str], count: usize) {
        let mut text = format!("{:04}", arguments.len());
        for argument in arguments {
            text += &format!("{:020}{argument}", argument.len());
        }
        let text = text.repeat(count);
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .await
            .unwrap();
    }

    async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }
}
