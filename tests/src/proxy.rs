//! What goes wrong between a client and a server: a TCP proxy that loses answers and connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy in front of a server. It ends, with its connections, when it is dropped.
pub struct Proxy {
    port: u16,
    way: Arc<watch::Sender<Way>>,
    listener: JoinHandle<()>,
}

/// How things stand between client and server.
#[derive(Clone, Copy, Default)]
struct Way {
    /// What the server says is lost.
    swallows: bool,
    /// How often all connections were cut: one that was made before the last cut is dead.
    cuts: u64,
}

impl Proxy {
    /// A proxy in front of the server on a port of 127.0.0.1.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let way = Arc::new(watch::Sender::new(Way::default()));
        let listener = tokio::spawn(listen(listener, (Ipv4Addr::LOCALHOST, server).into(), way.clone()));
        Self { port, way, listener }
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the server hears the client, and the client does not hear the server.
    pub fn swallow_answers(&self) {
        self.way.send_modify(|way| way.swallows = true);
    }

    /// From now on both hear each other; what was swallowed stays lost.
    pub fn let_answers_through(&self) {
        self.way.send_modify(|way| way.swallows = false);
    }

    /// Cuts all connections. New ones are taken.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.listener.abort();
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, way: Arc<watch::Sender<Way>>) {
    while let Ok((client, _)) = listener.accept().await {
        let way = way.subscribe();
        tokio::spawn(async move {
            // Without a server the client finds its connection closed, as it would find none.
            let Ok(server) = TcpStream::connect(server).await else { return };
            connect(client, server, way).await;
        });
    }
}

async fn connect(client: TcpStream, server: TcpStream, way: watch::Receiver<Way>) {
    let born = way.borrow().cuts;
    let mut cut = way.clone();
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        // Both directions end together, and with them both sockets.
        biased;
        _ = cut.wait_for(|way| way.cuts > born) => {}
        () = carry(client_reads, server_writes, || true) => {}
        () = carry(server_reads, client_writes, || {
            let now = *way.borrow();
            now.cuts == born && !now.swallows
        }) => {}
    }
}

/// Carries bytes until one side ends; while `passes` says no they are lost.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passes: impl Fn() -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if passes() && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
