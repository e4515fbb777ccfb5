//! Overview of a tenant: environments × services, open rollbacks, freezes.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use chrono::{DateTime, Utc};
use ledger_api_types::{
    ActiveFreezeBody, EnvironmentOverviewBody, LaneOverviewBody, ObservedLaneBody, OpenDeployBody,
    OverviewBody, RollbackBody, RollbacksBody,
};

use crate::frame::{Frame, Layout, Section};
use crate::parts::{Age, Badge, EntryLink, Moment};
use crate::paths::Paths;
use crate::render_error::RenderError;
use crate::shown::shown;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    layout: Layout,
    is_restricted: bool,
    /// Path of the next page.
    next: Option<String>,
    columns: Vec<Column>,
    rows: Vec<Row>,
    freezes: Vec<Freeze>,
    rollbacks: Vec<OpenRollback>,
    /// Path of the list of rollbacks, if there are more open ones.
    more_rollbacks: Option<String>,
}

struct Column {
    name: String,
    href: String,
    status: Option<Badge>,
    frozen: Option<Badge>,
}

struct Row {
    service: String,
    cells: Vec<Cell>,
}

/// Lanes of a service in an environment.
struct Cell {
    lanes: Vec<Lane>,
}

struct Lane {
    /// Shown if the service has several targets in the environment.
    target: Option<String>,
    version: String,
    badges: Vec<Badge>,
    age: Option<Age>,
    entry: EntryLink,
}

struct Freeze {
    environment: String,
    href: String,
    name: String,
    until: Option<Moment>,
    entry: EntryLink,
}

struct OpenRollback {
    id: String,
    href: String,
    environment: String,
    phase: Badge,
    done: usize,
    total: usize,
    granted: usize,
    wanted: u32,
    requested: Age,
}

/// Renders the overview of a tenant: what each environment runs, freezes in force, and rollbacks that have not ended. With
/// `next`, the rollbacks are not all. `now` is the time that ages are relative to.
///
/// # Errors
/// The template is defective.
pub fn overview(
    frame: &Frame<'_>,
    overview: &OverviewBody,
    rollbacks: &RollbacksBody,
    now: DateTime<Utc>,
) -> Result<String, RenderError> {
    let paths = Paths::new(frame.tenant);
    let environments = &overview.environments;
    let open = rollbacks.rollbacks.iter().filter(|rollback| rollback.phase.is_active());
    let page = Page {
        layout: Layout::new(frame, "Overview", Section::Overview).at(overview.position),
        is_restricted: overview.restricted,
        next: overview.next.as_deref().map(|after| paths.overview_after(frame.query, after)),
        columns: environments.iter().map(|environment| column(&paths, environment)).collect(),
        rows: rows(&paths, environments, now),
        freezes: environments.iter().flat_map(|environment| freezes(&paths, environment)).collect(),
        rollbacks: open.map(|rollback| open_rollback(&paths, rollback, now)).collect(),
        more_rollbacks: rollbacks.next.map(|_| paths.rollbacks()),
    };
    Ok(page.render()?)
}

fn column(paths: &Paths, environment: &EnvironmentOverviewBody) -> Column {
    Column {
        name: shown(&environment.name),
        href: paths.environment(&environment.name),
        status: environment.status.as_deref().map(Badge::of),
        frozen: (!environment.freezes.is_empty()).then(|| Badge::of("frozen")),
    }
}

fn rows(paths: &Paths, environments: &[EnvironmentOverviewBody], now: DateTime<Utc>) -> Vec<Row> {
    let environments: Vec<BTreeMap<&str, OfService<'_>>> = environments.iter().map(by_service).collect();
    let services: BTreeSet<&str> =
        environments.iter().flat_map(|services| services.keys().copied()).collect();
    let row = |service: &str| Row {
        service: shown(service),
        cells: environments.iter().map(|services| cell(paths, services.get(service), now)).collect(),
    };
    services.into_iter().map(row).collect()
}

