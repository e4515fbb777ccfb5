//! Body of a request as it arrives from the client: ends with an error if the client sends it too slowly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use metrics::counter;

use crate::connection::Connection;
use crate::pace::Pace;

/// The client sends the body too slowly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooSlow;

impl std::fmt::Display for TooSlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client sends the body too slowly")
    }
}

impl std::error::Error for TooSlow {}

/// Body whose client must keep a pace.
pub(crate) struct RequestBody {
    incoming: Incoming,
    pace: Pace,
    connection: Arc<Connection>,
}

impl RequestBody {
    pub(crate) const fn new(incoming: Incoming, pace: Pace, connection: Arc<Connection>) -> Self {
        Self { incoming, pace, connection }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(context);
        this.connection.set_wants_body(polled.is_pending());
        match polled {
            Poll::Pending => {
                std::task::ready!(this.pace.poll_too_slow(context));
                counter!("ledger_http_slow_clients_total", "direction" => "body").increment(1);
                Poll::Ready(Some(Err(TooSlow.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.pace.advance(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.connection.set_wants_body(false);
    }
}
