//! Listener of HTTP/1.1 connections. It bounds their number, and closes a connection whose client is too slow.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::connection::{Connection, Socket};
use crate::connections::{Connections, Place, RESERVED_CONNECTIONS};
use crate::health;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::request_body::RequestBody;

/// Pause after a failed accept, for example because too many files are open.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of bytes that are buffered of a connection: of the head of a request, of its body, and of a streamed
/// answer. A request with a longer head gets 431.
const BUFFER_BYTES: usize = 64 << 10;

/// Connections that the listener may have open at a time, for a limit of `connections`: some are reserved for health.
#[must_use]
pub const fn open_connections(connections: usize) -> usize {
    connections + RESERVED_CONNECTIONS
}

/// Serves until `shutdown` is cancelled, then completes the requests in progress. A client must send the head of a
/// request within `limits.read_timeout`, counted from the connection's start or the previous response.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.read_timeout).max_buf_size(BUFFER_BYTES);
    let service = TowerToHyperService::new(router);
    let connections = Connections::new(limits.connections);
    let in_progress = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                // These concern one connection. Any other failure is likely to repeat at once, so back off.
                if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                    warn!(%error, "cannot accept connections; retrying");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
                continue;
            }
        };
        let Some(place) = connections.admit() else { continue };
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "cannot disable Nagle's algorithm on a connection");
        }
        let served = in_progress.watch(http.serve_connection(
            TokioIo::new(socket(stream, &place, limits)),
            service_fn(requests(service.clone(), &place, limits, Peer(peer))),
        ));
        tokio::spawn(async move {
            tokio::select! {
                served = served => if let Err(error) = served {
                    debug!(%error, "connection ended with an error");
                },
                () = place.connection.closed() => {}
            }
        });
    }
    drop(listener);
    in_progress.shutdown().await;
}

fn socket(stream: TcpStream, place: &Place, limits: Limits) -> Socket {
    let pace = Pace::new(limits.write_timeout, limits.min_bytes_per_second);
    Socket::new(stream, Arc::clone(&place.connection), pace)
}

type Answered = Result<Response, Infallible>;

/// Returns the handler of the requests of one connection.
fn requests(
    service: TowerToHyperService<Router>,
    place: &Place,
    limits: Limits,
    peer: Peer,
) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, Answered> + use<> {
    let (connection, is_beyond_limit) = (Arc::clone(&place.connection), place.is_beyond_limit);
    move |mut request| {
        request.extensions_mut().insert(peer);
        let (service, connection) = (service.clone(), Arc::clone(&connection));
        // At once: hyper may read the end of the client's side before it polls the future.
        connection.receive_request();
        Box::pin(async move {
            connection.begin_request().await;
            let response = if is_beyond_limit && !health::is_health(request.uri().path()) {
                refused()
            } else {
                service.call(with_paced_body(request, &connection, limits)).await?
            };
            connection.begin_answer(response.body().size_hint().exact().is_some());
            Ok(if is_beyond_limit { closing(response) } else { response })
        })
    }
}

fn with_paced_body(
    request: Request<Incoming>,
    connection: &Arc<Connection>,
    limits: Limits,
) -> Request<Body> {
    let pace = Pace::new(limits.read_timeout, limits.min_bytes_per_second);
    request.map(|incoming| Body::new(RequestBody::new(incoming, pace, Arc::clone(connection))))
}

fn refused() -> Response {
    Problem::new(Kind::Busy, "all connections are in use; retry later").into_response()
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