/// Lanes of a service in an environment.
#[derive(Default)]
struct OfService<'a> {
    running: Vec<&'a LaneOverviewBody>,
    deploying: Vec<&'a OpenDeployBody>,
    observed: Vec<&'a ObservedLaneBody>,
}

/// Returns the lanes of an environment by service: there may be thousands of both.
fn by_service(environment: &EnvironmentOverviewBody) -> BTreeMap<&str, OfService<'_>> {
    let mut services: BTreeMap<&str, OfService<'_>> = BTreeMap::new();
    for lane in &environment.lanes {
        services.entry(lane.service.as_str()).or_default().running.push(lane);
    }
    for deploy in &environment.deploying {
        services.entry(deploy.service.as_str()).or_default().deploying.push(deploy);
    }
    for lane in &environment.observed {
        services.entry(lane.service.as_str()).or_default().observed.push(lane);
    }
    services
}

fn cell(paths: &Paths, lanes: Option<&OfService<'_>>, now: DateTime<Utc>) -> Cell {
    let Some(OfService { running, deploying, observed }) = lanes else {
        return Cell { lanes: Vec::new() };
    };
    let targets: BTreeSet<&str> = running
        .iter()
        .map(|lane| lane.target.as_str())
        .chain(deploying.iter().map(|deploy| deploy.target.as_str()))
        .chain(observed.iter().map(|lane| lane.target.as_str()))
        .collect();
    let names_targets = targets.len() > 1;
    let mut lanes: Vec<Lane> = running.iter().map(|lane| running_lane(paths, lane, now)).collect();
    lanes.extend(deploying.iter().map(|deploy| deploying_lane(paths, deploy)));
    lanes.extend(observed.iter().map(|lane| observed_lane(paths, lane, now)));
    if !names_targets {
        for lane in &mut lanes {
            lane.target = None;
        }
    }
    Cell { lanes }
}

fn running_lane(paths: &Paths, lane: &LaneOverviewBody, now: DateTime<Utc>) -> Lane {
    let badges = [lane.drift.then(|| Badge::of("drift")), lane.revoked.then(|| Badge::of("revoked"))];
    Lane {
        target: Some(shown(&lane.target)),
        version: shown(&lane.release.version),
        badges: badges.into_iter().flatten().collect(),
        age: Some(Moment::age(lane.since.occurred_at, now)),
        entry: EntryLink::new(paths, lane.since.position),
    }
}

fn deploying_lane(paths: &Paths, deploy: &OpenDeployBody) -> Lane {
    Lane {
        target: Some(shown(&deploy.target)),
        version: shown(&deploy.version),
        badges: vec![Badge::of("deploying")],
        age: None,
        entry: EntryLink::new(paths, deploy.position),
    }
}

fn observed_lane(paths: &Paths, lane: &ObservedLaneBody, now: DateTime<Utc>) -> Lane {
    Lane {
        target: Some(shown(&lane.target)),
        version: shown(&lane.release.version),
        badges: vec![Badge::of("observed only")],
        age: Some(Moment::age(lane.since.occurred_at, now)),
        entry: EntryLink::new(paths, lane.since.position),
    }
}

fn freezes(paths: &Paths, environment: &EnvironmentOverviewBody) -> Vec<Freeze> {
    let freeze = |freeze: &ActiveFreezeBody| Freeze {
        environment: shown(&environment.name),
        href: paths.environment(&environment.name),
        name: shown(&freeze.freeze_id),
        until: freeze.until.map(Moment::new),
        entry: EntryLink::new(paths, freeze.position),
    };
    environment.freezes.iter().map(freeze).collect()
}

fn open_rollback(paths: &Paths, rollback: &RollbackBody, now: DateTime<Utc>) -> OpenRollback {
    OpenRollback {
        id: shown(&rollback.rollback_id),
        href: paths.rollback(&rollback.rollback_id),
        environment: shown(&rollback.environment),
        phase: Badge::of(rollback.phase.name()),
        done: rollback.progress.done,
        total: rollback.progress.total,
        granted: rollback.approvals.granted,
        wanted: rollback.approvals.wanted,
        requested: Moment::age(rollback.requested.recorded_at, now),
    }
}
