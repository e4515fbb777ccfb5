//! Page of a rollback: its target, plan, votes and progress, and the forms that decide about it.

use askama::Template;
use ledger_api_types::{ApprovalsBody, ConcurrentChangeBody, ReleaseBody, RollbackBody, StepStateBody};

use crate::frame::{Frame, Layout, Section};
use crate::parts::{Badge, Digest, EntryLink, Moment, Release, actor};
use crate::paths::{DEFAULT_TENANT, Paths};
use crate::render_error::RenderError;
use crate::shell::CommandLine;
use crate::shown::{shown, shown_lines};

const HAS_ENDED: &str = "The rollback has ended: there is nothing left to decide.";
const NO_AUTHENTICATION: &str = "The service runs without authentication, so a page cannot say who decides. \
                         Decide with the command line:";
const IS_WORKLOAD: &str = "You are signed in as a workload: only people vote. A person can use this page, or the \
                           command line:";

#[derive(Template)]
#[template(path = "rollback.html")]
struct Page<'a> {
    layout: Layout,
    id: String,
    environment: String,
    environment_href: String,
    phase: Badge,
    is_automatic: bool,
    is_forced: bool,
    by: String,
    reason: Option<String>,
    end_reason: Option<String>,
    target: Target,
    services: String,
    targets: String,
    policy: Option<EntryLink>,
    cause: Option<Cause>,
    plan: Digest,
    votes: Votes,
    requested: Moment,
    requested_entry: EntryLink,
    started: Option<EntryLink>,
    ended: Option<EntryLink>,
    done: usize,
    failed: usize,
    total: usize,
    steps: Vec<Step>,
    differences: Vec<String>,
    changes: Vec<Change>,
    forms: Forms<'a>,
}

/// Point to which the rollback leads.
struct Target {
    href: String,
    /// `production@12`.
    name: String,
    entry: EntryLink,
    at: Option<Moment>,
}

/// Failed check that caused the rollback.
struct Cause {
    entry: EntryLink,
    counts: Option<String>,
}

struct Votes {
    wanted: u32,
    granted: usize,
    is_rejected: bool,
    rows: Vec<Vote>,
}

struct Vote {
    by: String,
    vote: Badge,
    entry: EntryLink,
}

struct Step {
    wave: u32,
    service: String,
    target: String,
    action: String,
    slot: String,
    from: Option<Release>,
    to: Option<Release>,
    state: Badge,
    entry: Option<EntryLink>,
}

struct Change {
    kind: String,
    service: String,
    target: String,
    occurred: Option<Moment>,
    entry: EntryLink,
}

/// Forms that decide about the rollback, or the reason why the page has none.
struct Forms<'a> {
    action: String,
    /// Id of the event that a form records.
    event_id: Option<&'a str>,
    /// True if the reader requested the rollback: the approval of another person is needed.
    is_requester: bool,
    /// Reason why the page has no forms.
    no_form_reason: &'static str,
    /// Command that approves; `None` for a rollback that has ended.
    command: Option<String>,
}

/// Renders a rollback. With the id of the event to record, it has the forms that approve, reject and cancel a rollback that
/// has not ended.
///
/// # Errors
/// The template is defective.
pub fn rollback(
    frame: &Frame<'_>,
    rollback: &RollbackBody,
    event_id: Option<&str>,
) -> Result<String, RenderError> {
    let paths = Paths::new(frame.tenant);
    let entry = |position| EntryLink::new(&paths, position);
    let RollbackBody { progress, initiated_by, requested, .. } = rollback;
    let page = Page {
        layout: Layout::new(frame, &format!("Rollback {}", rollback.rollback_id), Section::Other)
            .at(rollback.position),
        id: shown(&rollback.rollback_id),
        environment: shown(&rollback.environment),
        environment_href: paths.environment(&rollback.environment),
        phase: Badge::of(rollback.phase.name()),
        is_automatic: rollback.automatic,
        is_forced: rollback.force,
        by: actor(&initiated_by.kind, &initiated_by.name),
        reason: rollback.reason.as_deref().map(shown_lines),
        end_reason: rollback.end_reason.as_deref().map(shown_lines),
        target: target(&paths, rollback),
        services: names(&rollback.services),
        targets: names(&rollback.targets),
        policy: rollback.policy.map(entry),
        cause: rollback.cause.map(|position| Cause {
            entry: entry(position),
            counts: rollback.cause_counts.map(|counts| counts.to_string()),
        }),
        plan: Digest::new(&rollback.plan_digest),
        votes: votes(&paths, &rollback.approvals),
        requested: Moment::new(requested.recorded_at),
        requested_entry: entry(requested.position),
        started: rollback.started.map(entry),
        ended: rollback.ended.map(entry),
        done: progress.done,
        failed: progress.failed,
        total: progress.total,
        steps: rollback.steps.iter().flatten().map(|body| step(&paths, body)).collect(),
        differences: rollback.differences.iter().flatten().map(|text| shown(text)).collect(),
        changes: rollback.others.iter().flatten().map(|body| change(&paths, body)).collect(),
        forms: forms(frame, &paths, rollback, event_id),
    };
    Ok(page.render()?)
}

