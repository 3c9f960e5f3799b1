//! Accepts connections and ends them in an orderly way.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use super::delivery::{Deliveries, Line, Service};
use crate::exit::Fault;

/// Connections at once. A browser keeps six, a command one; more wait in the system's backlog.
const CONNECTIONS_MAX: usize = 512;

/// How long a client may take to send the head of a request, and how long an idle connection is
/// kept before the next one.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long to rest after the system refused a connection, as for lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// How long answers under way may take once the node stops.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The listening API, before and while it serves.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: String,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub(crate) async fn bind(address: &str) -> Result<Self, Fault> {
        let cannot = |error: std::io::Error| {
            let fault = Fault::failed(format!(
                "cannot listen on {address} for the HTTP API: {error}"
            ));
            match error.kind() {
                std::io::ErrorKind::AddrInUse => fault.next(
                    "another node may run here: pass --api with another port (0: any free one)",
                ),
                _ => fault.next("pass --api with an address of this machine, as 127.0.0.1:8766"),
            }
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?.to_string();
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port the system chose.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Serves until the shared stop token is set, then finishes what is under way.
    pub(crate) fn serve(self, app: &App) -> JoinHandle<()> {
        let router = super::router(app);
        tokio::spawn(accept(self.listener, router, app.stop.clone()))
    }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut refusals = cpe_nws::Repeats::default();
    loop {
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without it each small answer could wait for the client's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let connection = graceful.watch(connection(stream, router.clone()));
                tokio::spawn(async move {
                    // A client that breaks off is no event: its request is dropped with it.
                    let _ = connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                if refusals.is_new(&error) {
                    tracing::warn!(%error, "no connection to the HTTP API is accepted; \
                        said once a minute");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(FINISH_WITHIN, graceful.shutdown()).await;
}

/// Serves one client.
pub(super) fn connection<S>(
    stream: S,
    router: Router,
) -> http1::Connection<TokioIo<Line<S>>, Service>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let deliveries = Deliveries::default();
    let line = Line::new(stream, deliveries.clone());
    let router = TowerToHyperService::new(router);
    let service = Service { router, deliveries };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(line), service)
}
