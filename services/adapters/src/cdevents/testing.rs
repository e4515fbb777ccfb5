//! Runs of test suites and test cases: checks of what they examined.
//!
//! A run examined the environment that it names, or the service in it that `customData` names. A run without a name for
//! its test, and a test case that is a part of a suite's run, are no checks: the verdict is that of the suite.

use ledger_domain::{LaneRef, ShortText};

use super::custom_data::AT as CUSTOM_DATA;
use super::json::member;
use super::message::Message;
use super::native::{Data, Native};
use super::place::{ENVIRONMENT_AT, lane_data, stated_environment, stated_service, target};
use super::release::release;
use super::settings::Settings;
use crate::translation::NotUnderstood;

/// Translates the start of a run. Returns `None` if it is no check.
pub(super) fn started(message: &Message, settings: &Settings) -> Result<Option<Native>, NotUnderstood> {
    validation("validation.started", message, settings)
}

/// Translates the end of a run. Returns `None` if it is no check, or if its outcome is neither success nor failure: a
/// run that was cancelled or broke has no result.
pub(super) fn finished(message: &Message, settings: &Settings) -> Result<Option<Native>, NotUnderstood> {
    match message.text(&["outcome"]) {
        Some("success" | "pass") => validation("validation.passed", message, settings),
        Some("failure" | "fail") => validation("validation.failed", message, settings),
        _ => Ok(None),
    }
}

fn validation(
    kind: &'static str,
    message: &Message,
    settings: &Settings,
) -> Result<Option<Native>, NotUnderstood> {
    let (Some(check), Some(environment)) = (check(message)?, message.text(&["environment", "id"])) else {
        return Ok(None);
    };
    let custom = &message.custom;
    let environment = stated_environment(&settings.names, environment, ENVIRONMENT_AT)?;
    let (subject, data) = match custom.scope("service")? {
        None => (environment.to_string(), Data::default().put("environment", environment.as_str())),
        Some(service) => {
            let service = stated_service(&settings.names, &service, &member(CUSTOM_DATA, "service"))?;
            let lane = LaneRef { environment, service, target: target(&settings.names, custom)? };
            let version = custom.scope("version")?;
            let release =
                version.map(|_| release(None, &member(CUSTOM_DATA, "version"), custom)).transpose()?;
            let deployment = custom.line("deploymentId")?;
            let data = lane_data(&lane)
                .optional("release", release)
                .optional("deployment", deployment.as_ref().map(ShortText::as_str));
            (lane.to_string(), data)
        }
    };
    let run = ShortText::parse(&message.subject_id)
        .map_err(|error| NotUnderstood::new("/subject/id", error.to_string()))?;
    let reason = custom.text("reason").ok().flatten();
    let test = if message.name.starts_with("testsuite") { "testSuite" } else { "testCase" };
    let address = message.text(&[test, "uri"]).or_else(|| message.text(&[test, "url"]));
    let data = data
        .put("check", check.as_str())
        .put("run", run.as_str())
        .actor(custom.actor())
        .reason(reason.as_deref().or_else(|| message.text(&["reason"])))
        .links(&[("test", address), ("trigger", message.text(&["trigger", "uri"]))], message);
    Ok(Some(Native { kind, subject: Some(subject), data }))
}

/// Returns the name of the check: the name of the test, or its id.
fn check(message: &Message) -> Result<Option<ShortText>, NotUnderstood> {
    let test = if message.name.starts_with("testsuite") { "testSuite" } else { "testCase" };
    let is_part = test == "testCase" && message.content.contains_key("testSuiteRun");
    let (at, name) = match (message.text(&[test, "name"]), message.text(&[test, "id"])) {
        _ if is_part => return Ok(None),
        (Some(name), _) => ("name", name),
        (None, Some(id)) => ("id", id),
        (None, None) => return Ok(None),
    };
    let parsed = ShortText::parse_identifier(name);
    parsed
        .map(Some)
        .map_err(|error| NotUnderstood::new(format!("/subject/content/{test}/{at}"), error.to_string()))
}
