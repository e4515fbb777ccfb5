//! A step's command: what it is told, how it is run, and how it ends.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::answer::ReleaseBody;
use crate::plan::StepBody;
use crate::progress::Progress;

/// How long a command may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long its output is read after its end: something that it left in the background may keep it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The command's shell itself notes that it ends well, so that this is known even if we are killed before
/// it ends. A signal is no good end: some shells would take the status of the command before for it.
const PROLOGUE: &str = "trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM; \
    trap '[ $? -ne 0 ] || : >\"$RELEASE_LEDGER_FINISHED\"' EXIT\n";

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Well,
    /// With a status that is not 0, or by a signal.
    Failed(String),
    /// Because the execution was interrupted.
    Interrupted,
}

/// A step, as its command is told of it.
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

/// Runs a step's command to its end. `mark` is the file that its shell makes when it ends well.
pub(super) async fn run(
    command: &str,
    told: &StepEnv<'_>,
    mark: &Path,
    progress: &Arc<Progress>,
    interrupted: &CancellationToken,
) -> anyhow::Result<Ended> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("{PROLOGUE}{command}"))
        .envs(told.variables())
        .env("RELEASE_LEDGER_FINISHED", mark)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in the terminal reaches us and not the command, which we end in order.
        .process_group(0)
        .spawn()
        .context("sh cannot be run")?;
    let label = told.step.lane();
    let mut output = JoinSet::new();
    output.spawn(repeat(child.stdout.take(), label.clone(), Arc::clone(progress)));
    output.spawn(repeat(child.stderr.take(), label, Arc::clone(progress)));
    if let Some(mut stdin) = child.stdin.take() {
        let json = serde_json::to_vec(told)?;
        // Beside its run: it need not read it, nor at once.
        output.spawn(async move {
            let _ = stdin.write_all(&json).await;
            let _ = stdin.write_all(b"\n").await;
        });
    }
    let status = tokio::select! {
        status = child.wait() => status?,
        () = interrupted.cancelled() => {
            end(&mut child).await;
            return Ok(Ended::Interrupted);
        }
    };
    // What is left in the background keeps the output open, and is none of the step.
    let _ = timeout(LAST_WORDS, async { while output.join_next().await.is_some() {} }).await;
    Ok(ended(status))
}

fn ended(status: ExitStatus) -> Ended {
    if status.success() { Ended::Well } else { Ended::Failed(format!("the command ended with {status}")) }
}

/// Ends the command and what it runs: it is asked to, and killed if it does not.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    // What is gone already need not be ended.
    let _ = signal(Signal::TERM);
    if timeout(FAREWELL, child.wait()).await.is_err() {
        let _ = signal(Signal::KILL);
        let _ = child.wait().await;
    }
}

/// Repeats lines on stderr, each with the step that they are of.
async fn repeat(output: Option<impl AsyncRead + Unpin>, label: String, progress: Arc<Progress>) {
    let Some(output) = output else { return };
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        progress.line(&format!("{label} | {}", text.trim_end_matches(['\n', '\r'])));
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    async fn ran(command: &str, interrupted: bool) -> (Ended, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let step: StepBody = read(
            br#"{"wave":2,"service":"web","target":"eu","action":"redeploy","from":{"version":"v2"},
                "to":{"version":"v1","commit":"3f2a"}}"#,
        )
        .expect("a step");
        let told = StepEnv { rollback_id: "r-1", environment: "production", step: &step };
        let (mark, token) = (folder.path().join("mark"), CancellationToken::new());
        if interrupted {
            token.cancel();
        }
        let ended = run(command, &told, &mark, &Arc::new(Progress::hidden()), &token).await.expect("run");
        (ended, mark.exists())
    }

    #[tokio::test]
    async fn a_command_finds_the_step_in_its_environment_and_on_its_stdin() {
        let command = r#"[ "$RELEASE_LEDGER_WAVE $RELEASE_LEDGER_SERVICE $RELEASE_LEDGER_TARGET" = "2 web eu" ] &&
            [ "$RELEASE_LEDGER_FROM_VERSION$RELEASE_LEDGER_TO_VERSION$RELEASE_LEDGER_SLOT" = v2v1 ] &&
            [ "$RELEASE_LEDGER_TO_COMMIT" = 3f2a ] && grep -q '"rollback_id":"r-1".*"commit":"3f2a"'"#;
        assert_eq!(ran(command, false).await, (Ended::Well, true));
    }

    #[tokio::test]
    async fn only_a_status_of_0_is_a_good_end_and_its_shell_notes_it() {
        assert_eq!(ran("exit 0; false", false).await, (Ended::Well, true));
        let (ended, marked) = ran("exit 3", false).await;
        assert_eq!((ended, marked), (Ended::Failed("the command ended with exit status: 3".into()), false));
        let (ended, marked) = ran("if", false).await;
        assert!(matches!(ended, Ended::Failed(_)) && !marked);
        // A shell that has become another program notes nothing: whoever runs it does.
        assert_eq!(ran("exec true", false).await, (Ended::Well, false));
    }

    #[tokio::test]
    async fn an_interrupted_command_is_ended_with_what_it_runs() {
        assert_eq!(ran("true; sleep 60; true", true).await, (Ended::Interrupted, false));
    }
}
