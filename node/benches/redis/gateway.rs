//! A client of the NetWorkSpaces gateway that speaks its protocol and nothing more.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ours::WORKSPACE;

/// Digits before the payload of a value, in the short form.
const VALUE_HEAD: usize = 4 + 20 + 20;

/// A connection, used for one request at a time.
pub(crate) struct Gateway {
    stream: TcpStream,
}

impl Gateway {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut this = Self { stream };
        this.stream.write_all(b"1111").await.unwrap();
        assert_eq!(this.read(4).await, b"2223");
        this.status(&["use ws", WORKSPACE, "", "no"]).await;
        this
    }

    pub(crate) async fn store(&mut self, variable: &str, value: &str) {
        // A plain string.
        let request = ["store", WORKSPACE, variable, "1", value];
        self.status(&request).await;
    }

    /// True when there was a value.
    pub(crate) async fn fetch_try(&mut self, variable: &str) -> bool {
        self.send(&["fetchTry", WORKSPACE, variable]).await;
        let head = String::from_utf8(self.read(VALUE_HEAD).await).unwrap();
        let length = head[24..].parse().unwrap();
        self.read(length).await;
        head.starts_with("0000")
    }

    async fn status(&mut self, request: &[&str]) {
        self.send(request).await;
        assert_eq!(self.read(4).await, b"0000", "{request:?}");
    }

    async fn send(&mut self, arguments: &[&str]) {
        let mut text = format!("{:04}", arguments.len());
        for argument in arguments {
            text += &format!("{:020}{argument}", argument.len());
        }
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }
}
