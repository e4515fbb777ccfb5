//! One connection: its phase, and its socket, which limits how long the request of a client that closed its side
//! continues.

use std::io::{ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// Time for which the request of a client that closed its side continues. A client that ended may look the same as one
/// that only sends no more requests: the first needs no answer, the second does.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);

/// Step of a connection in its cycle of requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It waits for a request, since this time.
    Idle(Instant),
    /// It has received a request. `answering`: the client has not taken all of the answer before it.
    Received { answering: bool },
    /// It handles a request. `wants_body`: the handler waits for the body.
    Handling { wants_body: bool },
    /// The answer is ready, and the client has not taken all of it.
    Answering,
    /// The length of the answer is not known. `follows`: it is a stream of events.
    Streaming { follows: bool },
    /// It closes to make room for another one.
    Closing,
}

/// State of a connection, shared by its socket, its requests and the listener.
#[derive(Debug)]
pub(crate) struct Connection {
    phase: Mutex<Phase>,
    /// Notified when the client has taken an answer.
    taken: Notify,
    /// Notified when the connection has to close.
    closed: Notify,
}

impl Connection {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            phase: Mutex::new(Phase::Idle(Instant::now())),
            taken: Notify::new(),
            closed: Notify::new(),
        })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time since which the connection has had no request.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Idle(since) => Some(since),
            _ => None,
        }
    }

    /// Returns true if the connection has been made to close.
    pub(crate) fn is_closing(&self) -> bool {
        *self.phase() == Phase::Closing
    }

    /// Makes the connection close.
    pub(crate) fn close(&self) {
        *self.phase() = Phase::Closing;
        self.closed.notify_one();
    }

    /// Waits until the connection has to close.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Records that a request has arrived.
    pub(crate) fn receive_request(&self) {
        let mut phase = self.phase();
        *phase = Phase::Received { answering: *phase == Phase::Answering };
    }

    /// Begins to handle a request, after the client has taken the answers before it: so one connection has at most one
    /// answer in memory, however many requests its client sends ahead.
    pub(crate) async fn begin_request(&self) {
        while *self.phase() == (Phase::Received { answering: true }) {
            self.taken.notified().await;
        }
        *self.phase() = Phase::Handling { wants_body: false };
    }

    /// Ends the handling of a request. `follows`: the answer is a stream of events.
    pub(crate) fn begin_answer(&self, has_end: bool, follows: bool) {
        *self.phase() = if has_end { Phase::Answering } else { Phase::Streaming { follows } };
    }

    /// Returns true if the client receives a stream of events.
    pub(crate) fn follows(&self) -> bool {
        matches!(*self.phase(), Phase::Streaming { follows: true })
    }

    /// Records whether the handler waits for the body of its request.
    pub(crate) fn set_wants_body(&self, wants_body: bool) {
        if let Phase::Handling { wants_body: current } = &mut *self.phase() {
            *current = wants_body;
        }
    }

    /// Records that the client has taken everything. Returns true if that was an answer.
    fn set_taken(&self) -> bool {
        let mut phase = self.phase();
        *phase = match *phase {
            Phase::Answering => Phase::Idle(Instant::now()),
            Phase::Received { answering: true } => Phase::Received { answering: false },
            _ => return false,
        };
        self.taken.notify_one();
        true
    }
}

/// Socket of a connection, over TCP or TLS.
///
/// Hyper drops a request when it reads the end of the stream in the middle of it. That end is therefore withheld from
/// it while an answer may still be wanted.
pub(crate) struct Socket<S> {
    stream: S,
    connection: Arc<Connection>,
    end: End,
}

/// End of the stream that the client sends, as far as known.
enum End {
    /// It has not ended.
    Open,
    /// It has ended; the handler may have not seen the last bytes of the body.
    Found,
    /// It has ended, and the handler does not need more; the timer limits the time for which the request continues.
    Withheld(Pin<Box<Sleep>>),
}

impl<S> Socket<S> {
    pub(crate) const fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, end: End::Open }
    }

    /// Returns `Ready` if the end of the stream is to be reported.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let phase = *self.connection.phase();
        match (phase, &mut self.end) {
            (Phase::Idle(_) | Phase::Streaming { .. } | Phase::Closing, _) => Poll::Ready(()),
            (_, end @ End::Open) => {
                *end = End::Found;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (Phase::Handling { wants_body: true }, _) => Poll::Ready(()),
            // `poll_flush` wakes the task.
            (Phase::Answering | Phase::Received { answering: true }, _) => Poll::Pending,
            (Phase::Handling { .. } | Phase::Received { .. }, end @ End::Found) => {
                let mut timer = Box::pin(sleep(HALF_CLOSED_TIMEOUT));
                let elapsed = timer.as_mut().poll(context);
                *end = End::Withheld(timer);
                elapsed
            }
            (Phase::Handling { .. } | Phase::Received { .. }, End::Withheld(timer)) => {
                timer.as_mut().poll(context)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let has_ended = match ready!(Pin::new(&mut this.stream).poll_read(context, buffer)) {
            Ok(()) => buffer.filled().len() == before && buffer.remaining() > 0,
            // A client of TLS closed its side without saying so. The framing of HTTP shows if a request is incomplete.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => true,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if has_ended { this.poll_end(context).map(Ok) } else { Poll::Ready(Ok(())) }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper flushes its stream after it has written all that it has.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        if this.connection.set_taken() && !matches!(this.end, End::Open) {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
