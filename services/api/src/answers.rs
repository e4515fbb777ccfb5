//! Bound of the answers that clients have not taken yet, over all connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::App;
use crate::budget::{FREE_BYTES, Share};
use crate::problem::Problem;

/// Counts the bytes of an answer in the budget until the client has taken them. Without room in the budget, the answer
/// is a problem. A streamed answer has its own bound.
pub(crate) async fn bound_answers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(bytes) = response.body().size_hint().exact() else { return response };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes <= FREE_BYTES {
        return response;
    }
    let mut share = app.bounds.answers.share();
    match share.resize(bytes) {
        Ok(()) => response.map(|inner| Body::new(CountedBody { inner, share: Arc::new(share) })),
        Err(exhausted) => Problem::from(exhausted).into_response(),
    }
}

/// Body whose bytes are counted until the last of them is dropped, which happens after it is written to the socket.
struct CountedBody {
    inner: Body,
    share: Arc<Share>,
}

/// Bytes with the share that counts them.
pub(crate) struct CountedBytes {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl CountedBytes {
    /// Returns bytes that keep the share until they are dropped.
    pub(crate) fn attach(bytes: Bytes, share: Arc<Share>) -> Bytes {
        Bytes::from_owner(Self { bytes, _share: share })
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(context));
        let counted = |bytes| CountedBytes::attach(bytes, Arc::clone(&this.share));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(counted))))
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
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::budget::ByteBudget;

    #[tokio::test]
    async fn the_bytes_of_an_answer_count_until_the_last_is_dropped() {
        let budget = ByteBudget::new("answers", 100);
        let mut share = budget.share();
        share.resize(FREE_BYTES + 100).expect("room");
        let body = CountedBody { inner: Body::from("an answer"), share: Arc::new(share) };
        let mut next = budget.share();

        let bytes = body.collect().await.expect("a body").to_bytes();
        let part = bytes.slice(3..);
        drop(bytes);
        assert!(next.resize(FREE_BYTES + 1).is_err());
        drop(part);
        assert!(next.resize(FREE_BYTES + 100).is_ok());
    }
}
