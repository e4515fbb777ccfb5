//! Database cluster on disk, and its server process.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::{LEDGER, PROGRAM, Programs, STOP_TIMEOUT};
use crate::Error;
use crate::account::Account;
use crate::error::file;
use crate::process::{POLL_INTERVAL, Process, RunningProcess, STARTUP_TIMEOUT, stop_all};

/// Identifies the processes of one cluster, regardless of their current parent. The unique name of the cluster is in
/// the arguments of the postmaster and in the title of each of its children. All of them work in its directory, which
/// not every user may see. The process group does not identify them, because each child creates its own.
#[derive(Debug, Clone)]
pub(super) struct ClusterProcesses {
    /// Unique name of the cluster.
    pub(super) name: String,
    /// Directory that contains all its files.
    pub(super) directory: PathBuf,
}

impl ClusterProcesses {
    fn is_postmaster(&self, process: &RunningProcess) -> bool {
        let is_named = |argument: &String| *argument == format!("cluster_name={}", self.name);
        process.arguments().iter().any(is_named) && self.is_here(process)
    }

    /// Returns true if this is a process of the cluster.
    pub(super) fn matches(&self, process: &RunningProcess) -> bool {
        let arguments = process.arguments();
        let title = format!("postgres: {}: ", self.name);
        let is_child = arguments.first().is_some_and(|first| first.starts_with(&title));
        let draft = draft(&self.directory);
        let is_initdb = arguments.iter().any(|argument| Path::new(argument) == draft);
        self.is_postmaster(process) || ((is_child || is_initdb) && self.is_here(process))
    }

    /// Returns false if the process certainly works in another directory, such as a copy of this one.
    fn is_here(&self, process: &RunningProcess) -> bool {
        let directories = [&*self.directory, &data(&self.directory), &draft(&self.directory)];
        process.works_in(&directories).unwrap_or(true)
    }

    /// Stops all processes of the cluster and returns their number. Sends `signal` to the postmaster first, because it
    /// would restart its children, and the signal has another meaning for them. Kills all processes that remain.
    pub(super) async fn stop(&self, signal: Signal) -> Result<usize, Error> {
        let postmasters =
            stop_all(PROGRAM, |process| self.is_postmaster(process), signal, STOP_TIMEOUT).await?;
        Ok(postmasters
            + stop_all(PROGRAM, |process| self.matches(process), Signal::KILL, STOP_TIMEOUT).await?)
    }
}

/// Returns the directory of a cluster's data.
fn data(directory: &Path) -> PathBuf {
    directory.join("pgdata")
}

/// Returns the directory of a new cluster, which is renamed when complete.
fn draft(directory: &Path) -> PathBuf {
    directory.join("pgdata.draft")
}

/// Cluster on disk, with the settings to run it.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Programs that run it.
    pub(super) programs: Programs,
    /// User that it runs as, if not the current one.
    pub(super) account: Option<Account>,
    /// Directory that contains all its files.
    pub(super) directory: PathBuf,
    /// Unique name.
    pub(super) name: String,
}

