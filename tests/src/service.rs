//! The program as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::{Client, Servers, free_port};

/// Longer than anything takes that does not fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// `release-ledger serve`, against a test's servers. It is killed when this is dropped.
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
        service.ready().await;
        service
    }

    /// Starts the service and waits until it lives: it may never be ready.
    pub async fn start_alive(program: &str, servers: &Servers, more: &[&str]) -> Self {
        let mut service = Self::launch(program, servers, more);
        let client = service.client();
        service.until(async || client.is_alive().await).await;
        service
    }

    fn launch(program: &str, servers: &Servers, more: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut arguments = vec![
            "serve".to_owned(),
            format!("--listen={address}"),
            format!("--journal-url={}", servers.nats_url()),
            format!("--projections-url={}", servers.postgres_url()),
            "--log-filter=warn".to_owned(),
        ];
        // A flag given twice is refused: what a test says outranks what stands here.
        for flag in more {
            let name = flag.split('=').next().unwrap_or(flag).to_owned();
            arguments.retain(|argument| argument.split('=').next() != Some(&name));
            arguments.push((*flag).to_owned());
        }
        let program = PathBuf::from(program);
        let child = spawn(&program, &arguments);
        Self { program, arguments, address, child }
    }

    /// What asks it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the service runs")
    }

    /// SIGKILL, and the end of the process.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("the service is killed");
    }

    /// SIGTERM, and whether the process then ended well.
    pub async fn terminate(&mut self) -> bool {
        self.ask_to_end();
        self.ended_well().await
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGSTOP: it stands still until [`Service::resume`].
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix_pid(self.pid()), signal).expect("the service is signalled");
    }

    /// Waits until the process has ended by itself, and tells whether it ended well.
    pub async fn ended_well(&mut self) -> bool {
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("the service ends");
        ended.expect("its status is known").success()
    }

    /// The same service again, at the same address.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.program, &self.arguments);
        self.ready().await;
    }

    /// The most memory that it ever held, in bytes.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kilobytes * 1024
    }

    async fn ready(&mut self) {
        let client = self.client();
        self.until(async || client.is_ready().await).await;
    }

    /// Waits until `what` is true of the process, which must not end before.
    async fn until(&mut self, what: impl AsyncFn() -> bool) {
        let so = async {
            loop {
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("the service ended before it was ready: {status}");
                }
                if what().await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, so).await.expect("the service comes to serve");
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
