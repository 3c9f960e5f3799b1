//! A client of a node's HTTP API.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::cli::{API_DEFAULT, Common};
use crate::exit::Fault;

/// Bytes of an answer at most. Lists of a large mesh have a few megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes of one line of a stream at most: a tuple of the largest size, as JSON.
const LINE_BYTES_MAX: usize = 32 << 20;

/// How long a node may take to accept a connection. Nodes are near: mostly on this machine.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Bytes of a value read and sent at once.
const PART_BYTES: usize = 64 << 10;

/// How long a node may send nothing of a value: it may have to fetch it first, which it gives up
/// after less.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// How much longer than the operation itself its answer may take.
const GRACE: Duration = Duration::from_secs(5);

/// What a request carries.
type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

/// Talks to one node. Connections are kept and used again.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: String,
    http: Http<HttpConnector, Sent>,
}

/// Why a node did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens there.
    #[error("no node answers at {0}: start one with `cpe node` or pass --api")]
    NoNode(String),
    /// The connection broke after the request was sent.
    #[error("the node at {address} went away before it answered ({why}); it may have done it")]
    Lost {
        /// The node.
        address: String,
        /// What happened.
        why: String,
    },
    /// No answer in time.
    #[error("the node at {address} did not answer within {within:?}; it may have done it")]
    TimedOut {
        /// The node.
        address: String,
        /// The time waited.
        within: Duration,
    },
    /// The node answered that it did not do it.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// One word, as `timed_out`.
        kind: String,
        /// What, about what.
        message: String,
    },
    /// What listens there does not speak our protocol.
    #[error("what listens at {address} does not answer like a cpe node: {why}")]
    Foreign {
        /// The address.
        address: String,
        /// What was seen.
        why: String,
    },
}

impl ClientError {
    /// Whether the node answered with an error of this kind.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == wanted)
    }

    /// Whether the node, or who it needs for this, could not be reached or did not answer.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            Self::NoNode(_) | Self::Lost { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => matches!(
                *status,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::Foreign { .. } => false,
        }
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        match &error {
            // Scripts tell by the word whether it may have been done.
            ClientError::Refused { kind, message, .. }
                if matches!(kind.as_str(), "unavailable" | "unknown") =>
            {
                return Self::unavailable(format!("{kind}: {message}"));
            }
            error if error.is_unavailable() => return Self::unavailable(error.to_string()),
            _ => {}
        }
        Self::failed(error.to_string())
    }
}

impl Client {
    /// A client of the node that `--api` or `CPE_API` names.
    pub(crate) fn of(common: &Common) -> Self {
        let env = std::env::var("CPE_API").ok();
        let address = common.api.clone().or(env);
        Self::new(address.as_deref().unwrap_or(API_DEFAULT))
    }

    /// A client of the node at `HOST:PORT`.
    pub(crate) fn new(address: &str) -> Self {
        let address = address.strip_prefix("http://").unwrap_or(address);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_nodelay(true);
        let http = Http::builder(TokioExecutor::new()).build(connector);
        Self {
            address: address.trim_end_matches('/').to_owned(),
            http,
        }
    }

