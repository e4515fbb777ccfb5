//! Page of an environment: what runs there, or ran at a point.

use askama::Template;
use chrono::{DateTime, Utc};
use ledger_api_types::{HiddenReportBody, LaneBody, StateBody, SwitchBody};

use crate::frame::{Frame, Layout, Section};
use crate::parts::{Age, Digest, EntryLink, Moment, Release};
use crate::paths::Paths;
use crate::render_error::RenderError;
use crate::shown::shown;

/// The point that a state has by default: the latest one.
const LATEST: &str = "latest";

#[derive(Template)]
#[template(path = "environment.html")]
struct Page {
    layout: Layout,
    name: String,
    action: String,
    at: String,
    /// Point of the ledger up to which entries count, if it is not the latest.
    known_at: Option<String>,
    is_latest: bool,
    digest: Digest,
    lanes: Vec<Lane>,
    idle: Vec<Lane>,
    switches: Vec<Switch>,
    hidden: Vec<Hidden>,
}

struct Lane {
    service: String,
    target: String,
    slot: String,
    release: Release,
    since: Moment,
    age: Age,
    entry: EntryLink,
}

struct Switch {
    service: String,
    target: String,
    slot: String,
    since: Option<Moment>,
    entry: Option<EntryLink>,
}

struct Hidden {
    service: String,
    target: String,
    entry: EntryLink,
}

/// Renders what an environment runs, or ran at the requested point, as known at `known_at` if it is given. `now` is the time
/// that ages are relative to.
///
/// # Errors
/// The template is defective.
pub fn environment(
    frame: &Frame<'_>,
    state: &StateBody,
    known_at: Option<&str>,
    now: DateTime<Utc>,
) -> Result<String, RenderError> {
    let known_at = known_at.filter(|known_at| *known_at != LATEST);
    let paths = Paths::new(frame.tenant);
    let page = Page {
        layout: Layout::new(frame, &format!("Environment {}", state.environment), Section::Other)
            .at(state.position),
        name: shown(&state.environment),
        action: paths.environment(&state.environment),
        at: shown(&state.at),
        known_at: known_at.map(shown),
        is_latest: state.at == LATEST && known_at.is_none(),
        digest: Digest::new(&state.digest),
        lanes: lanes(&paths, &state.lanes, now),
        idle: lanes(&paths, &state.idle, now),
        switches: state.switches_without_effect.iter().map(|body| switch(&paths, body)).collect(),
        hidden: state.hidden_reports.iter().map(|body| hidden(&paths, body)).collect(),
    };
    Ok(page.render()?)
}

fn lanes(paths: &Paths, lanes: &[LaneBody], now: DateTime<Utc>) -> Vec<Lane> {
    lanes.iter().map(|body| lane(paths, body, now)).collect()
}

fn lane(paths: &Paths, lane: &LaneBody, now: DateTime<Utc>) -> Lane {
    Lane {
        service: shown(&lane.service),
        target: shown(&lane.target),
        slot: lane.slot.as_deref().map_or_else(|| "–".to_owned(), shown),
        release: Release::new(&lane.release),
        since: Moment::new(lane.since.occurred_at),
        age: Moment::age(lane.since.occurred_at, now),
        entry: EntryLink::new(paths, lane.since.position),
    }
}

fn switch(paths: &Paths, switch: &SwitchBody) -> Switch {
    let since = switch.since.as_ref();
    Switch {
        service: shown(&switch.service),
        target: shown(&switch.target),
        slot: shown(&switch.slot),
        since: since.map(|since| Moment::new(since.occurred_at)),
        entry: since.map(|since| EntryLink::new(paths, since.position)),
    }
}

fn hidden(paths: &Paths, report: &HiddenReportBody) -> Hidden {
    Hidden {
        service: shown(&report.service),
        target: shown(&report.target),
        entry: EntryLink::new(paths, report.position),
    }
}
