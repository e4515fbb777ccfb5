//! What goes wrong between a client and a server: a TCP proxy that loses answers and connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

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
    /// New connections are closed as soon as they are made.
    refuses: bool,
    /// How long everything is on its way.
    delay: Duration,
    /// How often all connections were cut: one that was made before the last cut is dead.
    cuts: u64,
    /// How often the way of answers was closed, as `cuts` counts.
    closed_answers: u64,
    /// How often the way of requests was closed, as `cuts` counts.
    closed_requests: u64,
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

    /// Cuts all connections, and from now on closes new ones at once.
    pub fn refuse(&self) {
        self.way.send_modify(|way| {
            way.cuts += 1;
            way.refuses = true;
        });
    }

    /// From now on takes new connections.
    pub fn accept(&self) {
        self.way.send_modify(|way| way.refuses = false);
    }

    /// From now on everything takes this much longer, either way.
    pub fn delay(&self, delay: Duration) {
        self.way.send_modify(|way| way.delay = delay);
    }

    /// Half-closes all connections: clients are told that the server says no more, and may still speak.
    pub fn close_answers(&self) {
        self.way.send_modify(|way| way.closed_answers += 1);
    }

    /// Half-closes all connections the other way: servers are told that the client says no more.
    pub fn close_requests(&self) {
        self.way.send_modify(|way| way.closed_requests += 1);
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
        if way.borrow().refuses {
            continue;
        }
        tokio::spawn(async move {
            // Without a server the client finds its connection closed, as it would find none.
            let Ok(server) = TcpStream::connect(server).await else { return };
            connect(client, server, way).await;
        });
    }
}

/// What becomes of what one side says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    Open,
    Lost,
    /// Lost, and the other side is told that nothing more comes.
    Closed,
}

async fn connect(client: TcpStream, server: TcpStream, way: watch::Receiver<Way>) {
    let born = *way.borrow();
    let mut cut = way.clone();
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let requests = move |way: &Way| {
        if way.closed_requests > born.closed_requests { Passage::Closed } else { Passage::Open }
    };
    let answers = move |way: &Way| {
        if way.closed_answers > born.closed_answers {
            Passage::Closed
        } else if way.swallows || way.cuts > born.cuts {
            Passage::Lost
        } else {
            Passage::Open
        }
    };
    tokio::select! {
        // Both directions end together, and with them both sockets.
        biased;
        _ = cut.wait_for(|way| way.cuts > born.cuts) => {}
        () = carry(client_reads, server_writes, way.clone(), requests) => {}
        () = carry(server_reads, client_writes, way, answers) => {}
    }
}

/// Carries bytes until one side ends, as the passage is.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    passage: impl Fn(&Way) -> Passage,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut closed = false;
    loop {
        let read = tokio::select! {
            biased;
            // The proxy may be gone: then the connection is cut.
            _ = way.wait_for(|way| passage(way) == Passage::Closed), if !closed => None,
            read = from.read(&mut buffer) => Some(read),
        };
        match read {
            None => {
                closed = true;
                // Who is told may be gone.
                let _ = to.shutdown().await;
            }
            Some(Ok(length @ 1..)) => {
                let delay = way.borrow().delay;
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let open = passage(&way.borrow()) == Passage::Open;
                if open && to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
            Some(_) => return,
        }
    }
}