fn target(paths: &Paths, rollback: &RollbackBody) -> Target {
    let environment = rollback.source.as_deref().unwrap_or(&rollback.environment);
    Target {
        href: paths.environment_at(environment, rollback.to),
        name: format!("{}@{}", shown(environment), rollback.to),
        entry: EntryLink::new(paths, rollback.to),
        at: rollback.at.map(Moment::new),
    }
}

fn names(names: &[String]) -> String {
    if names.is_empty() {
        return "all".to_owned();
    }
    let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
    names.join(", ")
}

fn votes(paths: &Paths, approvals: &ApprovalsBody) -> Votes {
    let rows = approvals.answers.iter().map(|vote| Vote {
        by: vote.actor.as_ref().map_or_else(|| "unknown".to_owned(), |by| actor(&by.kind, &by.name)),
        vote: Badge::of(if vote.granted { "approves" } else { "rejects" }),
        entry: EntryLink::new(paths, vote.position),
    });
    Votes {
        wanted: approvals.wanted,
        granted: approvals.granted,
        is_rejected: approvals.rejected,
        rows: rows.collect(),
    }
}

fn step(paths: &Paths, StepStateBody { step, state, position, .. }: &StepStateBody) -> Step {
    let release = |release: &Option<ReleaseBody>| release.as_ref().map(Release::new);
    Step {
        wave: step.wave,
        service: shown(&step.service),
        target: shown(&step.target),
        action: shown(&step.action),
        slot: step.slot.as_deref().map_or_else(|| "–".to_owned(), shown),
        from: release(&step.from),
        to: release(&step.to),
        state: Badge::of(state),
        entry: position.map(|position| EntryLink::new(paths, position)),
    }
}

fn change(paths: &Paths, change: &ConcurrentChangeBody) -> Change {
    let name = |name: &Option<String>| name.as_deref().map_or_else(|| "–".to_owned(), shown);
    Change {
        kind: shown(&change.kind),
        service: name(&change.service),
        target: name(&change.target),
        occurred: change.occurred_at.map(Moment::new),
        entry: EntryLink::new(paths, change.position),
    }
}

fn forms<'a>(
    frame: &Frame<'_>,
    paths: &Paths,
    rollback: &RollbackBody,
    event_id: Option<&'a str>,
) -> Forms<'a> {
    let is_active = rollback.phase.is_active();
    let no_form_reason = match (is_active, frame.reader) {
        (false, _) => HAS_ENDED,
        (true, None) => NO_AUTHENTICATION,
        (true, Some(_)) => IS_WORKLOAD,
    };
    let command = CommandLine::new("rollback approve").argument(&rollback.rollback_id);
    let command = command.of_tenant(frame.tenant.unwrap_or(DEFAULT_TENANT));
    Forms {
        action: paths.vote(&rollback.rollback_id),
        event_id: event_id.filter(|_| is_active),
        is_requester: frame.reader == Some(rollback.initiated_by.name.as_str()),
        no_form_reason,
        command: is_active.then(|| shown(command.as_str())),
    }
}
