//! The command of a step: its environment and input, its run, and its outcome.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ledger_api_types::{ReleaseBody, StepBody};
use ledger_domain::escape_line;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::plan::lane;
use crate::progress::Progress;

/// Time limit for a command to end after SIGTERM.
const TERMINATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for reading the output after the command has ended: a background process may keep it open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum length of a line of output that is printed whole.
const MAX_LINE_BYTES: u64 = 16 * 1024;

/// The shell of the command itself creates the file that marks its success, so that the mark exists even if
/// this process is killed first. Signals exit with a failure status: otherwise some shells would use the
/// status of the previous command.
const SHELL_PROLOGUE: &str = "trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM; \
    trap '[ $? -ne 0 ] || : >\"$RELEASE_LEDGER_FINISHED\"' EXIT\n";

/// The outcome of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    Succeeded,
    /// The command exited with a status other than 0, or by a signal.
    Failed(String),
    /// The execution was interrupted.
    Interrupted,
}

/// A step as its command receives it, in variables and as JSON on stdin.
#[derive(Debug, Serialize)]
pub(super) struct StepEnv<'a> {
    pub(super) rollback_id: &'a str,
    pub(super) environment: &'a str,
    #[serde(flatten)]
    pub(super) step: &'a StepBody,
}

impl StepEnv<'_> {
    fn variables(&self) -> [(&'static str, String); 13] {
        let step = self.step;
        let release = |release: &Option<ReleaseBody>, part: fn(&ReleaseBody) -> Option<&String>| {
            release.as_ref().and_then(part).cloned().unwrap_or_default()
        };
        [
            ("RELEASE_LEDGER_ROLLBACK_ID", self.rollback_id.to_owned()),
            ("RELEASE_LEDGER_ENVIRONMENT", self.environment.to_owned()),
            ("RELEASE_LEDGER_WAVE", step.wave.to_string()),
            ("RELEASE_LEDGER_SERVICE", step.service.clone()),
            ("RELEASE_LEDGER_TARGET", step.target.clone()),
            ("RELEASE_LEDGER_ACTION", step.action.clone()),
            ("RELEASE_LEDGER_SLOT", step.slot.clone().unwrap_or_default()),
            ("RELEASE_LEDGER_FROM_VERSION", release(&step.from, |release| Some(&release.version))),
            ("RELEASE_LEDGER_TO_VERSION", release(&step.to, |release| Some(&release.version))),
            ("RELEASE_LEDGER_TO_ARTIFACT", release(&step.to, |release| release.artifact.as_ref())),
            ("RELEASE_LEDGER_TO_CONFIG", release(&step.to, |release| release.config.as_ref())),
            (
                "RELEASE_LEDGER_TO_INFRASTRUCTURE",
                release(&step.to, |release| release.infrastructure.as_ref()),
            ),
            ("RELEASE_LEDGER_TO_COMMIT", release(&step.to, |release| release.commit.as_ref())),
        ]
    }
}

/// Runs the command of a step to its end. `finished_file` is the file that its shell creates on success.
pub(super) async fn run(
    command: &str,
    step_env: &StepEnv<'_>,
    finished_file: &Path,
    progress: &Arc<Progress>,
    interrupted: &CancellationToken,
) -> anyhow::Result<CommandOutcome> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("{SHELL_PROLOGUE}{command}"))
        .envs(step_env.variables())
        .env("RELEASE_LEDGER_FINISHED", finished_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in the terminal must reach this process and not the command, which is then terminated in
        // order.
        .process_group(0)
        .spawn()
        .context("cannot run sh")?;
    let label = lane(step_env.step);
    let mut output = JoinSet::new();
    output.spawn(copy_lines(child.stdout.take(), label.clone(), Arc::clone(progress)));
    output.spawn(copy_lines(child.stderr.take(), label, Arc::clone(progress)));
    if let Some(mut stdin) = child.stdin.take() {
        let json = serde_json::to_vec(step_env)?;
        // Write while the command runs: it may read its stdin late or never.
        output.spawn(async move {
            let _ = stdin.write_all(&json).await;
            let _ = stdin.write_all(b"\n").await;
        });
    }
    let status = tokio::select! {
        status = child.wait() => status?,
        () = interrupted.cancelled() => {
            terminate(&mut child).await;
            return Ok(CommandOutcome::Interrupted);
        }
    };
    // A background process may keep the output open, and is not part of the step.
    let _ = timeout(OUTPUT_TIMEOUT, async { while output.join_next().await.is_some() {} }).await;
    Ok(outcome(status))
}

fn outcome(status: ExitStatus) -> CommandOutcome {
    if status.success() {
        CommandOutcome::Succeeded
    } else {
        CommandOutcome::Failed(format!("the command ended with {status}"))
    }
}

/// Terminates the process group of the command: sends SIGTERM, then SIGKILL after [`TERMINATION_TIMEOUT`].
async fn terminate(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    // The processes may have ended already.
    let _ = signal(Signal::TERM);
    if timeout(TERMINATION_TIMEOUT, child.wait()).await.is_err() {
        let _ = signal(Signal::KILL);
        let _ = child.wait().await;
    }
}

