//! A service process whose connections to NATS and Postgres go through proxies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ledger_tests::{Client, Proxy, free_port};
use rustix::process::Signal;

use crate::nats::{PASSWORD, USER};
use crate::plan::{ConnectionFault, Server};
use crate::process::{Process, signal};

/// Minimum time from a start to the restart after an unexpected exit.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// One of the services.
pub(crate) struct ServiceProcess {
    program: PathBuf,
    arguments: Vec<String>,
    address: String,
    log: PathBuf,
    to_nats: Vec<Proxy>,
    to_postgres: Proxy,
    process: Option<Process>,
    started: Instant,
}

impl ServiceProcess {
    /// Starts a service with nats-servers at these ports and a Postgres at this URL and port.
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
            "--access-authentication=off".to_owned(),
            format!("--journal-url={}", servers.collect::<Vec<_>>().join(",")),
            format!("--journal-replicas={}", nats.len()),
            format!("--projections-url={url}"),
            "--journal-request-timeout-ms=2000".to_owned(),
            "--log-filter=info".to_owned(),
        ];
        arguments.extend_from_slice(more);
        let program = PathBuf::from(program);
        let log = log.to_owned();
        let started = Instant::now();
        let mut service =
            Self { program, arguments, address, log, to_nats, to_postgres, process: None, started };
        service.run();
        service
    }

    /// Returns a client of the service.
    pub(crate) fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the process, again if it was killed.
    pub(crate) fn run(&mut self) {
        let mut command = Command::new(&self.program);
        self.process = Some(Process::spawn(command.args(&self.arguments), &self.log));
        self.started = Instant::now();
    }

    /// Sends SIGSTOP.
    pub(crate) fn pause(&mut self) {
        signal(&mut self.process, Signal::STOP);
    }

    /// Sends SIGCONT.
    pub(crate) fn resume(&mut self) {
        signal(&mut self.process, Signal::CONT);
    }

    /// Begins a fault of its connections to a server.
    pub(crate) fn begin_connection_fault(&self, server: Server, fault: ConnectionFault) {
        for proxy in self.proxies(server) {
            match fault {
                ConnectionFault::Cut => proxy.cut_connections(),
                ConnectionFault::Refused => proxy.refuse_connections(),
                ConnectionFault::ResponsesDropped => proxy.drop_responses(),
                ConnectionFault::Delayed(milliseconds) => proxy.delay(Duration::from_millis(milliseconds)),
                ConnectionFault::ResponsesClosed => proxy.close_responses(),
                ConnectionFault::RequestsClosed => proxy.close_requests(),
            }
        }
    }

    /// Ends a fault of its connections to a server. Dropped bytes stay lost.
    pub(crate) fn end_connection_fault(&self, server: Server, fault: ConnectionFault) {
        for proxy in self.proxies(server) {
            if fault == ConnectionFault::ResponsesDropped {
                // TCP can lose the end of a stream, but never its middle.
                proxy.cut_connections();
            }
            proxy.accept_connections();
            proxy.forward_responses();
            proxy.delay(Duration::ZERO);
        }
    }

    /// Restarts the service if it exited, as a supervisor does, and returns a note about its exit status.
    pub(crate) fn restart_if_exited(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.exit_status()?;
        if self.started.elapsed() < RESTART_DELAY {
            return None;
        }
        self.run();
        Some(format!("a service exited: {status}"))
    }

    fn proxies(&self, server: Server) -> &[Proxy] {
        match server {
            Server::Nats => &self.to_nats,
            Server::Postgres => std::slice::from_ref(&self.to_postgres),
        }
    }
}
