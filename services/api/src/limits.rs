//! Limits of requests, answers and connections, and the time limit of questions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::budget::ByteBudget;
use crate::entry_feed::EntryFeeds;
use crate::problem::{Kind, Problem};

/// Limits of the API, for one process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a batch (`application/cloudevents-batch+json`).
    pub batch_bytes: usize,
    /// Events in one request, in any content mode.
    pub events: usize,
    /// Longest pause of a client in the middle of a request, or between two requests on one connection.
    pub read_timeout: Duration,
    /// Longest pause of a client that takes an answer.
    pub write_timeout: Duration,
    /// Slowest rate at which a client may send a body or take an answer. Pauses up to the timeouts do not count.
    pub min_bytes_per_second: u64,
    /// Time limit of a question: a request that records nothing.
    pub question_timeout: Duration,
    /// Connections that may be open at a time. A few more get answers about health.
    pub connections: usize,
    /// Bytes of request bodies in memory, over all connections.
    pub body_bytes: usize,
    /// Bytes of answers that clients have not taken yet, over all connections.
    pub answer_bytes: usize,
    /// Clients that follow entries at a time.
    pub followers: usize,
    /// Clients of one principal that follow entries at a time.
    pub followers_of_principal: usize,
}

/// Resources that all requests of a process share, each with its bound.
#[derive(Debug)]
pub struct Bounds {
    /// Request bodies in memory.
    pub(crate) bodies: Arc<ByteBudget>,
    /// Bodies of webhooks in memory, most of which are read before they are authenticated.
    pub(crate) deliveries: Arc<ByteBudget>,
    /// Answers that clients have not taken yet.
    pub(crate) answers: Arc<ByteBudget>,
    /// Clients that follow entries.
    pub(crate) entry_feeds: Arc<EntryFeeds>,
}

impl Bounds {
    /// Creates the bounds that the limits state.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            bodies: ByteBudget::new("bodies", limits.body_bytes),
            deliveries: ByteBudget::new("deliveries", (limits.body_bytes / 4).max(1 << 21)),
            answers: ByteBudget::new("answers", limits.answer_bytes),
            entry_feeds: EntryFeeds::new(limits.followers, limits.followers_of_principal),
        }
    }
}

/// Runs a question with its time limit. After it, or if the client is gone, the question is dropped, and with it its
/// statements.
pub(crate) async fn in_time<T>(
    limit: Duration,
    question: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let timed_out = |_| {
        let detail = format!("the query timed out after {limit:?}; retry it");
        Err(Problem::new(Kind::ProjectionsUnavailable, detail))
    };
    tokio::time::timeout(limit, question).await.unwrap_or_else(timed_out)
}

/// Limits the time of requests that are questions by their method. The handlers of POST limit the questions among
/// them: other requests may record events, and have no limit.
pub(crate) async fn time_out_questions(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() == Method::POST {
        return next.run(request).await;
    }
    let answered = in_time(app.limits.question_timeout, async { Ok(next.run(request).await) }).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_question_that_takes_too_long_is_a_problem() {
        let limit = Duration::from_millis(1);

        let late = in_time(limit, pending::<Result<(), Problem>>()).await.expect_err("a problem");
        let in_time = in_time(limit, async { Ok(7) }).await.expect("an answer");

        assert_eq!(late.into_body().status, 503);
        assert_eq!(in_time, 7);
    }
}
