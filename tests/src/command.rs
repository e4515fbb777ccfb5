//! The program's commands as processes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::limits::WAIT_LIMIT;
use crate::memory::peak_memory;

/// Interval at which the memory of a command is read.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// A running command. It is killed on drop.
pub struct Command(Child);

impl Command {
    /// Starts the program with arguments.
    #[must_use]
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_with(program, arguments, &[])
    }

    /// Starts the program with arguments and environment variables.
    #[must_use]
    pub fn start_with(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let command = tokio::process::Command::new(Path::new(program))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        Self(command.expect("the program starts"))
    }

    /// Sends SIGKILL and waits for the process to exit.
    pub async fn kill(mut self) {
        self.0.kill().await.expect("the command is killed");
    }

    /// Sends SIGTERM.
    pub fn send_sigterm(&self) {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("the command runs");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM is sent");
    }

    /// Reads the standard output until a line contains `text`, and returns that line. What is read is not part of the
    /// outcome.
    pub async fn line_with(&mut self, text: &str) -> String {
        let stdout = self.0.stdout.as_mut().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let found = async {
            loop {
                let line = lines.next_line().await.expect("text").expect("the command still writes");
                if line.contains(text) {
                    return line;
                }
            }
        };
        timeout(4 * WAIT_LIMIT, found).await.expect("the line is written")
    }

    /// Waits until the command exits and returns its status and output.
    pub async fn outcome(self) -> Outcome {
        let output = timeout(2 * WAIT_LIMIT, self.0.wait_with_output()).await.expect("the command exits");
        let output = output.expect("its output can be read");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Waits until the command exits and returns its status and output, and its peak resident memory in bytes as last
    /// read before the exit.
    pub async fn outcome_and_peak_memory(self) -> (Outcome, u64) {
        let pid = self.0.id().expect("the command runs");
        let running = self.outcome();
        tokio::pin!(running);
        let mut ticks = tokio::time::interval(MEMORY_INTERVAL);
        let mut peak = 0;
        loop {
            tokio::select! {
                outcome = &mut running => return (outcome, peak),
                _ = ticks.tick() => peak = peak.max(peak_memory(pid).unwrap_or_default()),
            }
        }
    }

    /// Waits until the command exits, asserts success, and returns the JSON that it printed.
    pub async fn json_output(self) -> Value {
        let Outcome { code, stdout, stderr } = self.outcome().await;
        assert_eq!(code, Some(0), "{stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"))
    }
}

/// The exit status and output of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit status; `None` if a signal killed the process.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

/// Runs the program to its end, asserts success, and returns the JSON that it printed.
pub async fn run(program: &str, arguments: &[&str]) -> Value {
    Command::start(program, arguments).json_output().await
}