    /// Reads something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn get(&self, path: &str, within: Duration) -> Result<Value, ClientError> {
        self.call(Method::GET, path, None, within).await
    }

    /// Does something that may take `within`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Result<Value, ClientError> {
        self.call(Method::POST, path, Some(body), within).await
    }

    /// Removes something.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn delete(&self, path: &str, within: Duration) -> Result<Value, ClientError> {
        self.call(Method::DELETE, path, None, within).await
    }

    /// Opens a stream of JSON documents, one a line.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn stream(&self, path: &str) -> Result<Lines, ClientError> {
        let response = self.send(Method::GET, path, None).await?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        Ok(Lines {
            address: self.address.clone(),
            body: response.into_body(),
            buffer: BytesMut::new(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Value, ClientError> {
        let within = within.saturating_add(GRACE);
        let exchange = async {
            let response = self.send(method, path, body).await?;
            if !response.status().is_success() {
                return Err(self.refused(response).await);
            }
            let bytes = self.collect(response).await?;
            serde_json::from_slice(&bytes).map_err(|error| self.foreign(error))
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut {
                address: self.address.clone(),
                within,
            }),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(
                Full::new(body)
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            )
            .map_err(|error| self.foreign(error))?;
        self.request(request).await
    }

    async fn request(&self, request: Request<Sent>) -> Result<Response<Incoming>, ClientError> {
        self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                ClientError::NoNode(self.address.clone())
            } else {
                self.lost(error)
            }
        })
    }

    /// Sends bytes as they are read, and waits `within` for the answer, reading included.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn upload(
        &self,
        path: &str,
        source: impl AsyncRead + Send + 'static,
        within: Duration,
    ) -> Result<Value, ClientError> {
        let chunks = ReaderStream::with_capacity(source, PART_BYTES);
        let body = StreamBody::new(chunks.map_ok(Frame::data));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(body.boxed_unsync())
            .map_err(|error| self.foreign(error))?;
        let exchange = async {
            let response = self.request(request).await?;
            if !response.status().is_success() {
                return Err(self.refused(response).await);
            }
            let bytes = self.collect(response).await?;
            serde_json::from_slice(&bytes).map_err(|error| self.foreign(error))
        };
        let within = within.saturating_add(GRACE);
        match tokio::time::timeout(within, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.timed_out(within)),
        }
    }

    /// Asks for bytes, which come within `within` and then steadily; `None` when the node has none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn download(
        &self,
        method: Method,
        path: &str,
        within: Duration,
    ) -> Result<Option<Parts>, ClientError> {
        let within = within.saturating_add(BODY_WITHIN);
        let asking = self.send(method, path, None);
        let response = match tokio::time::timeout(within, asking).await {
            Ok(response) => response?,
            Err(_) => return Err(self.timed_out(within)),
        };
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        Ok(Some(Parts {
            client: self.clone(),
            body: response.into_body(),
        }))
    }

    fn timed_out(&self, within: Duration) -> ClientError {
        ClientError::TimedOut {
            address: self.address.clone(),
            within,
        }
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        Ok(body
            .collect()
            .await
            .map_err(|error| self.lost(error))?
            .to_bytes())
    }

    async fn refused(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let bytes = match self.collect(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let field = |name: &str| {
            answer
                .pointer(&format!("/error/{name}"))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        match (field("kind"), field("message")) {
            (Some(kind), Some(message)) => ClientError::Refused {
                status,
                kind,
                message,
            },
            _ => self.foreign(format!("HTTP status {status}")),
        }
    }

    fn lost(&self, error: impl std::fmt::Display) -> ClientError {
        ClientError::Lost {
            address: self.address.clone(),
            why: error.to_string(),
        }
    }

    fn foreign(&self, error: impl std::fmt::Display) -> ClientError {
        ClientError::Foreign {
            address: self.address.clone(),
            why: error.to_string(),
        }
    }
}

/// Bytes of an answer as they come.
#[derive(Debug)]
pub(crate) struct Parts {
    client: Client,
    body: Incoming,
}

impl Parts {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let next = tokio::time::timeout(BODY_WITHIN, self.body.frame());
            match next.await {
                Err(_) => return Err(self.client.timed_out(BODY_WITHIN)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.client.lost(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// The lines of a stream.
#[derive(Debug)]
pub(crate) struct Lines {
    address: String,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next document; `None` when the node ended the stream.
    ///
    /// # Errors
    /// When the connection breaks or a line is no JSON or too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                // Empty lines only show that the stream lives.
                if line.is_empty() {
                    continue;
                }
                let value = serde_json::from_slice(&line);
                return value.map(Some).map_err(|error| self.foreign(error));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(self.foreign(format!("a line of over {LINE_BYTES_MAX} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Lost {
                        address: self.address.clone(),
                        why: error.to_string(),
                    });
                }
            }
        }
    }

    fn foreign(&self, error: impl std::fmt::Display) -> ClientError {
        ClientError::Foreign {
            address: self.address.clone(),
            why: error.to_string(),
        }
    }
}

/// One segment of a path, percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // A segment of only dots would be taken for a step up the path.
            b'.' if text.bytes().any(|other| other != b'.') => encoded.push('.'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
