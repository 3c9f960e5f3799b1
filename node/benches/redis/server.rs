//! Debian's `redis-server` as a process, and a client that speaks its protocol and nothing more.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::common;

/// A server on a free port of loopback, with a folder of its own.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    /// Whether there is one on this machine.
    pub(crate) fn is_here() -> bool {
        Command::new("redis-server")
            .arg("--version")
            .output()
            .is_ok()
    }

    /// `durable`: every write is on disk before it is answered. Else nothing ever is.
    pub(crate) fn start(durable: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It takes no port 0; this one was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command
            .args(["--maxclients", "2000"])
            .arg("--dir")
            .arg(folder.path());
        if durable {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        } else {
            command.args(["--appendonly", "no"]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        common::until("redis-server listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    pub(crate) fn cpu(&self) -> Duration {
        common::cpu(self.child.id())
    }

    /// A connection.
    pub(crate) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream: BufReader::new(stream),
            line: String::new(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A connection (RESP 2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Connection {
    /// Sends a command and waits for its reply. The last bulk string in it, if there is any.
    pub(crate) async fn command(&mut self, words: &[&str]) -> Option<Vec<u8>> {
        self.send(words, 1).await;
        self.reply().await
    }

    /// Sends a command so many times, and then waits for all replies: each must have something.
    pub(crate) async fn commands(&mut self, words: &[&str], count: usize) {
        self.send(words, count).await;
        for _ in 0..count {
            let reply = self.reply().await;
            assert!(reply.is_some() || words[0] != "RPOP");
        }
    }

    async fn send(&mut self, words: &[&str], count: usize) {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        let text = text.repeat(count);
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .await
            .unwrap();
    }

    async fn reply(&mut self) -> Option<Vec<u8>> {
        let (mut replies, mut last) = (1, None);
        while replies > 0 {
            replies -= 1;
            self.line.clear();
            self.stream.read_line(&mut self.line).await.unwrap();
            let (kind, rest) = self.line.trim_end().split_at(1);
            match kind {
                "+" | ":" => {}
                "$" if rest == "-1" => last = None,
                "$" => {
                    let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut bytes).await.unwrap();
                    bytes.truncate(bytes.len() - 2);
                    last = Some(bytes);
                }
                "*" => replies += rest.parse::<i64>().unwrap().max(0),
                _ => panic!("redis-server answered {:?}", self.line),
            }
        }
        last
    }
}
