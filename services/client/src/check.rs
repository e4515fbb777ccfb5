//! `release-ledger check`: reports checks, and runs them.

mod junit;
mod results;
mod sarif;
mod tap;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use chrono::SecondsFormat;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::event::Counts;
use ledger_domain::{EnvironmentName, Kind, LongText, ServiceName, ShortText, TargetName};
use serde_json::{Value, json};

use self::results::{ResultFiles, Stamps};
use super::ci::{CiContext, CiFlags};
use super::compose::{Places, compose_event};
use super::details::{DetailFlags, EventSubject, OriginFlags};
use super::known::never_ran;
use super::output::print_notice;
use super::release::ReleaseFlags;
use super::session::ReportArgs;
use super::wrapped::{CommandResult, Work, WrapArgs};
use crate::{clock, identity};

/// The arguments of the members that these commands set.
const PLACES: &Places = &[("/data/check", "NAME"), ("/data/run", "--run"), ("/data/evidence", "--evidence")];

/// Report a check of a release, an environment or an artifact
///
/// A check is about a service (--environment, --service and the release that was checked), about a whole environment
/// (--environment only), or about an artifact (--artifact only). In a CI, its variables provide --actor,
/// --link pipeline=…, --source and --correlation.
///
/// The files of --junit, --tap and --sarif give the numbers of passed, failed and skipped cases. A check that passed
/// although a case failed, or none passed, does not count as passed. A finding of SARIF is a failed case if its level is
/// error, else a skipped one; a run of a tool without failed ones is a passed case.
#[derive(Debug, clap::Subcommand)]
pub enum Check {
    /// Report that a check started
    #[command(
        disable_version_flag = true,
        after_help = "Example:
  release-ledger check started e2e --environment staging --service web --version v2 --run e2e-17"
    )]
    Started(Box<ReportCheck>),
    /// Report that a check passed
    #[command(
        disable_version_flag = true,
        after_help = "Examples:
  release-ledger check passed smoke --environment production --service web --version v2
  release-ledger check passed e2e --environment staging --junit target/junit.xml"
    )]
    Passed(Box<ReportCheck>),
    /// Report that a check failed
    #[command(
        disable_version_flag = true,
        after_help = "Example:
  release-ledger check failed canary --environment production --service web --version v2 --reason 'Slow.'"
    )]
    Failed(Box<ReportCheck>),
    /// Run a check, and report its start and its end
    ///
    /// Reports validation.started, runs the command, and reports validation.passed if it exits with 0, otherwise
    /// validation.failed. Exits and forwards signals as `release-ledger run` does, and reports to the spool if the
    /// ledger is down.
    ///
    /// If the command succeeds, and a file of --junit, --tap or --sarif is missing, malformed, or not written by the
    /// command, or its cases say otherwise (one failed, or none passed), the check counts neither as passed nor as
    /// failed: it is reported with zero cases or those of the files. An error names the reason, and the exit status is
    /// 125.
    #[command(
        disable_version_flag = true,
        after_help = "Examples:
  release-ledger check run smoke --environment staging --service web --version v2 -- ./smoke.sh
  release-ledger check run unit --environment dev --junit junit.xml -- pytest --junit-xml junit.xml

Exit status:
  that of the command; 128 plus the signal number if a signal ended it
  126  the command cannot be run
  127  there is no such command
  125  this program failed: invalid arguments, a result file, cases that contradict the command, or --strict"
    )]
    Run(Box<RunCheck>),
}

/// The check, and its subject.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The check's name, such as smoke, e2e or canary
    #[arg(value_name = "NAME", value_parser = ShortText::parse_identifier)]
    name: ShortText,
    /// The environment
    #[arg(long, value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// The service [default: the whole environment]
    #[arg(long, value_name = "NAME", requires = "environment")]
    service: Option<ServiceName>,
    /// The release's version [default: what ran there when the check ended]
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// The target within the environment
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    #[command(flatten)]
    release: ReleaseFlags,
    /// The deployment that was checked
    #[arg(long, value_name = "RUN")]
    deployment: Option<String>,
    /// The name of this run of the check, which its start and its end share
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// The location of evidence, such as a report; may be given several times
    #[arg(long, value_name = "URI")]
    evidence: Vec<String>,
    #[command(flatten)]
    origin: OriginFlags,
    #[command(flatten)]
    results: ResultFiles,
    #[command(flatten)]
    ci: CiFlags,
}

/// The commands `check started`, `check passed` and `check failed`.
#[derive(Debug, clap::Args)]
pub struct ReportCheck {
    #[command(flatten)]
    check: CheckArgs,
    /// The time at which it happened, in RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// The event's id, unique within its source; sent again with the same id, an event is recorded once
    /// [default: a new id]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    sending: ReportArgs,
}

/// The command `check run`.
#[derive(Debug, clap::Args)]
pub struct RunCheck {
    #[command(flatten)]
    check: CheckArgs,
    #[command(flatten)]
    wrap: WrapArgs,
}

impl Check {
    /// Returns true for a command that passes the exit status of another one through.
    #[must_use]
    pub const fn is_run(&self) -> bool {
        matches!(self, Self::Run(_))
    }

