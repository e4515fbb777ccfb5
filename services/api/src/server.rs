//! Listener of HTTP/1.1 connections, with or without TLS. It bounds their number, and closes a connection whose client
//! is too slow.

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
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::connection::{Connection, Socket};
use crate::connections::{Connections, Place, RESERVED_CONNECTIONS};
use crate::health_paths;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::paced_stream::PacedStream;
use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::request_body::RequestBody;
use crate::security_headers::{self, Content};
use crate::tls::Tls;

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

/// Serves until `shutdown` is cancelled, then completes the requests in progress. A client must complete the handshake
/// of TLS within `limits.read_timeout`, and then send the head of a request within it, counted from the end of the
/// handshake or the previous response.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.read_timeout).max_buf_size(BUFFER_BYTES);
    let service = TowerToHyperService::new(router);
    let server = Arc::new(Server { http, service, tls, limits, shutdown });
    let connections = Connections::new(limits.connections);
    let in_progress = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = server.shutdown.cancelled() => break,
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
        let Some(place) = connections.admit().await else { continue };
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "cannot disable Nagle's algorithm on a connection");
        }
        let (server, watcher) = (Arc::clone(&server), in_progress.watcher());
        tokio::spawn(async move {
            tokio::select! {
                () = server.serve_client(stream, Peer(peer), &place, watcher) => {}
                () = place.connection.closed() => {}
            }
        });
    }
    drop(listener);
    in_progress.shutdown().await;
}

/// State that all connections of a listener share.
struct Server {
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    tls: Option<Tls>,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves one connection until it ends.
    async fn serve_client(&self, stream: TcpStream, peer: Peer, place: &Place, watcher: Watcher) {
        let pace = Pace::new(self.limits.write_timeout, self.limits.min_bytes_per_second);
        let stream = PacedStream::new(stream, pace, Arc::clone(&place.connection), peer);
        match &self.tls {
            None => self.serve_requests(stream, peer, place, watcher).await,
            Some(tls) => {
                if let Some(stream) = self.handshake(tls, stream).await {
                    self.serve_requests(stream, peer, place, watcher).await;
                }
            }
        }
    }

    /// Performs the handshake of TLS. Returns `None` if it fails, does not end in time, or the service shuts down.
    /// Until it ends, the connection has no request: it closes if a new one needs its place.
    async fn handshake(&self, tls: &Tls, stream: PacedStream) -> Option<TlsStream<PacedStream>> {
        let accepted = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            accepted = timeout(self.limits.read_timeout, tls.accept(stream)) => accepted,
        };
        match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => {
                counter!("ledger_tls_handshake_errors_total").increment(1);
                debug!(%error, "TLS handshake failed");
            }
            Err(_) => {
                counter!("ledger_http_slow_clients_total", "direction" => "handshake").increment(1);
                debug!("TLS handshake timed out");
            }
        }
        None
    }

    async fn serve_requests<S>(&self, stream: S, peer: Peer, place: &Place, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let served = watcher.watch(self.http.serve_connection(
            TokioIo::new(Socket::new(stream, Arc::clone(&place.connection))),
            service_fn(requests(self.service.clone(), place, self.limits, peer)),
        ));
        if let Err(error) = served.await {
            debug!(%error, "connection ended with an error");
        }
    }
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
            let response = if is_beyond_limit && !health_paths::is_health(request.uri().path()) {
                refused()
            } else {
                service.call(with_paced_body(request, &connection, limits)).await?
            };
            let follows =
                response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            connection.begin_answer(response.body().size_hint().exact().is_some(), follows);
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
    let mut response = Problem::new(Kind::Busy, "all connections are in use; retry later").into_response();
    security_headers::add(response.headers_mut(), Content::Data, false);
    response
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