/// Copies lines to stderr, each with the label of its step.
async fn copy_lines(output: Option<impl AsyncRead + Unpin>, label: String, progress: Arc<Progress>) {
    let Some(output) = output else { return };
    let label = escape_line(&label);
    for_each_line(output, |line| progress.output_line(&format!("{label} | {line}"))).await;
}

/// Passes each line to a function. A line of more than [`MAX_LINE_BYTES`] is passed in parts, so that memory is bounded.
async fn for_each_line(output: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        let room = MAX_LINE_BYTES - line.len() as u64;
        let length = (&mut output).take(room).read_until(b'\n', &mut line).await.unwrap_or_default();
        if line.is_empty() {
            return;
        }
        // A character may continue in the next part.
        let cut = if length == 0 || line.ends_with(b"\n") { line.len() } else { complete_characters(&line) };
        if cut == 0 {
            continue;
        }
        let text = String::from_utf8_lossy(&line[..cut]);
        take(text.trim_end_matches(['\n', '\r']));
        line.drain(..cut);
    }
}

/// Returns the length of a part of a text without the incomplete character at its end.
fn complete_characters(part: &[u8]) -> usize {
    let end = part.len();
    // A character has at most four bytes.
    let mut starts = (1..=4.min(end)).map(|length| end - length);
    let is_incomplete = |start: &usize| {
        std::str::from_utf8(&part[*start..])
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    starts.find(is_incomplete).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    async fn run_step(command: &str, interrupted: bool) -> (CommandOutcome, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let step: StepBody = read(
            br#"{"wave":2,"service":"web","target":"eu","action":"redeploy","from":{"version":"v2"},
                "to":{"version":"v1","commit":"3f2a"}}"#,
        )
        .expect("a step");
        let step_env = StepEnv { rollback_id: "r-1", environment: "production", step: &step };
        let (finished_file, token) = (folder.path().join("finished"), CancellationToken::new());
        if interrupted {
            token.cancel();
        }
        let progress = Arc::new(Progress::hidden());
        let outcome = run(command, &step_env, &finished_file, &progress, &token).await.expect("run");
        (outcome, finished_file.exists())
    }

    #[tokio::test]
    async fn a_command_receives_the_step_in_its_environment_and_on_its_stdin() {
        let command = r#"
            [ "$RELEASE_LEDGER_WAVE $RELEASE_LEDGER_SERVICE $RELEASE_LEDGER_TARGET" = "2 web eu" ] &&
            [ "$RELEASE_LEDGER_FROM_VERSION$RELEASE_LEDGER_TO_VERSION$RELEASE_LEDGER_SLOT" = v2v1 ] &&
            [ "$RELEASE_LEDGER_TO_COMMIT" = 3f2a ] && grep -q '"rollback_id":"r-1".*"commit":"3f2a"'"#;
        assert_eq!(run_step(command, false).await, (CommandOutcome::Succeeded, true));
    }

    #[tokio::test]
    async fn only_status_0_is_a_success_and_the_shell_marks_it() {
        assert_eq!(run_step("exit 0; false", false).await, (CommandOutcome::Succeeded, true));
        let (outcome, is_marked) = run_step("exit 3", false).await;
        let failure = "the command ended with exit status: 3".to_owned();
        assert_eq!((outcome, is_marked), (CommandOutcome::Failed(failure), false));
        let (outcome, is_marked) = run_step("if", false).await;
        assert!(matches!(outcome, CommandOutcome::Failed(_)) && !is_marked);
        // A shell that was replaced by `exec` creates no file; the executor does.
        assert_eq!(run_step("exec true", false).await, (CommandOutcome::Succeeded, false));
    }

    async fn lines(output: impl AsyncRead + Unpin) -> Vec<String> {
        let mut lines = Vec::new();
        for_each_line(output, |line| lines.push(line.to_owned())).await;
        lines
    }

    #[tokio::test]
    async fn an_endless_line_is_passed_in_parts_that_split_no_character() {
        let limit = usize::try_from(MAX_LINE_BYTES).expect("a small number");
        assert_eq!(lines(&b"a\r\n\nb\xff\nlast"[..]).await, ["a", "", "b\u{fffd}", "last"]);
        for text in ["x".repeat(10 * limit), "é".repeat(5 * limit), format!("x{}", "😀".repeat(2 * limit))]
        {
            let parts = lines(text.as_bytes()).await;
            assert!(parts.len() > 4 && parts.iter().all(|part| part.len() <= limit));
            assert_eq!(parts.concat(), text);
        }
        // An incomplete character at the end does not hold the end up.
        assert_eq!(lines(&b"a\xf0\x9f"[..]).await.concat(), "a\u{fffd}");
        let endless = tokio::io::repeat(b'x').take(64 << 20);
        let mut longest = 0;
        for_each_line(endless, |line| longest = longest.max(line.len())).await;
        assert_eq!(longest, limit);
    }

    #[tokio::test]
    async fn an_interrupted_command_is_terminated_with_its_children() {
        assert_eq!(run_step("true; sleep 60; true", true).await, (CommandOutcome::Interrupted, false));
    }
}
