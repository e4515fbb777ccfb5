//! Requests and queries that are long to answer.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use ledger_tests::{Client, event, rollback_events, rollback_request};
use serde_json::{Value, json};

use crate::attacks::Outcome;
use crate::history::{declare, deploy_many, time};
use crate::target::Target;

/// Number of searches whose times are measured.
const SEARCHES: usize = 50;
/// Maximum time in which 99 of 100 searches and a rollback request are answered.
const MAX_SEARCH: Duration = Duration::from_millis(200);
/// Maximum time until the controller has answered every failed check.
const MAX_ANSWERED: Duration = Duration::from_secs(10);

fn policy() -> Value {
    let automatic_rollback = json!({
        "checks": ["smoke"], "cool_down_seconds": 0, "at_most_a_day": 1_000, "at_most_age_seconds": 315_360_000_u64,
    });
    json!({"required_validations": ["smoke"], "automatic_rollback": automatic_rollback})
}

fn failed_check(environment: &str, service: &str, version: u64, number: u64) -> Value {
    let release = json!({"version": format!("v{version}")});
    let data = json!({"environment": environment, "service": service, "release": release, "check": "smoke"});
    event(&format!("{environment}-failed-{number}"), "validation.failed", &time(number), data)
}

/// Waits until the controller has declined `count` times; returns the time that it took.
async fn wait_for_declines(client: &Client, count: usize) -> Result<Duration, String> {
    let started = Instant::now();
    loop {
        let declined = rollback_events(client, "rollback.declined").await.len();
        if declined >= count {
            return Ok(started.elapsed());
        }
        if started.elapsed() > MAX_ANSWERED {
            return Err(format!("{declined} of {count} failed checks were answered in {MAX_ANSWERED:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A long history without a known-good point: queries, a rollback request and a failed canary search it.
pub(crate) async fn searches_without_a_result(target: &Target) -> Outcome {
    let (client, changes) = (&target.client, target.scale.changes);
    declare(client, "production", policy()).await;
    deploy_many(client, "production", 1, changes).await;
    let mut times = Vec::new();
    for _ in 0..SEARCHES {
        let started = Instant::now();
        let found = client.get("/v1/environments/production/points/last-known-good").await;
        times.push(started.elapsed());
        if found.problem() != "unknown-point" {
            return Err(format!("the search was answered with {}: {}", found.status, found.text));
        }
    }
    times.sort_unstable();
    let started = Instant::now();
    let body = rollback_request("last-known-good", "r-1").to_string();
    let path = "/v1/environments/production/rollbacks";
    let refused = client.post(path, "application/json", body).await;
    let requested = started.elapsed();
    if refused.problem() != "unknown-point" {
        return Err(format!("the request was answered with {}: {}", refused.status, refused.text));
    }
    client.record(&failed_check("production", "service-0", changes - 1, changes)).await.ok();
    let answered = wait_for_declines(client, 1).await?;
    let p99 = times[SEARCHES * 99 / 100];
    let figures = format!(
        "{changes} changes: search p99 {p99:.1?}, request {requested:.1?} (limit {MAX_SEARCH:?} each), check answered in \
         {answered:.1?} (limit {MAX_ANSWERED:?})"
    );
    let is_within_limits = p99 <= MAX_SEARCH && requested <= MAX_SEARCH;
    if target.scale.asserts_figures && !is_within_limits { Err(figures) } else { Ok(figures) }
}

/// Failed checks in many environments without a known-good point, and in one with such a point behind them.
pub(crate) async fn searches_in_many_environments(target: &Target) -> Outcome {
    let client = &target.client;
    let (environments, changes) = target.scale.environments;
    for number in 0..environments {
        let environment = format!("e{number}");
        declare(client, &environment, policy()).await;
        deploy_many(client, &environment, 2, changes).await;
    }
    let failed = |number: u64| {
        let service = format!("service-{}", (changes - 1) % 2);
        failed_check(&format!("e{number}"), &service, changes - 1, changes).to_string()
    };
    client.record_all(&(0..environments).map(failed).collect::<Vec<_>>()).await;
    let answered = wait_for_declines(client, environments as usize).await?;
    Ok(format!(
        "{environments} environments of {changes} changes: all checks answered in {answered:.1?} (limit {MAX_ANSWERED:?})"
    ))
}

/// Many rollback requests in one body, in an environment with many services.
pub(crate) async fn a_body_of_requests(target: &Target) -> Outcome {
    let client = &target.client;
    let (services, requests) = target.scale.requests;
    deploy_many(client, "large", services, services * 2).await;
    let request = |number: u64| {
        let rollback = json!({
            "environment": "large", "rollback_id": format!("r-{number}"), "to": services, "reason": "test",
            "plan": {"from": services * 2, "steps": []}, "plan_digest": format!("sha256:{}", "0".repeat(64)),
            "initiated_by": {"type": "person", "name": "mia"}, "automatic": false, "force": false,
        });
        event(&format!("request-{number}"), "rollback.requested", &time(number), rollback).to_string()
    };
    let lines: Vec<String> = (0..requests).map(request).collect();
    let started = Instant::now();
    let response = client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await;
    let recorded = response.lines().iter().filter(|result| result["status"] == "recorded").count();
    if recorded > 0 {
        return Err(format!("{recorded} invalid requests were recorded"));
    }
    Ok(format!("{requests} requests in an environment of {services} services: {:.1?}", started.elapsed()))
}

/// Many commands in one body, each of which is rejected.
pub(crate) async fn a_body_of_freezes(target: &Target) -> Outcome {
    let client = &target.client;
    let lifted = |number: u64| {
        let data = json!({"environment": "production", "freeze_id": format!("f-{number}"), "reason": "test"});
        event(&format!("lift-{number}"), "freeze.lifted", &time(number), data).to_string()
    };
    let lines: Vec<String> = (0..target.scale.freezes).map(lifted).collect();
    let started = Instant::now();
    let response = client.post("/v1/events", "application/x-ndjson", lines.join("\n")).await;
    let recorded = response.lines().iter().filter(|result| result["status"] == "recorded").count();
    if recorded > 0 {
        return Err(format!("{recorded} freezes that never started were lifted"));
    }
    Ok(format!("{} commands: {:.1?}", lines.len(), started.elapsed()))
}

/// Slow queries by many clients; meanwhile an old event is sent again and a freeze is started.
pub(crate) async fn readers_that_take_all_connections(target: &Target) -> Outcome {
    let client = &target.client;
    declare(client, "production", policy()).await;
    deploy_many(client, "production", 20, target.scale.changes.min(50_000)).await;
    let readers: FuturesUnordered<_> = (0..target.scale.readers)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..3 {
                    client.get("/v1/environments/production/points?status=bad&limit=100").await;
                }
            })
        })
        .collect();
    let old = json!({"environment": "production", "service": "service-0", "release": {"version": "v0"}});
    let old = event("production-0", "deploy.succeeded", &time(0), old);
    let repeated = client.record(&old).await;
    let freeze = json!({"environment": "production", "freeze_id": "f-1", "reason": "test"});
    let frozen = client.record(&event("freeze", "freeze.started", &time(1), freeze)).await;
    let ended = readers.count().await;
    if repeated.body["status"] != "duplicate" {
        return Err(format!("an old event sent again was answered with {}", repeated.text));
    }
    if frozen.status != 201 {
        return Err(format!("a freeze was answered with {}: {}", frozen.status, frozen.text));
    }
    Ok(format!("{ended} readers: an old event is a duplicate, a freeze is recorded"))
}

/// Many environments with drift.
pub(crate) async fn many_environments_in_the_metrics(target: &Target) -> Outcome {
    let (client, environments) = (&target.client, target.scale.observed);
    let observed = |number: u64| {
        let lane = json!({"service": "web", "release": {"version": "v1"}});
        let data = json!({"environment": format!("e{number}"), "lanes": [lane], "complete": true});
        event(&format!("seen-{number}"), "environment.observed", &time(number), data).to_string()
    };
    let lines: Vec<String> = (0..environments).map(observed).collect();
    for body in lines.chunks(20_000) {
        client.record_all(body).await;
    }
    client.wait_for_metric(r#"ledger_drift_environments{tenant="default"}"#, environments as f64).await;
    let metrics = client.text("/metrics").await;
    let listed = metrics.lines().filter(|line| line.starts_with("ledger_drift_lanes{")).count();
    let omitted =
        client.metric(r#"ledger_drift_environments_omitted{tenant="default"}"#).await.unwrap_or(-1.0);
    if listed as f64 + omitted < environments as f64 {
        return Err(format!("{listed} environments have metrics and {omitted} are omitted"));
    }
    Ok(format!(
        "{environments} environments: {listed} have metrics of their own, {omitted} are told as omitted"
    ))
}
