//! Questions whose answers have much to say.

use std::time::{Duration, Instant};

use ledger_tests::{Client, event, rollback_request};
use reqwest::Method;
use serde_json::json;

use crate::attacks::Outcome;
use crate::history::{declare, deploy_many, time};
use crate::target::Target;

/// Number of checks that were in one policy before there was a bound.
const TOO_MANY_CHECKS: u64 = 8_000;
/// Number of checks that a policy may have.
const CHECKS: u64 = 64;
/// Number of services for which each check is missing.
const SERVICES: u64 = 100;
/// Maximum size of an answer about points, in KiB.
const MAX_POINTS_KIB: usize = 8 << 10;

/// A question: its path, and its body if it is posted.
type Question = (&'static str, Option<String>);

/// Summary of the responses to queries.
struct Answers {
    slowest: (&'static str, Duration),
    largest: (&'static str, usize),
    /// Number of answers that the service gave up.
    given_up: usize,
}

/// Sends questions one after another.
async fn ask(target: &Target, questions: Vec<Question>) -> Result<Answers, String> {
    let mut answers = Answers { slowest: ("", Duration::ZERO), largest: ("", 0), given_up: 0 };
    for (path, body) in questions {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut request = target.client.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let started = Instant::now();
        let response = Client::try_send(request).await.map_err(|error| format!("{path}: {error}"))?;
        let (time, size) = (started.elapsed(), response.text.len());
        match response.status {
            503 => answers.given_up += 1,
            500.. => return Err(format!("{path} was answered with {}: {}", response.status, response.text)),
            _ => {}
        }
        if time > answers.slowest.1 {
            answers.slowest = (path, time);
        }
        if size > answers.largest.1 {
            answers.largest = (path, size);
        }
    }
    Ok(answers)
}

impl Answers {
    fn largest_kib(&self) -> usize {
        self.largest.1 / 1_024
    }

    fn describe(&self) -> String {
        format!(
            "slowest {:.1?} ({}), largest {} KiB ({}), {} given up",
            self.slowest.1,
            self.slowest.0,
            self.largest_kib(),
            self.largest.0,
            self.given_up
        )
    }
}

/// A policy whose checks are missing for many services.
pub(crate) async fn a_policy_of_many_checks(target: &Target) -> Outcome {
    let client = &target.client;
    let policy = |checks: u64| {
        let names: Vec<String> = (0..checks).map(|number| format!("{number:x}")).collect();
        json!({"required_validations": names})
    };
    let data = json!({"environment": "production", "policy": policy(TOO_MANY_CHECKS)});
    let refused = client.record(&event("too-many", "environment.declared", &time(0), data)).await;
    if refused.status != 422 {
        return Err(format!("{TOO_MANY_CHECKS} checks were answered with {}", refused.status));
    }
    declare(client, "production", policy(CHECKS)).await;
    deploy_many(client, "production", SERVICES, SERVICES * 3).await;
    let questions = vec![
        ("/v1/environments/production/points?limit=1", None),
        ("/v1/environments/production/points?limit=100", None),
        ("/v1/environments/production/manifest?format=json&at=last-known-good", None),
        (
            "/v1/environments/production/rollbacks?dry_run=true",
            Some(rollback_request("-1", "r-1").to_string()),
        ),
    ];
    let answers = ask(target, questions).await?;
    let found = format!(
        "{CHECKS} checks of {SERVICES} services: {} (limit {MAX_POINTS_KIB} KiB); {TOO_MANY_CHECKS} are rejected",
        answers.describe()
    );
    if answers.largest_kib() > MAX_POINTS_KIB { Err(found) } else { Ok(found) }
}

/// All questions about an environment of many services.
pub(crate) async fn an_environment_of_many_services(target: &Target) -> Outcome {
    let (client, services) = (&target.client, target.scale.services);
    deploy_many(client, "large", services, services + 100).await;
    let dry_run = "/v1/environments/large/rollbacks?dry_run=true";
    let gate = json!({"service": "service-0", "release": {"version": "next"}}).to_string();
    let questions = vec![
        ("/v1/environments/large/state", None),
        ("/v1/environments/large/points?limit=20", None),
        ("/v1/environments/large/points?limit=100", None),
        ("/v1/environments/large/points?status=bad&limit=100", None),
        ("/v1/environments/large/manifest?format=json&at=latest", None),
        (dry_run, Some(rollback_request("-1", "r-1").to_string())),
        (dry_run, Some(rollback_request("last-known-good", "r-1").to_string())),
        ("/v1/environments/large/gate", Some(gate)),
    ];
    let answers = ask(target, questions).await?;
    Ok(format!("{services} services: {}", answers.describe()))
}
