//! Access log: one line for each request, at the target `access`.
//!
//! A line states who did what, and how much. It has no query strings and no headers, which may contain secrets. It is
//! written when the answer ends, so that it counts what a streamed answer has shown. Reads of the history are then added
//! to the log of reads, too.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use ledger_codec::secrets;
use ledger_domain::Principal;
use metrics::counter;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{Level, Span, debug_span, event};

use crate::App;
use crate::access::Sent;
use crate::health_paths;
use crate::peer::Peer;
use crate::read_log::ReadLog;
use crate::request_id::{REQUEST_ID, RequestId};
use crate::request_stats::{RequestStats, RequestSummary};

/// Maximum length of a path in the log, in characters.
const MAX_PATH: usize = 512;

/// Length up to which the log of reads has a query as it was sent, in characters.
const MAX_QUERY: usize = 512;

/// Divides a text after this number of characters.
fn split_after(text: &str, length: usize) -> (&str, &str) {
    let end = text.char_indices().nth(length).map_or(text.len(), |(index, _)| index);
    text.split_at(end)
}

/// Returns a path for a log: shortened, and not if it contains a secret.
fn logged_path(path: &str) -> String {
    match secrets::find(path) {
        None => split_after(path, MAX_PATH).0.to_owned(),
        Some(kind) => format!("({kind})"),
    }
}

/// Returns a query for the log of reads, and not if it contains a secret. A longer query than the log has room for must
/// not hide what it asks: its rest is stated by length and digest. A query has no space, so no client can send this text.
fn logged_query(query: &str) -> String {
    if let Some(kind) = secrets::find(query) {
        return format!("({kind})");
    }
    let (kept, rest) = split_after(query, MAX_QUERY);
    if rest.is_empty() {
        return kept.to_owned();
    }
    let digest = hex::encode(Sha256::digest(rest));
    format!("{kept} (truncated: {} more bytes, sha256 {digest})", rest.len())
}

/// Returns the method as a label: a word of a fixed set, also if a client sends another.
fn method_label(method: &Method) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Returns the span of a request. It has no query string, which may contain the code of a sign-in.
pub(crate) fn span(request: &Request) -> Span {
    debug_span!(
        "request",
        method = %request.method(),
        path = logged_path(request.uri().path()),
        version = ?request.version()
    )
}

/// Middleware that gives a request its id, and logs and counts the request when its answer ends.
pub(crate) async fn log_access(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let mut line = Line::of(&request, app.read_log.clone());
    let id = line.id.clone();
    request.extensions_mut().insert(Arc::clone(&line.stats));
    let mut response = id.clone().scope(next.run(request)).await;
    line.status = Some(response.status().as_u16());
    line.sender = response.extensions_mut().remove::<Sent>().and_then(|Sent(sender)| sender);
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response.map(|inner| Body::new(LoggedBody { inner, line }))
}

/// Line of a request. It is written when it is dropped: at the end of the answer, or when the client closes the
/// connection before it.
struct Line {
    id: RequestId,
    method: Method,
    route: Option<MatchedPath>,
    path: String,
    started: Instant,
    peer: Option<Peer>,
    bytes_in: Option<u64>,
    stats: Arc<RequestStats>,
    /// `None` if the request ended before it was answered.
    status: Option<u16>,
    sender: Option<Arc<Principal>>,
    bytes_out: u64,
    read_log: Option<Arc<ReadLog>>,
}

impl Line {
    fn of(request: &Request, read_log: Option<Arc<ReadLog>>) -> Self {
        let id = RequestId::of(request.headers());
        let route: Option<MatchedPath> = request.extensions().get().cloned();
        let stats = match &read_log {
            None => RequestStats::default(),
            Some(_) => RequestStats::new(RequestSummary {
                id: id.as_str().to_owned(),
                route: route.as_ref().map(|route| route.as_str().to_owned()).unwrap_or_default(),
                query: logged_query(request.uri().query().unwrap_or_default()),
            }),
        };
        Self {
            id,
            method: request.method().clone(),
            route,
            path: logged_path(request.uri().path()),
            started: Instant::now(),
            peer: request.extensions().get().copied(),
            bytes_in: request.body().size_hint().exact(),
            stats: Arc::new(stats),
            status: None,
            sender: None,
            bytes_out: 0,
            read_log,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(log) = &self.read_log
            && let Some(record) = self.stats.ended_read(self.status, log.now())
        {
            log.add(record);
        }
        let sender = self.sender.as_deref();
        let is_health = health_paths::is_health(&self.path);
        macro_rules! log {
            ($level:expr) => {
                event!(
                    target: "access",
                    $level,
                    request_id = self.id.as_str(),
                    method = self.method.as_str(),
                    route = self.route.as_ref().map(MatchedPath::as_str),
                    path = self.path,
                    status = self.status,
                    duration_ms = self.started.elapsed().as_secs_f64() * 1000.0,
                    tenant = self.stats.tenant().map(tracing::field::display),
                    principal_kind = sender.map(|sender| sender.kind.name()),
                    principal_name = sender.map(|sender| sender.name.as_str()),
                    principal_issuer = sender.map(|sender| sender.issuer.as_str()),
                    principal_subject = sender.map(|sender| sender.subject.as_str()),
                    received = self.stats.received(),
                    recorded = self.stats.recorded(),
                    reads = self.stats.reads(),
                    bytes_in = self.bytes_in,
                    bytes_out = self.bytes_out,
                    remote = self.peer.map(|Peer(address)| tracing::field::display(address)),
                    "request"
                )
            };
        }
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let method = method_label(&self.method);
        counter!("ledger_http_requests_total", "method" => method, "route" => route, "status" => status)
            .increment(1);
        if is_health {
            log!(Level::DEBUG);
        } else {
            log!(Level::INFO);
        }
    }
}

/// Body of an answer, with the line of its request.
struct LoggedBody {
    inner: Body,
    line: Line,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            this.line.bytes_out += bytes.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use ledger_codec::secrets::examples;

    use super::*;

    #[test]
    fn a_query_is_logged_as_it_was_sent_up_to_the_maximum_length() {
        let longest = "q".repeat(MAX_QUERY);
        for query in ["", "after=7&limit=100", &longest] {
            assert_eq!(logged_query(query), query);
        }
    }

    #[test]
    fn a_longer_query_is_logged_with_the_length_and_the_digest_of_its_rest() {
        let start = format!("q={}", "x".repeat(MAX_QUERY - 2));

        let logged = logged_query(&format!("{start}abc"));

        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(logged, format!("{start} (truncated: 3 more bytes, sha256 {digest})"));
        assert_ne!(logged_query(&format!("{start}abd")), logged, "another rest has another digest");
    }

    #[test]
    fn a_query_is_divided_between_characters() {
        let start = "é".repeat(MAX_QUERY);

        let logged = logged_query(&format!("{start}éx"));

        assert!(logged.starts_with(&format!("{start} (truncated: 3 more bytes, sha256 ")), "{logged}");
    }

    #[test]
    fn a_secret_is_not_logged_wherever_it_is_in_a_query() {
        let start = "x".repeat(MAX_QUERY);
        for (kind, secret) in examples::examples() {
            assert_eq!(logged_query(&secret), format!("({kind})"));
            assert_eq!(logged_query(&format!("{start} {secret}")), format!("({kind})"));
        }
    }
}
