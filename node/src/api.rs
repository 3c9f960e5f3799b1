//! The HTTP API of a node, for the command line, the web page and programs in any language.
//!
//! JSON over HTTP/1.1, on loopback unless configured otherwise. `docs/http-api.md` describes it for
//! people, `openapi.json` for programs; a test holds the routes and that document together.

mod actors;
mod browse;
mod delivery;
mod error;
mod forests;
mod forms;
mod guard;
mod lease;
mod mesh;
mod page;
mod server;
mod space;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, post};
use tokio_util::sync::CancellationToken;

pub(crate) use server::Server;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The tuple space.
    pub(crate) space: cpe::Space,
    /// The models of forests that it has read.
    pub(crate) models: crate::forest::model::Models,
    /// The actors.
    pub(crate) actors: cpe::Actors,
    /// The mesh as this node sees it.
    pub(crate) mesh: cpe::Mesh,
    /// Where NetWorkSpaces clients are served, and the gateway that serves them.
    pub(crate) nws: Option<(String, crate::nws::NodeGateway)>,
    /// What pages must send back to change anything: only this node's own page is given it.
    pub(crate) token: String,
    /// What does not change while the node runs.
    pub(crate) about: About,
    /// Names besides loopback's that requests may call this node by.
    pub(crate) hosts: Vec<String>,
    /// Bytes of a request's body at most.
    pub(crate) body_bytes_max: usize,
    /// Set when the node begins to stop: what waits is answered, new requests are refused.
    pub(crate) stop: CancellationToken,
}

/// A token that nobody guesses, another one in each run.
pub(crate) fn token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Handed to each handler.
pub(crate) type App = Arc<Shared>;

/// Facts about this node that do not change while it runs.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct About {
    /// Its name.
    pub(crate) name: String,
    /// Its libp2p peer id.
    pub(crate) peer: String,
    /// The multiaddrs it can be dialled at.
    pub(crate) addresses: Vec<String>,
    /// Version of this program.
    pub(crate) version: &'static str,
}

/// Each path with what it answers. The router, the test of the OpenAPI document and nothing else
/// read it.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/", get(page::page)),
        ("/openapi.json", get(page::openapi)),
        ("/v1/node", get(mesh::about)),
        ("/v1/status", get(mesh::status)),
        ("/v1/peers", get(mesh::peers)),
        ("/v1/shards", get(mesh::shards)),
        ("/v1/drain", post(mesh::drain)),
        (
            "/v1/capabilities/{name}",
            post(mesh::set_capability).delete(mesh::remove_capability),
        ),
        ("/v1/recover", post(mesh::recover)),
        ("/v1/spaces", get(space::workspaces)),
        (
            "/v1/spaces/{workspace}",
            get(space::variables).delete(space::delete_workspace),
        ),
        ("/v1/spaces/{workspace}/store", post(space::store)),
        ("/v1/spaces/{workspace}/out", post(space::out)),
        ("/v1/spaces/{workspace}/rd", post(space::rd)),
        ("/v1/spaces/{workspace}/rdp", post(space::rdp)),
        ("/v1/spaces/{workspace}/in", post(lease::take)),
        ("/v1/spaces/{workspace}/inp", post(lease::try_take)),
        ("/v1/spaces/{workspace}/declare", post(space::declare)),
        (
            "/v1/spaces/{workspace}/variables/{name}",
            get(browse::variable).delete(space::delete_variable),
        ),
        (
            "/v1/spaces/{workspace}/values/{name}",
            get(values::read).post(values::store),
        ),
        (
            "/v1/spaces/{workspace}/values/{name}/take",
            post(values::take),
        ),
        ("/v1/spaces/{workspace}/watch", get(space::watch)),
        ("/v1/nws", get(browse::gateway)),
        ("/v1/nws/{workspace}", delete(browse::delete_workspace)),
        ("/v1/leases/{lease}/renew", post(lease::renew)),
        ("/v1/leases/{lease}/commit", post(lease::commit)),
        ("/v1/leases/{lease}/return", post(lease::give_back)),
        ("/v1/operations/{operation}/status", post(lease::status)),
        ("/v1/actors", get(actors::list).post(actors::spawn)),
        (
            "/v1/actors/{name}",
            get(actors::where_is).delete(actors::stop),
        ),
        ("/v1/actors/{name}/migrate", post(actors::migrate)),
        ("/v1/actors/{name}/tell", post(actors::tell)),
        ("/v1/actors/{name}/ask", post(actors::ask)),
        ("/v1/forests/{name}/predict", post(forests::predict)),
        ("/v1/actor-tree", get(actors::tree)),
        ("/v1/dead-letters", get(actors::dead_letters)),
    ]
}

/// The whole API as one service.
pub(crate) fn router(app: &App) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods.fallback(error::wrong_method));
    }
    router
        .fallback(error::no_such_path)
        .layer(DefaultBodyLimit::max(app.body_bytes_max))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            guard::until_stop,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            guard::check,
        ))
        .with_state(Arc::clone(app))
}
