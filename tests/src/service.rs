//! The service as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::connection::RawConnection;
use crate::limits::WAIT_LIMIT;
use crate::memory::peak_memory;
use crate::{Client, Servers, free_port};

/// Upper bound of the start of a service, which may project a long history first.
const START_LIMIT: Duration = Duration::from_secs(300);

/// `release-ledger serve`, connected to a test's servers. It is killed on drop.
pub struct Service {
    program: PathBuf,
    arguments: Vec<String>,
    address: String,
    child: Child,
}

impl Service {
    /// Starts the service and waits until it is ready. `more` are further flags.
    pub async fn start(program: &str, servers: &Servers, more: &[&str]) -> Self {
        let mut service = Self::launch(program, servers, more);
        service.wait_until_ready().await;
        service
    }

    /// Starts the service and waits until it is live; it need not become ready.
    pub async fn start_alive(program: &str, servers: &Servers, more: &[&str]) -> Self {
        let mut service = Self::launch(program, servers, more);
        let client = service.client();
        service.wait_until(async || client.is_alive().await).await;
        service
    }

    fn launch(program: &str, servers: &Servers, more: &[&str]) -> Self {
        let listen = more.iter().find_map(|flag| flag.strip_prefix("--listen="));
        let address = listen.map_or_else(|| format!("127.0.0.1:{}", free_port()), str::to_owned);
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--listen={address}"),
            "--access-authentication=off".to_owned(),
            format!("--journal-url={}", servers.nats_url()),
            format!("--projections-url={}", servers.postgres_url()),
            "--log-filter=warn".to_owned(),
        ];
        // The program rejects a repeated flag: the test's flags replace the ones above.
        for flag in more {
            let name = flag.split('=').next().unwrap_or(flag).to_owned();
            arguments.retain(|argument| argument.split('=').next() != Some(&name));
            arguments.push((*flag).to_owned());
        }
        let program = PathBuf::from(program);
        let child = spawn(&program, &arguments);
        Self { program, arguments, address, child }
    }

    /// Returns a client of the service.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// Opens a connection on which a test sends what it wants.
    pub async fn connect(&self) -> RawConnection {
        RawConnection::open(&self.url()).await
    }

    /// Returns the service's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the service runs")
    }

    /// Sends SIGKILL and waits for the process to exit.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the service is killed");
    }

    /// Sends SIGTERM, waits for the process to exit, and returns true if it succeeded.
    pub async fn terminate(&mut self) -> bool {
        self.send_sigterm();
        self.exits_successfully().await
    }

    /// Sends SIGTERM.
    pub fn send_sigterm(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGSTOP: the process stops until [`Service::resume`].
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix_pid(self.pid()), signal).expect("the service is signalled");
    }

    /// Waits until the process exits on its own, and returns true if it succeeded.
    pub async fn exits_successfully(&mut self) -> bool {
        let ended = timeout(WAIT_LIMIT, self.child.wait()).await.expect("the service exits");
        ended.expect("an exit status").success()
    }

    /// Starts the service again at the same address.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.program, &self.arguments);
        self.wait_until_ready().await;
    }

    /// Returns the peak resident memory of the process, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.pid()).expect("the service runs")
    }

    /// Returns the processor time that the process has used.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process");
        let fields = stat.rsplit_once(") ").expect("fields after the name").1.split(' ').skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number")).sum();
        // A tick is 10 ms on Linux.
        Duration::from_millis(ticks * 10)
    }

    async fn wait_until_ready(&mut self) {
        let client = self.client();
        self.wait_until(async || client.is_ready().await).await;
    }

    /// Waits until `condition` is true; panics if the process exits first.
    async fn wait_until(&mut self, condition: impl AsyncFn() -> bool) {
        let holds = async {
            loop {
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("the service exited before it was ready: {status}");
                }
                if condition().await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(START_LIMIT, holds).await.expect("the service starts");
    }
}

fn spawn(program: &Path, arguments: &[String]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}

fn rustix_pid(pid: u32) -> rustix::process::Pid {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process")
}