    /// Runs the command and returns the exit status.
    ///
    /// # Errors
    /// An event is invalid, rejected, or neither recorded nor spooled; or a result file cannot be used.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Started(report) => report.run(Kind::ValidationStarted).await?,
            Self::Passed(report) => report.run(Kind::ValidationPassed).await?,
            Self::Failed(report) => report.run(Kind::ValidationFailed).await?,
            Self::Run(run) => return run.run().await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ReportCheck {
    async fn run(self, kind: Kind) -> anyhow::Result<()> {
        let check = self.check;
        let ci = if self.id.is_some() { check.ci.constant_context()? } else { check.ci.context()? };
        let (counts, faults) = check.results.counts(None);
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        let reported = check.report(ci);
        let event = reported.event(kind, (self.id.as_deref(), self.time.as_deref()), counts, None)?;
        let client = self.sending.connection().clone().client()?;
        self.sending.send(&event).await?;
        let ReportedCheck { environment, service, version, .. } = &reported;
        if kind != Kind::ValidationStarted
            && let (Some(environment), Some(service)) = (environment, service)
            && let Some(note) = never_ran(&client, environment, service, version.as_deref()).await
        {
            print_notice(&note);
        }
        Ok(())
    }
}

impl RunCheck {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let mut check = self.check;
        let ci = check.ci.context()?;
        let results = std::mem::take(&mut check.results);
        let stamps = results.stamps();
        let mut reported = check.report(ci);
        // The start and the end of this run belong together.
        reported.run.get_or_insert_with(identity::new_id);
        let mut running = RunningCheck { reported, results, stamps, faults: Vec::new() };
        let code = self.wrap.run(&mut running).await?;
        match running.faults.split_last() {
            None => {}
            Some((last, others)) if code == 0 => {
                others.iter().for_each(|fault| print_notice(fault));
                bail!("{last}; the check does not count as passed");
            }
            Some(_) => running.faults.iter().for_each(|fault| print_notice(fault)),
        }
        Ok(ExitCode::from(code))
    }
}

impl CheckArgs {
    /// Returns the check to report, with the metadata of the CI.
    fn report(self, ci: CiContext) -> ReportedCheck {
        let Self { name, environment, service, version, target, mut release, deployment, run, .. } = self;
        // Without an environment, the artifact is the subject, and not a part of a release.
        let artifact = if environment.is_none() { release.take_artifact() } else { None };
        let details =
            DetailFlags { target, release, deployment, origin: self.origin, ..DetailFlags::default() };
        ReportedCheck {
            name,
            environment,
            service,
            version,
            artifact,
            run,
            evidence: self.evidence,
            details: details.or(&ci, Kind::ValidationPassed),
        }
    }
}

/// The check to report.
struct ReportedCheck {
    name: ShortText,
    environment: Option<EnvironmentName>,
    service: Option<ServiceName>,
    version: Option<String>,
    /// The artifact, if it is the subject.
    artifact: Option<String>,
    run: Option<String>,
    evidence: Vec<String>,
    details: DetailFlags,
}

impl ReportedCheck {
    fn event(
        &self,
        kind: Kind,
        (id, time): (Option<&str>, Option<&str>),
        counts: Option<Counts>,
        failure: Option<&str>,
    ) -> anyhow::Result<Envelope> {
        let subject = EventSubject {
            environment: self.environment.as_ref(),
            service: self.service.as_ref(),
            version: self.version.as_deref(),
        };
        let mut data = self.details.members(kind.family(), subject);
        data.insert("check".to_owned(), self.name.as_str().into());
        if let Some(failure) = failure.filter(|_| !self.details.has_reason()) {
            data.insert("reason".to_owned(), failure.into());
        }
        let counts = counts.map(
            |Counts { passed, failed, skipped }| json!({"passed": passed, "failed": failed, "skipped": skipped}),
        );
        let evidence: Vec<_> = self.evidence.iter().map(|uri| json!({ "uri": uri })).collect();
        let others = [
            ("artifact", self.artifact.clone().map(Value::String)),
            ("run", self.run.clone().map(Value::String)),
            ("evidence", (!evidence.is_empty()).then_some(Value::Array(evidence))),
            ("counts", counts),
        ];
        data.extend(others.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        compose_event(kind, self.details.origin.attributes(id, time), data, PLACES)
    }
}

/// A check whose command runs.
struct RunningCheck {
    reported: ReportedCheck,
    results: ResultFiles,
    /// The state of the result files before the command ran.
    stamps: Stamps,
    /// The reasons why result files could not be used, or contradict the command.
    faults: Vec<String>,
}

impl Work for RunningCheck {
    const NOUN: &'static str = "check";

    fn started(&self) -> anyhow::Result<Envelope> {
        let now = clock::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        self.reported.event(Kind::ValidationStarted, (None, Some(&now)), None, None)
    }

    fn ended(&mut self, result: &CommandResult, duration: Option<Duration>) -> anyhow::Result<Envelope> {
        let kind = if result.code == 0 { Kind::ValidationPassed } else { Kind::ValidationFailed };
        // Take the time before the files are read, which may take long.
        let now = clock::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut counts = None;
        if duration.is_some() {
            (counts, self.faults) = self.results.counts(Some(&self.stamps));
        }
        let mut failure = result.failure.clone();
        if kind == Kind::ValidationPassed {
            if !self.faults.is_empty() {
                // Without its results, the check is neither good nor bad: the ledger does not count a pass of no cases.
                counts = Some(Counts::default());
                failure = Some(self.faults.join("; "));
            } else if let Some(fault) = counts.and_then(contradiction) {
                self.faults.push(fault);
            }
        }
        let failure = failure.as_deref().filter(|text| LongText::parse(text).is_ok());
        self.reported.event(kind, (None, Some(&now)), counts, failure)
    }

    fn scope(&self) -> (Option<&EnvironmentName>, Option<&ServiceName>) {
        (self.reported.environment.as_ref(), self.reported.service.as_ref())
    }
}

/// Returns the reason why the cases of a command that succeeded contradict a pass.
fn contradiction(counts: Counts) -> Option<String> {
    let Counts { passed, failed, skipped } = counts;
    counts.contradict_a_pass().then(|| {
        format!(
            "the command succeeded, but {passed} cases passed, {failed} failed and {skipped} were skipped"
        )
    })
}

#[cfg(test)]
mod tests;
