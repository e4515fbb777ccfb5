//! The listener: HTTP/1.1 connections, each closed when its client is silent for too long.

use std::io::ErrorKind;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How long nothing is accepted after that failed, as when there are too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until the token is cancelled, and then until the requests under way are answered. A client has `patience`
/// for the head of a request, counted from when the connection was made or the answer before was sent.
pub async fn serve(listener: TcpListener, router: Router, patience: Duration, ending: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let service = TowerToHyperService::new(router);
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = ending.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
                // These are over with the connection; of others there may be more at once.
                if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
                    warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "a connection keeps waiting for full packets");
        }
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
