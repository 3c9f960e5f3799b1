//! When a taken tuple counts as received: once its answer has been written to the connection.
//!
//! The answer's body hands the receipt to the connection as its last bytes go into the write
//! buffer; the connection confirms it when that buffer has been flushed. A connection that ends
//! before drops the receipt, wherever it is, and the tuple goes back.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body as HttpBody;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use cpe::Receipt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::service::TowerToHyperService;
use serde_json::Value as JsonValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Receipts of one connection whose answers are in its write buffer. HTTP/1.1 answers one request
/// after the other, so there are few.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Vec<Receipt>>>);

impl Deliveries {
    fn receipts(&self) -> MutexGuard<'_, Vec<Receipt>> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last bytes of an answer are being put into the write buffer.
    pub(crate) fn hand_over(&self, receipt: Receipt) {
        self.receipts().push(receipt);
    }

    /// The write buffer is empty.
    fn flushed(&self) {
        let receipts = std::mem::take(&mut *self.receipts());
        receipts.into_iter().for_each(Receipt::confirm);
    }

    /// The connection is gone.
    fn broken(&self) {
        drop(std::mem::take(&mut *self.receipts()));
    }

    /// An answer with something taken, which goes back unless it can be written.
    pub(crate) fn answer(&self, Json(answer): Json<JsonValue>, receipt: Receipt) -> Response {
        let body = Held {
            bytes: Some(Bytes::from(answer.to_string())),
            receipt: Some(receipt),
            to: self.clone(),
        };
        let mut response = HttpBody::new(body).into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// A body of one piece that comes with a receipt.
struct Held {
    bytes: Option<Bytes>,
    receipt: Option<Receipt>,
    to: Deliveries,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(receipt) = self.receipt.take() {
            self.to.hand_over(receipt);
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.bytes.as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(length as u64)
    }
}

/// The API as one connection sees it: handlers find its [`Deliveries`] in the request.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) router: TowerToHyperService<Router>,
    pub(crate) deliveries: Deliveries,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.deliveries.clone());
        Box::pin(self.router.call(request))
    }
}

/// A connection's stream, which tells when what was written to it has left this program.
#[derive(Debug)]
pub(crate) struct Line<S> {
    stream: S,
    deliveries: Deliveries,
}

impl<S> Line<S> {
    pub(crate) fn new(stream: S, deliveries: Deliveries) -> Self {
        Self { stream, deliveries }
    }
}

impl<S> Drop for Line<S> {
    fn drop(&mut self) {
        self.deliveries.broken();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called with all that was buffered above written to the stream.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.deliveries.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
