//! TCP connection whose client must take what is sent at a pace. TLS is above it, so that the pace counts the bytes
//! that the client takes, and not those that wait to be encrypted or sent.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tracing::warn;

use crate::connection::Connection;
use crate::pace::Pace;
use crate::peer::Peer;

/// TCP connection that ends with an error if the client takes what is sent too slowly.
pub(crate) struct PacedStream {
    stream: TcpStream,
    pace: Pace,
    connection: Arc<Connection>,
    peer: Peer,
}

impl PacedStream {
    pub(crate) const fn new(stream: TcpStream, pace: Pace, connection: Arc<Connection>, peer: Peer) -> Self {
        Self { stream, pace, connection, peer }
    }

    /// Limits the wait for the client while `written` is pending.
    fn paced(&mut self, context: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => self.pace.advance(bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                ready!(self.pace.poll_too_slow(context));
                counter!("ledger_http_slow_clients_total", "direction" => "answer").increment(1);
                if self.connection.follows() {
                    counter!("ledger_http_streams_closed_total", "reason" => "slow_client").increment(1);
                    warn!(client = %self.peer.0, "closed an event stream: the client reads too slowly");
                }
                let detail = "the client takes the answer too slowly";
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, detail)));
            }
        }
        written
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.paced(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.paced(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper flushes its stream after it has written all that it has; TLS, after it has written all that it encrypted.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        this.pace.restore();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