impl Cluster {
    fn data(&self) -> PathBuf {
        data(&self.directory)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    /// Returns the identification of its processes.
    pub(super) fn processes(&self) -> ClusterProcesses {
        ClusterProcesses { name: self.name.clone(), directory: self.directory.clone() }
    }

    /// Returns a command that runs as the right user. Its environment is cleared, because PGDATA, LC_ALL and other
    /// variables would affect it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Creates the cluster if it is missing. With `sync`, it is on disk afterwards.
    pub(super) async fn ensure_exists(&self, sync: bool) -> Result<(), Error> {
        let (data, draft) = (self.data(), draft(&self.directory));
        if data.exists() {
            return Ok(());
        }
        // Remove the draft of an earlier run that was killed.
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove", &draft)(error));
            }
            _ => {}
        }
        fs::create_dir(&draft).map_err(file("create the directory", &draft))?;
        if let Some(account) = &self.account {
            account.take_ownership(&draft)?;
        }
        let mut command = self.command(&self.programs.initdb);
        command.arg("-D").arg(&draft).args(["-U", LEDGER, "--auth=scram-sha-256", "--encoding=UTF8"]);
        command
            .args(["--locale=C", "--no-instructions"])
            .arg("--pwfile")
            .arg(self.directory.join("password"));
        if !sync {
            command.arg("--no-sync");
        }
        let mut process = Process::spawn(super::INITDB, &mut command, &self.log(), Signal::TERM)?;
        match process.wait_for_exit(STARTUP_TIMEOUT).await? {
            Some(status) if status.success() => {}
            Some(status) => return Err(process.exited(status, None)),
            None => return Err(process.not_ready()),
        }
        fs::rename(&draft, &data).map_err(file("rename", &draft))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(file("sync", &self.directory))
    }

    /// Removes a stale pid file. Postgres removes it automatically if no process has that id, but an unrelated process
    /// may have it, most likely after a restart of the machine or container; or the Postgres of the directory of which
    /// this one is a copy.
    ///
    /// # Errors
    /// The file cannot be removed, or a Postgres that this crate did not start runs on the data directory.
    pub(super) fn remove_stale_pid_file(&self) -> Result<(), Error> {
        let path = self.data().join("postmaster.pid");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file("read", &path)(error)),
        };
        let Some(pid) = text.lines().next().and_then(|line| Pid::from_raw(line.trim().parse().ok()?)) else {
            return Ok(());
        };
        match self.is_used_by(pid) {
            Some(true) => Err(Error::ForeignPostgres { directory: self.data(), pid: pid.as_raw_pid() }),
            Some(false) => fs::remove_file(&path).map_err(file("remove", &path)),
            // Let Postgres itself decide.
            None => Ok(()),
        }
    }

    /// Returns true if a process is a Postgres on the data directory, and `None` if that is unknown.
    fn is_used_by(&self, pid: Pid) -> Option<bool> {
        let Some(process) = RunningProcess::read(pid) else { return Some(false) };
        let arguments = process.arguments();
        let program = arguments.first().map(Path::new).and_then(Path::file_name);
        if !matches!(program.and_then(|name| name.to_str()), Some("postgres" | "postmaster")) {
            return Some(false);
        }
        let data = self.data();
        // A postmaster works in its data directory.
        process.works_in(&[&data]).or_else(|| {
            let named = arguments.iter().skip_while(|argument| *argument != "-D").nth(1)?;
            Some(data == Path::new(named))
        })
    }

    /// Starts the server on this port and waits until it accepts connections.
    pub(super) async fn launch(&self, port: u16) -> Result<Process, Error> {
        let mut command = self.command(&self.programs.postgres);
        command.arg("-D").arg(self.data());
        for setting in [
            format!("cluster_name={}", self.name),
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            "shared_buffers=128MB".to_owned(),
            "max_wal_size=2GB".to_owned(),
            "fsync=on".to_owned(),
            "full_page_writes=on".to_owned(),
            "synchronous_commit=on".to_owned(),
            // `ClusterProcesses` finds the processes by their titles.
            "update_process_title=on".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
            "log_timezone=UTC".to_owned(),
            "timezone=UTC".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        // SIGQUIT stops it immediately but releases its shared memory, which SIGKILL would leak.
        let mut process = Process::spawn(PROGRAM, &mut command, &self.log(), Signal::QUIT)?;
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = process.exit_status()? {
                return Err(process.exited(status, Some(port)));
            }
            if self.is_ready(process.id()) {
                return Ok(process);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Err(process.not_ready())
    }

    /// Returns true if the pid file of the server reports readiness: the first line is its process id, the
    /// eighth its state. Connecting is not a reliable check: the server rejects connections while it recovers, and if
    /// it lost its port, another server may answer there.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }
}
