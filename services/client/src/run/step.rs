//! The release of a rollback's step: a report completes the step only if it states the release of the plan.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ledger_api_types::{ReleaseBody, RollbackBody, StepBody};
use ledger_domain::{Artifact, EnvironmentName, ServiceName, ShortText, TargetName};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::details::DetailFlags;
use crate::fetch_rollback::find_rollback;
use crate::output::print_notice;
use crate::release::ReleaseFlags;

/// The deploy, as the flags describe it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane<'a> {
    pub(super) environment: &'a EnvironmentName,
    pub(super) service: &'a ServiceName,
    pub(super) version: &'a str,
}

/// Returns the flags with the parts of the release that the plan of their rollback states and they do not. If the ledger
/// does not answer in time, returns them unchanged: it fails no deploy.
///
/// # Errors
/// There is no such rollback, or its plan has no step, another release or several releases for these flags.
pub(super) async fn with_planned_release(
    mut details: DetailFlags,
    lane: Lane<'_>,
    connection: Connection,
    limit: Duration,
) -> anyhow::Result<DetailFlags> {
    let Some(id) = &details.rollback else { return Ok(details) };
    let id = ShortText::parse(id).context("--rollback")?;
    // Without a client, the reports are lost, which the command says.
    let Ok(client) = connection.client() else { return Ok(details) };
    let rollback = match timeout(limit, find_rollback(&client, &id)).await {
        Ok(Ok(Some(rollback))) => rollback,
        Ok(Ok(None)) => bail!("--rollback: there is no rollback {id}"),
        Ok(Err(error)) => {
            print_notice(&format!("{}: {error:#}", unplanned(&id)));
            return Ok(details);
        }
        Err(_) => {
            print_notice(&format!("{}: it does not answer in time", unplanned(&id)));
            return Ok(details);
        }
    };
    let planned = planned_release(&rollback, lane, details.target.as_ref(), &details.release)?;
    details.release = details.release.or_planned(planned);
    Ok(details)
}

fn unplanned(id: &ShortText) -> String {
    format!("cannot ask the ledger for the plan of rollback {id}, so the release is that of the flags")
}

/// Returns the release that the plan of the rollback deploys on the lane.
fn planned_release<'a>(
    rollback: &'a RollbackBody,
    lane: Lane<'_>,
    target: Option<&TargetName>,
    flags: &ReleaseFlags,
) -> anyhow::Result<&'a ReleaseBody> {
    let (id, environment, service) = (&rollback.rollback_id, lane.environment, lane.service);
    ensure!(
        rollback.environment == environment.as_str(),
        "--environment: rollback {id} is one of {}",
        rollback.environment
    );
    let is_on_lane = |step: &&StepBody| {
        step.service == service.as_str()
            && target.is_none_or(|target| step.target == target.as_str())
            && matches!(step.action.as_str(), "redeploy" | "add")
    };
    let steps = rollback.steps.iter().flatten().map(|state| &state.step).filter(is_on_lane);
    let releases: Vec<&ReleaseBody> = steps.filter_map(|step| step.to.as_ref()).collect();
    let Some(first) = releases.first() else {
        bail!("--rollback: no step of rollback {id} deploys {service} in {environment}");
    };
    let mut agreeing =
        releases.iter().filter(|release| contradiction(lane.version, flags, release).is_none());
    let Some(release) = agreeing.next() else {
        let (flag, planned) =
            contradiction(lane.version, flags, first).unwrap_or(("version", first.version.as_str()));
        bail!("--{flag}: the step of rollback {id} deploys {planned}");
    };
    ensure!(
        agreeing.all(|other| parts(other) == parts(release)),
        "--target is missing: rollback {id} deploys several releases of {service}"
    );
    Ok(*release)
}

