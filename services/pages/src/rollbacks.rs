//! List of rollbacks.

use askama::Template;
use ledger_api_types::{RollbackBody, RollbacksBody};

use crate::frame::{Frame, Layout, Section};
use crate::parts::{Badge, EntryLink, Moment, actor};
use crate::paths::Paths;
use crate::render_error::RenderError;
use crate::shown::shown;

#[derive(Template)]
#[template(path = "rollbacks.html")]
struct Page<'a> {
    layout: Layout,
    action: String,
    /// Value of the filter as given: the template only escapes it for HTML.
    filter: &'a str,
    /// The filter as text, if one is set.
    environment: Option<String>,
    /// True if the list has only some rollbacks, by their phase or position.
    is_limited: bool,
    rows: Vec<Row>,
    /// Path of the next page.
    next: Option<String>,
}

struct Row {
    id: String,
    href: String,
    environment: String,
    environment_href: String,
    to: String,
    phase: Badge,
    is_automatic: bool,
    is_forced: bool,
    done: usize,
    failed: usize,
    total: usize,
    granted: usize,
    wanted: u32,
    by: String,
    requested: Moment,
    entry: EntryLink,
}

/// Renders a page of rollbacks, of one environment if it is given.
///
/// # Errors
/// The template is defective.
pub fn rollbacks(
    frame: &Frame<'_>,
    rollbacks: &RollbacksBody,
    environment: Option<&str>,
) -> Result<String, RenderError> {
    let paths = Paths::new(frame.tenant);
    let page = Page {
        layout: Layout::new(frame, "Rollbacks", Section::Rollbacks).at(rollbacks.position),
        action: paths.rollbacks(),
        filter: environment.unwrap_or_default(),
        environment: environment.map(shown),
        is_limited: is_limited(frame.query),
        rows: rollbacks.rollbacks.iter().map(|rollback| row(&paths, rollback)).collect(),
        next: rollbacks.next.map(|before| paths.rollbacks_before(frame.query, before)),
    };
    Ok(page.render()?)
}

/// Returns true if a query selects rollbacks by their phase or position.
fn is_limited(query: &str) -> bool {
    let is_limit = |pair: (&str, &str)| matches!(pair, ("phase" | "before", value) if !value.is_empty());
    query.split('&').filter_map(|pair| pair.split_once('=')).any(is_limit)
}

fn row(paths: &Paths, rollback: &RollbackBody) -> Row {
    let RollbackBody { progress, approvals, initiated_by, requested, .. } = rollback;
    Row {
        id: shown(&rollback.rollback_id),
        href: paths.rollback(&rollback.rollback_id),
        environment: shown(&rollback.environment),
        environment_href: paths.environment(&rollback.environment),
        to: target_point(rollback),
        phase: Badge::of(rollback.phase.name()),
        is_automatic: rollback.automatic,
        is_forced: rollback.force,
        done: progress.done,
        failed: progress.failed,
        total: progress.total,
        granted: approvals.granted,
        wanted: approvals.wanted,
        by: actor(&initiated_by.kind, &initiated_by.name),
        requested: Moment::new(requested.recorded_at),
        entry: EntryLink::new(paths, requested.position),
    }
}

/// Returns the target point: `production@12`.
fn target_point(rollback: &RollbackBody) -> String {
    let environment = rollback.source.as_deref().unwrap_or(&rollback.environment);
    format!("{}@{}", shown(environment), rollback.to)
}
