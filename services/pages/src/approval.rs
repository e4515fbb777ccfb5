//! Page of a release that waits for an approval: the gate's findings, and the form that approves or rejects it.

use askama::Template;
use ledger_api_types::{FindingBody, GateBody};

use crate::frame::{Frame, Layout, Section};
use crate::parts::{Badge, EntryLink, Release};
use crate::paths::{DEFAULT_TENANT, Paths};
use crate::render_error::RenderError;
use crate::shell::CommandLine;
use crate::shown::{prose, shown, shown_lines};

const NO_AUTHENTICATION: &str = "The service runs without authentication, so a page cannot say who approves. \
                         Approve with the command line:";
const IS_WORKLOAD: &str = "You are signed in as a workload: only people approve and reject. \
                           A person can use this page, or the command line:";

/// Release that a reader asks about. An empty text stands for none.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReleaseQuestion<'a> {
    /// Environment name.
    pub environment: &'a str,
    /// Service name.
    pub service: &'a str,
    /// Version.
    pub version: &'a str,
    /// Artifact; optional.
    pub artifact: &'a str,
    /// True for the first deploy of the service.
    pub is_new: bool,
}

#[derive(Template)]
#[template(path = "approval.html")]
struct Page<'a> {
    layout: Layout,
    question_action: String,
    /// Submitted as given: the template only escapes its members for HTML.
    question: ReleaseQuestion<'a>,
    answer: Option<Answer>,
    action: String,
    /// Artifact that the form names: the given one, or the one that the gate knows and the page shows. A version alone
    /// may mean another artifact by the time the form is sent.
    artifact: &'a str,
    /// Id of the event that the form records.
    event_id: Option<&'a str>,
    /// Reason why the page has no form.
    no_form_reason: &'static str,
    command: String,
}

/// Answer of the gate.
struct Answer {
    environment: String,
    environment_href: String,
    service: String,
    version: String,
    is_allowed: bool,
    verdict: Badge,
    release: Option<Release>,
    known_from: Option<EntryLink>,
    policy: Option<EntryLink>,
    findings: Vec<Finding>,
}

struct Finding {
    rule: String,
    target: Option<String>,
    verdict: Badge,
    detail: String,
    counts: Option<String>,
    entry: Option<EntryLink>,
    grants: Vec<EntryLink>,
}

/// Renders the gate's answer about a release, if there is one, with the form that asks about a release. With the id
/// of the event to record, the page has the form that approves or rejects the release.
///
/// # Errors
/// The template is defective.
pub fn approval(
    frame: &Frame<'_>,
    question: &ReleaseQuestion<'_>,
    gate: Option<&GateBody>,
    event_id: Option<&str>,
) -> Result<String, RenderError> {
    let paths = Paths::new(frame.tenant);
    let layout = Layout::new(frame, "Approve a release", Section::Approvals);
    let artifact = decided_artifact(question, gate);
    let page = Page {
        layout: match gate {
            Some(gate) => layout.at(gate.position),
            None => layout,
        },
        question_action: paths.new_approval(),
        question: *question,
        answer: gate.map(|gate| answer(&paths, question, gate)),
        action: paths.approvals(),
        artifact,
        event_id,
        no_form_reason: no_form_reason(frame),
        command: shown(command(frame, &ReleaseQuestion { artifact, ..*question }).as_str()),
    };
    Ok(page.render()?)
}

/// Returns the artifact that is decided about: the given one, or the one that the gate knows; empty if there is none.
fn decided_artifact<'a>(question: &ReleaseQuestion<'a>, gate: Option<&'a GateBody>) -> &'a str {
    if !question.artifact.is_empty() {
        return question.artifact;
    }
    gate.and_then(|gate| gate.release.as_ref()?.artifact.as_deref()).unwrap_or_default()
}

fn no_form_reason(frame: &Frame<'_>) -> &'static str {
    match frame.reader {
        None => NO_AUTHENTICATION,
        Some(_) => IS_WORKLOAD,
    }
}

/// Returns the command that approves the release.
fn command(frame: &Frame<'_>, question: &ReleaseQuestion<'_>) -> CommandLine {
    let ReleaseQuestion { environment, service, version, artifact, .. } = *question;
    let command = CommandLine::new("approve").argument(environment).argument(service).argument(version);
    let command = command.flag("--artifact", (!artifact.is_empty()).then_some(artifact));
    command.of_tenant(frame.tenant.unwrap_or(DEFAULT_TENANT))
}

fn answer(paths: &Paths, question: &ReleaseQuestion<'_>, gate: &GateBody) -> Answer {
    Answer {
        environment: shown(&gate.environment),
        environment_href: paths.environment(&gate.environment),
        service: shown(question.service),
        version: shown(question.version),
        is_allowed: gate.allowed,
        verdict: Badge::of(if gate.allowed { "allowed" } else { "denied" }),
        release: gate.release.as_ref().map(Release::new),
        known_from: gate.artifact_known_from.map(|position| EntryLink::new(paths, position)),
        policy: gate.policy.map(|position| EntryLink::new(paths, position)),
        findings: gate.findings.iter().map(|body| finding(paths, body)).collect(),
    }
}

fn finding(paths: &Paths, finding: &FindingBody) -> Finding {
    let verdict = match (finding.passes, finding.unknown) {
        (true, _) => "passes",
        (false, true) => "unknown",
        (false, false) => "denied",
    };
    Finding {
        rule: prose(&finding.rule),
        target: finding.target.as_deref().map(shown),
        verdict: Badge::of(verdict),
        detail: shown_lines(&finding.detail),
        counts: finding.counts.map(|counts| counts.to_string()),
        entry: finding.position.map(|position| EntryLink::new(paths, position)),
        grants: finding.grants.iter().map(|position| EntryLink::new(paths, *position)).collect(),
    }
}
