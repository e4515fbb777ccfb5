//! A service with its connections in our hands: every one goes through a proxy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ledger_tests::{Client, Proxy, free_port};
use rustix::process::Signal;

use crate::nats::{PASSWORD, USER};
use crate::plan::{Harm, Server};
use crate::process::{Process, signal};

/// How long one that ended by itself rests before it is run again.
const REST: Duration = Duration::from_secs(1);

/// One of the services.
pub(crate) struct Replica {
    program: PathBuf,
    arguments: Vec<String>,
    address: String,
    log: PathBuf,
    to_nats: Vec<Proxy>,
    to_postgres: Proxy,
    process: Option<Process>,
    ran: Instant,
}

impl Replica {
    /// Starts a service on nats-servers, by their ports, and a Postgres.
    pub(crate) async fn start(
        program: &str,
        log: &Path,
        nats: &[u16],
        postgres: (&str, u16),
        more: &[String],
    ) -> Self {
        let mut to_nats = Vec::new();
        for port in nats {
            to_nats.push(Proxy::start(*port).await);
        }
        let (url, port) = postgres;
        let to_postgres = Proxy::start(port).await;
        let address = format!("127.0.0.1:{}", free_port());
        let servers =
            to_nats.iter().map(|proxy| format!("nats://{USER}:{PASSWORD}@127.0.0.1:{}", proxy.port()));
        let url = url.replace(&format!(":{port}/"), &format!(":{}/", to_postgres.port()));
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--listen={address}"),
            format!("--journal-url={}", servers.collect::<Vec<_>>().join(",")),
            format!("--journal-replicas={}", nats.len()),
            format!("--projections-url={url}"),
            "--journal-request-timeout-ms=2000".to_owned(),
            "--log-filter=info".to_owned(),
        ];
        arguments.extend_from_slice(more);
        let program = PathBuf::from(program);
        let log = log.to_owned();
        let ran = Instant::now();
        let mut replica = Self { program, arguments, address, log, to_nats, to_postgres, process: None, ran };
        replica.run();
        replica
    }

    /// What asks it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Runs it again.
    pub(crate) fn run(&mut self) {
        let mut command = Command::new(&self.program);
        self.process = Some(Process::spawn(command.args(&self.arguments), &self.log));
        self.ran = Instant::now();
    }

    /// SIGSTOP.
    pub(crate) fn stop(&mut self) {
        signal(&mut self.process, Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        signal(&mut self.process, Signal::CONT);
    }

    /// Harms its connections to a server.
    pub(crate) fn harm(&self, server: Server, harm: Harm) {
        for proxy in self.proxies(server) {
            match harm {
                Harm::Cut => proxy.cut(),
                Harm::Refused => proxy.refuse(),
                Harm::Swallowed => proxy.swallow_answers(),
                Harm::Delayed(milliseconds) => proxy.delay(Duration::from_millis(milliseconds)),
                Harm::AnswersClosed => proxy.close_answers(),
                Harm::RequestsClosed => proxy.close_requests(),
            }
        }
    }

    /// Lets its connections to a server be as they should; what was lost stays lost.
    pub(crate) fn spare(&self, server: Server, harm: Harm) {
        for proxy in self.proxies(server) {
            if harm == Harm::Swallowed {
                // TCP loses the end of what is said, never its middle.
                proxy.cut();
            }
            proxy.accept();
            proxy.let_answers_through();
            proxy.delay(Duration::ZERO);
        }
    }

    /// Runs it again if it ended by itself, as whatever supervises a service does, and says how it ended.
    pub(crate) fn mind(&mut self) -> Option<String> {
        let ended = self.process.as_mut()?.ended()?;
        if self.ran.elapsed() < REST {
            return None;
        }
        self.run();
        Some(format!("a service ended by itself: {ended}"))
    }

    fn proxies(&self, server: Server) -> &[Proxy] {
        match server {
            Server::Nats => &self.to_nats,
            Server::Postgres => std::slice::from_ref(&self.to_postgres),
        }
    }
}
