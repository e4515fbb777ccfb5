//! A streaming replica of a test's Postgres.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, PgConnection};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::limits::WAIT_LIMIT;
use crate::{Servers, free_port};

/// A hot standby that follows the primary through a replication slot. It can be killed and restarted on the same port
/// with the data that it stored. It is stopped on drop.
pub struct Replica {
    /// The folder of the primary's programs; `user` is the user id and group id that they run as.
    programs: PathBuf,
    user: (u32, u32),
    folder: PathBuf,
    port: u16,
    url: String,
    server: Option<Child>,
}

impl Replica {
    /// Copies the primary and starts to follow it.
    pub async fn start(servers: &Servers) -> Self {
        let primary = PathBuf::from(format!("/proc/{}", servers.postgres_pid()));
        let owner = std::fs::metadata(&primary).expect("the primary runs");
        let program = std::fs::read_link(primary.join("exe")).expect("its program");
        let primary_url = servers.postgres_url();
        let port = free_port();
        let mut replica = Self {
            programs: program.parent().expect("a folder").to_owned(),
            user: (owner.uid(), owner.gid()),
            folder: servers.folder().join("replica"),
            port,
            url: primary_url.replace(&format!(":{}/", servers.postgres_port()), &format!(":{port}/")),
            server: None,
        };
        replica.copy(&primary_url).await;
        replica.restart().await;
        replica
    }

    /// Returns the URL with which clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Pauses replay: WAL is still received, but queries do not see it.
    pub async fn pause(&self) {
        self.execute("SELECT pg_wal_replay_pause()").await;
        let paused = async {
            while self.query("SELECT pg_get_wal_replay_pause_state()").await != "paused" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(WAIT_LIMIT, paused).await.expect("the replica pauses");
    }

    /// Resumes replay.
    pub async fn resume(&self) {
        self.execute("SELECT pg_wal_replay_resume()").await;
    }

    /// Stops the replica without a shutdown checkpoint (SIGQUIT): the next start recovers.
    pub async fn kill(&mut self) {
        let mut server = self.server.take().expect("the replica runs");
        signal(&server, Signal::QUIT);
        timeout(WAIT_LIMIT, server.wait()).await.expect("the replica exits").expect("an exit status");
    }

    /// Starts the replica with the data that it stored and waits until it accepts connections.
    pub async fn restart(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.folder);
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            // Replay needs at least as many as the primary has.
            "max_connections=200".into(),
            "hot_standby_feedback=on".into(),
        ] {
            command.arg("-c").arg(setting);
        }
        self.server = Some(command.spawn().expect("the replica starts"));
        let accepting = async {
            while PgConnection::connect(&self.url).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(WAIT_LIMIT, accepting).await.expect("the replica accepts connections");
    }

    async fn copy(&self, primary_url: &str) {
        std::fs::create_dir(&self.folder).expect("a folder");
        std::fs::set_permissions(&self.folder, Permissions::from_mode(0o700)).expect("permissions are set");
        std::os::unix::fs::chown(&self.folder, Some(self.user.0), Some(self.user.1))
            .expect("the owner is set");
        let mut command = self.command("pg_basebackup");
        command.arg("--dbname").arg(primary_url).arg("--pgdata").arg(&self.folder);
        // Writes `standby.signal` and the primary's address.
        command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        command.args(["--create-slot", "--slot=replica"]);
        let copied = timeout(WAIT_LIMIT, command.status()).await.expect("pg_basebackup exits");
        assert!(copied.expect("pg_basebackup runs").success());
    }

    fn command(&self, program: &str) -> Command {
        let log = std::fs::File::options().append(true).create(true).open(self.folder.with_extension("log"));
        let log = log.expect("a log");
        let mut command = Command::new(self.programs.join(program));
        command.uid(self.user.0).gid(self.user.1).current_dir(Path::new("/"));
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        command
    }

    async fn execute(&self, query: &'static str) {
        let mut connection = PgConnection::connect(&self.url).await.expect("connected");
        sqlx::query(query).execute(&mut connection).await.expect("executed");
    }

    async fn query(&self, query: &'static str) -> String {
        let mut connection = PgConnection::connect(&self.url).await.expect("connected");
        sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a row")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        signal(server, Signal::QUIT);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(server.try_wait(), Ok(None)) && Instant::now() < deadline {
            #[expect(clippy::disallowed_methods, reason = "a destructor cannot await")]
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn signal(server: &Child, signal: Signal) {
    let pid = server.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The process may already have exited.
        let _ = kill_process(pid, signal);
    }
}