/// Returns the parts of a release, each with the name of its flag.
fn parts(release: &ReleaseBody) -> [(&'static str, Option<&str>); 5] {
    [
        ("version", Some(release.version.as_str())),
        ("artifact", release.artifact.as_deref()),
        ("config", release.config.as_deref()),
        ("infrastructure", release.infrastructure.as_deref()),
        ("commit", release.commit.as_deref()),
    ]
}

/// Returns the first part of the planned release that the flags contradict: its flag, and its value.
fn contradiction<'a>(
    version: &str,
    flags: &ReleaseFlags,
    planned: &'a ReleaseBody,
) -> Option<(&'static str, &'a str)> {
    let given = flags.members(Some(version));
    parts(planned).into_iter().find_map(|(name, planned)| {
        let (given, planned) = (given.get(name)?.as_str()?, planned?);
        (given != planned && !(name == "artifact" && is_same(given, planned))).then_some((name, planned))
    })
}

fn is_same(one: &str, other: &str) -> bool {
    match (Artifact::stored(one), Artifact::stored(other)) {
        (Ok(one), Ok(other)) => one.is_same(&other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::query::read;

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        release: ReleaseFlags,
    }

    const DIGEST: &str = "sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc";

    fn rollback() -> RollbackBody {
        let artifact = format!("pkg:oci/web@{DIGEST}");
        let step = |target: &str, action: &str, service: &str, commit: &str| {
            json!({
                "wave": 1, "service": service, "target": target, "action": action, "state": "pending",
                "to": {"version": "v1", "artifact": artifact, "commit": commit},
            })
        };
        let body = json!({
            "rollback_id": "r-1", "environment": "dev", "position": 9, "phase": "started",
            "initiated_by": {"type": "person", "name": "ada"},
            "requested": {"position": 8, "recorded_at": "2026-08-01T12:00:00Z"},
            "to": 3, "plan_digest": "ab", "approvals": {"wanted": 0, "granted": 0},
            "progress": {"done": 0, "failed": 0, "total": 4},
            "steps": [
                step("eu", "redeploy", "web", "1111111"), step("us", "redeploy", "web", "2222222"),
                step("eu", "switch", "api", "1111111"), step("eu", "add", "shop", "3333333"),
            ],
        });
        read(body.to_string().as_bytes()).expect("a rollback")
    }

    /// Returns the commit of the planned release.
    fn planned(service: &str, version: &str, target: Option<&str>, flags: &[&str]) -> Result<String, String> {
        let environment = EnvironmentName::parse("dev").expect("a name");
        let service = ServiceName::parse(service).expect("a name");
        let target = target.map(|name| TargetName::parse(name).expect("a name"));
        let flags = Arguments::try_parse_from([&["run"], flags].concat()).expect("flags").release;
        let lane = Lane { environment: &environment, service: &service, version };
        let rollback = rollback();
        let release = planned_release(&rollback, lane, target.as_ref(), &flags);
        release.map(|release| release.commit.clone().unwrap_or_default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_plan_states_the_release_of_the_step() {
        assert_eq!(planned("web", "v1", Some("eu"), &[]), Ok("1111111".to_owned()));
        assert_eq!(planned("web", "v1", None, &["--commit", "2222222"]), Ok("2222222".to_owned()));
        assert_eq!(planned("shop", "v1", None, &["--artifact", DIGEST]), Ok("3333333".to_owned()));
    }

    #[test]
    fn flags_that_name_no_step_of_the_plan_are_errors() {
        for (service, version, flags, expected) in [
            ("web", "v1", &[][..], "--target is missing: rollback r-1 deploys several releases of web"),
            ("shop", "v2", &[][..], "--version: the step of rollback r-1 deploys v1"),
            (
                "shop",
                "v1",
                &["--commit", "4444444"][..],
                "--commit: the step of rollback r-1 deploys 3333333",
            ),
            ("api", "v1", &[][..], "--rollback: no step of rollback r-1 deploys api in dev"),
        ] {
            assert_eq!(planned(service, version, None, flags), Err(expected.to_owned()));
        }
    }
}
