//! A TCP proxy that simulates network failures between a client and a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy in front of a server. On drop it stops listening and closes its connections.
pub struct Proxy {
    port: u16,
    conditions: Arc<watch::Sender<Conditions>>,
    listener: JoinHandle<()>,
}

/// The network conditions that the proxy simulates.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// Discard the server's data.
    drops_responses: bool,
    /// Close new connections immediately.
    refuses: bool,
    /// Delay of data in both directions.
    delay: Duration,
    /// Number of times that all connections were cut; a connection is dead if it is older than the last cut.
    cuts: u64,
    /// Number of times that the response direction was closed, counted like `cuts`.
    closed_responses: u64,
    /// Number of times that the request direction was closed, counted like `cuts`.
    closed_requests: u64,
}

impl Proxy {
    /// Starts a proxy in front of the server on a port of 127.0.0.1.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let conditions = Arc::new(watch::Sender::new(Conditions::default()));
        let server = (Ipv4Addr::LOCALHOST, server).into();
        let listener = tokio::spawn(listen(listener, server, conditions.clone()));
        Self { port, conditions, listener }
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Discards the server's data from now on; requests still reach the server.
    pub fn drop_responses(&self) {
        self.conditions.send_modify(|conditions| conditions.drops_responses = true);
    }

    /// Forwards the server's data again; discarded data stays lost.
    pub fn forward_responses(&self) {
        self.conditions.send_modify(|conditions| conditions.drops_responses = false);
    }

    /// Cuts all connections; accepts new ones.
    pub fn cut_connections(&self) {
        self.conditions.send_modify(|conditions| conditions.cuts += 1);
    }

    /// Cuts all connections and closes new ones immediately from now on.
    pub fn refuse_connections(&self) {
        self.conditions.send_modify(|conditions| {
            conditions.cuts += 1;
            conditions.refuses = true;
        });
    }

    /// Accepts new connections again.
    pub fn accept_connections(&self) {
        self.conditions.send_modify(|conditions| conditions.refuses = false);
    }

    /// Delays data by this time in both directions from now on.
    pub fn delay(&self, delay: Duration) {
        self.conditions.send_modify(|conditions| conditions.delay = delay);
    }

    /// Half-closes all connections towards the client: clients see the end of the stream and can still send.
    pub fn close_responses(&self) {
        self.conditions.send_modify(|conditions| conditions.closed_responses += 1);
    }

    /// Half-closes all connections towards the server: servers see the end of the stream and can still respond.
    pub fn close_requests(&self) {
        self.conditions.send_modify(|conditions| conditions.closed_requests += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut_connections();
        self.listener.abort();
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, conditions: Arc<watch::Sender<Conditions>>) {
    while let Ok((client, _)) = listener.accept().await {
        let conditions = conditions.subscribe();
        if conditions.borrow().refuses {
            continue;
        }
        tokio::spawn(async move {
            // If the server is down, the client's connection closes.
            let Ok(server) = TcpStream::connect(server).await else { return };
            connect(client, server, conditions).await;
        });
    }
}

/// The treatment of data in one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forwarding {
    Open,
    Dropped,
    /// Dropped; the receiver sees the end of the stream.
    Closed,
}

async fn connect(client: TcpStream, server: TcpStream, conditions: watch::Receiver<Conditions>) {
    let initial = *conditions.borrow();
    let mut cut = conditions.clone();
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let requests = move |conditions: &Conditions| {
        if conditions.closed_requests > initial.closed_requests {
            Forwarding::Closed
        } else {
            Forwarding::Open
        }
    };
    let responses = move |conditions: &Conditions| {
        if conditions.closed_responses > initial.closed_responses {
            Forwarding::Closed
        } else if conditions.drops_responses || conditions.cuts > initial.cuts {
            Forwarding::Dropped
        } else {
            Forwarding::Open
        }
    };
    tokio::select! {
        // When one direction ends, both sockets close.
        biased;
        _ = cut.wait_for(|conditions| conditions.cuts > initial.cuts) => {}
        () = forward(client_reads, server_writes, conditions.clone(), requests) => {}
        () = forward(server_reads, client_writes, conditions, responses) => {}
    }
}

/// Copies bytes until one side closes.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut conditions: watch::Receiver<Conditions>,
    forwarding: impl Fn(&Conditions) -> Forwarding,
) {
    let is_closed = |conditions: &Conditions| forwarding(conditions) == Forwarding::Closed;
    let mut buffer = vec![0; 64 * 1024];
    let mut closed = false;
    loop {
        let read = tokio::select! {
            biased;
            // An error means that the proxy was dropped, which cuts the connection.
            _ = conditions.wait_for(is_closed), if !closed => None,
            read = from.read(&mut buffer) => Some(read),
        };
        match read {
            None => {
                closed = true;
                // The receiver may have disconnected.
                let _ = to.shutdown().await;
            }
            Some(Ok(length @ 1..)) => {
                let delay = conditions.borrow().delay;
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let open = forwarding(&conditions.borrow()) == Forwarding::Open;
                if open && to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            Some(_) => return,
        }
    }
}
