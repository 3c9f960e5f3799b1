//! The listening socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{CONNECTIONS_MAX, KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_PROBES};
use crate::spaces::Spaces;
use crate::{Gateway, Repeats, connection};

/// How long to rest after the system refused a connection, as for lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// How long the workspaces of connections that end with the node may take to be purged. What is
/// left then, other nodes purge.
const PURGE_WITHIN: Duration = Duration::from_secs(3);

/// The gateway's socket, before and while it serves.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    places: usize,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(address: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            places: CONNECTIONS_MAX,
        })
    }

    /// Serves no more than so many connections at a time, and no more than [`CONNECTIONS_MAX`]:
    /// each needs a file descriptor, and the node needs some for its disk and its peers.
    #[must_use]
    pub fn with_places(self, places: usize) -> Self {
        let places = places.min(CONNECTIONS_MAX);
        Self { places, ..self }
    }

    /// Where it listens, with the port the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the token is set; then ends all connections and purges what they owned.
    pub fn serve<S: Spaces>(
        self,
        gateway: Arc<Gateway<S>>,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            let clients = TaskTracker::new();
            self.accept(&gateway, &stop, &clients).await;
            clients.close();
            if tokio::time::timeout(PURGE_WITHIN, clients.wait())
                .await
                .is_err()
            {
                tracing::warn!("workspaces of clients of this node are left to other nodes");
            }
        })
    }

    async fn accept<S: Spaces>(
        self,
        gateway: &Arc<Gateway<S>>,
        stop: &CancellationToken,
        clients: &TaskTracker,
    ) {
        let places = Arc::new(Semaphore::new(self.places));
        let mut refusals = Repeats::default();
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let Some((place, accepted)) = stop.run_until_cancelled(next).await else {
                return;
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if refusals.is_new(&error) {
                        tracing::warn!(%error, "no client is accepted; said once a minute");
                    }
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            prepare(&stream);
            let (gateway, stop) = (Arc::clone(gateway), stop.clone());
            clients.spawn(async move {
                connection::serve(gateway, stream, peer.to_string(), stop).await;
                drop(place);
            });
        }
    }
}

/// Small answers go at once, and a silent connection whose other end is gone is noticed.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(stream);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(crate::limits::UNTAKEN_WITHIN)));
    if let Err(error) = set {
        tracing::debug!(%error, "a client's socket keeps its settings");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two minutes without a word from the other end rest on: the system does the rest.
    #[tokio::test]
    async fn a_client_s_socket_is_told_when_to_give_up_a_silent_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (near, _far) = (near.unwrap().0, far.unwrap());
        prepare(&near);
        assert!(near.nodelay().unwrap());
        let socket = SockRef::from(&near);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            let probes = socket.tcp_keepalive_retries().unwrap();
            let (after, every) = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
            let silent = after.unwrap() + every.unwrap() * probes;
            assert_eq!(silent, Duration::from_secs(120));
            let untaken = socket.tcp_user_timeout().unwrap();
            assert_eq!(untaken, Some(crate::limits::UNTAKEN_WITHIN));
        }
    }
}
