//! The program's commands, as processes.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

use crate::service::PATIENCE;

/// A command that runs. It is killed when this is dropped.
pub struct Command(Child);

impl Command {
    /// Starts the program with arguments.
    #[must_use]
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        Self::start_with(program, arguments, &[])
    }

    /// Starts the program with arguments, and with variables of the environment.
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

    /// SIGKILL, and the end of the process.
    pub async fn kill(mut self) {
        self.0.kill().await.expect("the command is killed");
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("the command runs");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the command is asked to end");
    }

    /// Waits until it has ended, however that is.
    pub async fn outcome(self) -> Outcome {
        let output = timeout(2 * PATIENCE, self.0.wait_with_output()).await.expect("the command ends");
        let output = output.expect("its output is read");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Waits until it has ended, which must be well, and answers the JSON that it printed.
    pub async fn ended(self) -> Value {
        let output = timeout(2 * PATIENCE, self.0.wait_with_output()).await.expect("the command ends");
        let output = output.expect("its output is read");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)))
    }
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its status; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What else it said.
    pub stderr: String,
}

/// Runs the program to its end, which must be well, and answers the JSON that it printed.
pub async fn run(program: &str, arguments: &[&str]) -> Value {
    Command::start(program, arguments).ended().await
}
