//! A cluster of databases on disk, and the server that runs on it.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::{NAME, PATIENCE, PROGRAM, Programs};
use crate::Error;
use crate::account::Account;
use crate::error::file;
use crate::process::{POLL, Process, READY_WITHIN, arguments, end_all};

/// By what the processes of one cluster are known, whoever their parent is now. The cluster's name,
/// which no other has, is in the postmaster's arguments and in the title of each of its children.
/// (Their process group does not tell: each child makes one of its own.)
#[derive(Debug)]
pub(super) struct Marks {
    /// The cluster's name.
    pub(super) name: String,
    /// Where a new cluster is made: an argument of `initdb`.
    pub(super) draft: String,
}

impl Marks {
    fn is_postmaster(&self, arguments: &[String]) -> bool {
        arguments.iter().any(|argument| *argument == format!("cluster_name={}", self.name))
    }

    /// Whether these are the arguments of one of its processes.
    pub(super) fn is_any(&self, arguments: &[String]) -> bool {
        self.is_postmaster(arguments)
            || arguments.first().is_some_and(|title| title.starts_with(&format!("postgres: {}: ", self.name)))
            || arguments.contains(&self.draft)
    }

    /// Ends all of them: the postmaster first, by `signal`, since it would start others, and since
    /// its children mean something else by that signal; whatever it leaves is killed.
    pub(super) async fn end(&self, signal: Signal) -> Result<usize, Error> {
        let first = end_all(PROGRAM, |arguments| self.is_postmaster(arguments), signal, PATIENCE).await?;
        Ok(first + end_all(PROGRAM, |arguments| self.is_any(arguments), Signal::KILL, PATIENCE).await?)
    }
}

/// A cluster on disk, and how it is run.
#[derive(Debug)]
pub(super) struct Cluster {
    /// What it is run with.
    pub(super) programs: Programs,
    /// Whom it runs as, if not as we do.
    pub(super) account: Option<Account>,
    /// The folder that all is in.
    pub(super) folder: PathBuf,
    /// A name that no other cluster has.
    pub(super) name: String,
}

impl Cluster {
    fn data(&self) -> PathBuf {
        self.folder.join("pgdata")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("postgres.log")
    }

    /// Where a new cluster is made, which gets its name when it is complete.
    fn draft(&self) -> PathBuf {
        self.folder.join("pgdata.draft")
    }

    /// By what its processes are known.
    pub(super) fn marks(&self) -> Marks {
        Marks { name: self.name.clone(), draft: self.draft().to_string_lossy().into_owned() }
    }

    /// A command that runs as the right user. It sees nothing of our environment, in which PGDATA,
    /// LC_ALL and others would speak to it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Makes the cluster, if there is none yet; with `sync`, it is on disk afterwards.
    pub(super) async fn fill(&self, sync: bool) -> Result<(), Error> {
        let (data, draft) = (self.data(), self.draft());
        if data.exists() {
            return Ok(());
        }
        // Left by a run that was killed while it made one.
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove", &draft)(error));
            }
            _ => {}
        }
        fs::create_dir(&draft).map_err(file("make the folder", &draft))?;
        if let Some(account) = &self.account {
            account.own(&draft)?;
        }
        let mut command = self.command(&self.programs.initdb);
        command.arg("-D").arg(&draft).args(["-U", NAME, "--auth=scram-sha-256", "--encoding=UTF8"]);
        command.args(["--locale=C", "--no-instructions"]).arg("--pwfile").arg(self.folder.join("password"));
        if !sync {
            command.arg("--no-sync");
        }
        let mut process = Process::spawn(super::INITDB, &mut command, &self.log(), Signal::TERM)?;
        match process.ended_within(READY_WITHIN).await? {
            Some(status) if status.success() => {}
            Some(status) => return Err(process.exited(status, None)),
            None => return Err(process.not_ready()),
        }
        fs::rename(&draft, &data).map_err(file("rename", &draft))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(file("sync", &self.folder))
    }

    /// Sees to it that a pid file of a former run does not hinder the next one. Postgres removes it
    /// by itself when no process has that number; but one may have it by chance, most likely after
    /// a restart of a machine or container.
    pub(super) fn clear_pid_file(&self) -> Result<(), Error> {
        let path = self.data().join("postmaster.pid");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file("read", &path)(error)),
        };
        let Some(pid) = text.lines().next().and_then(|line| Pid::from_raw(line.trim().parse().ok()?)) else {
            return Ok(());
        };
        let arguments = arguments(pid);
        let data = self.data();
        let named = arguments.iter().skip(1).any(|argument| data == Path::new(argument));
        // A postmaster works in its data folder. (Not everybody may see where another works.)
        let inside = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|at| at == data);
        let program = arguments.first().map(Path::new).and_then(Path::file_name);
        match program.and_then(|name| name.to_str()) {
            Some("postgres" | "postmaster") if named || inside => {
                Err(Error::Occupied { folder: data, pid: pid.as_raw_pid() })
            }
            // Whichever it is, Postgres itself has to judge.
            Some("postgres" | "postmaster") => Ok(()),
            _ => fs::remove_file(&path).map_err(file("remove", &path)),
        }
    }

    /// Runs the server on this port until it is ready for clients.
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
            // Titles are how its processes are found.
            "update_process_title=on".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
            "log_timezone=UTC".to_owned(),
            "timezone=UTC".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        // SIGQUIT: at once, but with its shared memory given back, which SIGKILL would leak.
        let mut process = Process::spawn(PROGRAM, &mut command, &self.log(), Signal::QUIT)?;
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = process.ended()? {
                return Err(process.exited(status, Some(port)));
            }
            if self.is_ready(process.id()) {
                return Ok(process);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(process.not_ready())
    }

    /// Whether the server with this number says in its pid file that it is ready: the first line is
    /// its number, the eighth its state. (Connecting would not do: while it recovers it refuses, and
    /// on a port that it has lost, another may answer.)
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }
}
