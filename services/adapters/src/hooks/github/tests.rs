//! Translations of deliveries of GitHub.

use serde_json::{Value, json};

use crate::hooks::fixture::{events, fault, full_events, identities, ignored, with};

const SHA: &str = "5732a5872809a214337dc162d8b21f900429daae";

fn config() -> Value {
    json!({"kind": "github"})
}

fn headers(event: &'static str) -> [(&'static str, &'static str); 1] {
    [("X-GitHub-Event", event)]
}

fn repository() -> Value {
    json!({
        "full_name": "acme/search-api", "name": "search-api", "html_url": "https://github.com/acme/search-api",
        "default_branch": "main", "description": null
    })
}

fn deployment_status(state: &str) -> Value {
    json!({
        "action": "created",
        "deployment_status": {
            "id": 71, "state": state, "environment": "production", "description": "", "target_url": "",
            "log_url": "https://github.com/acme/search-api/actions/runs/9/job/10",
            "created_at": "2026-08-01T12:00:00Z", "updated_at": "2026-08-01T12:00:00Z"
        },
        "deployment": {
            "id": 41, "sha": SHA, "ref": "v1.2.3", "task": "deploy", "payload": {}, "environment": "production",
            "original_environment": "production", "description": null, "created_at": "2026-08-01T11:59:00Z",
            "creator": {"login": "mira", "type": "User"}, "transient_environment": false
        },
        "workflow_run": {"id": 9, "html_url": "https://github.com/acme/search-api/actions/runs/9"},
        "repository": repository(), "sender": {"login": "mira", "type": "User"}
    })
}

fn kinds(config: &Value, event: &'static str, body: &Value) -> Vec<String> {
    let events = events(config, &headers(event), body);
    events.iter().map(|event| event[0].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn a_successful_deployment_is_a_deploy_of_its_commit() {
    let expected = json!({
        "environment": "production", "service": "search-api", "deployment": "deployment/41",
        "release": {"version": "v1.2.3", "commit": SHA},
        "actor": {"type": "person", "name": "mira"},
        "links": [{"rel": "pipeline", "href": "https://github.com/acme/search-api/actions/runs/9/job/10"}]
    });
    let [event] = &full_events(&config(), &headers("deployment_status"), &deployment_status("success"))[..]
    else {
        panic!("not one event")
    };
    assert_eq!(event["type"], "io.releaseledger.deploy.succeeded.v1");
    assert_eq!(event["source"], "https://github.com/acme/search-api");
    assert_eq!(event["id"], "deployment_status/71");
    assert_eq!(event["time"], "2026-08-01T12:00:00Z");
    assert_eq!(event["correlationid"], "https://github.com/acme/search-api/actions/runs/9");
    assert_eq!(event["data"], expected);
}

#[test]
fn each_state_of_a_deployment_has_its_meaning() {
    for (state, kind) in [
        ("in_progress", "deploy.started"),
        ("success", "deploy.succeeded"),
        ("failure", "deploy.failed"),
        ("error", "deploy.failed"),
    ] {
        assert_eq!(kinds(&config(), "deployment_status", &deployment_status(state)), [kind], "{state}");
    }
    for state in ["queued", "pending", "waiting", "inactive"] {
        let reason = ignored(&config(), &headers("deployment_status"), &deployment_status(state));
        assert!(reason.contains(state), "{reason}");
    }
    let fault = fault(&config(), &headers("deployment_status"), &deployment_status("done"));
    assert!(fault.starts_with("/deployment_status/state: \"done\""), "{fault}");
}

#[test]
fn a_branch_is_never_the_version() {
    let body = with(deployment_status("success"), &[("/deployment/ref", json!("main"))]);
    let events = events(&config(), &headers("deployment_status"), &body);
    assert_eq!(events[0][2]["release"], json!({"version": SHA, "commit": SHA}));
    let config = json!({"kind": "github", "version": "ref"});
    let events = crate::hooks::fixture::events(&config, &headers("deployment_status"), &body);
    assert_eq!(events[0][2]["release"]["version"], "main");
}

#[test]
fn the_payload_of_a_deployment_states_parts_of_the_release() {
    let artifact = format!("registry.example/search-api@sha256:{}", "1".repeat(64));
    let stated = json!({"version": "v9", "artifact": artifact, "service": "other", "more": [1]});
    for payload in [stated.clone(), json!(stated.to_string())] {
        let body = with(deployment_status("success"), &[("/deployment/payload", payload)]);
        let data = events(&config(), &headers("deployment_status"), &body)[0][2].clone();
        assert_eq!(data["release"], json!({"version": "v9", "artifact": artifact, "commit": SHA}));
        assert_eq!(data["service"], "search-api");
        let config = json!({"kind": "github", "payload": ["service"]});
        let data = events(&config, &headers("deployment_status"), &body)[0][2].clone();
        assert_eq!(data["release"], json!({"version": "v1.2.3", "commit": SHA}));
        assert_eq!(data["service"], "other");
    }
    for payload in [json!(""), json!("text"), json!([1]), json!(7), Value::Null] {
        let body = with(deployment_status("success"), &[("/deployment/payload", payload)]);
        assert_eq!(kinds(&config(), "deployment_status", &body), ["deploy.succeeded"]);
    }
}

#[test]
fn an_artifact_by_tag_is_not_understood() {
    let payload = json!({"artifact": "registry.example/search-api:v1"});
    let body = with(deployment_status("success"), &[("/deployment/payload", payload)]);
    let fault = fault(&config(), &headers("deployment_status"), &body);
    assert!(fault.starts_with("/deployment/payload/artifact: "), "{fault}");
}

#[test]
fn a_transient_or_ignored_environment_is_not_recorded() {
    let transient = with(deployment_status("success"), &[("/deployment/transient_environment", json!(true))]);
    assert!(ignored(&config(), &headers("deployment_status"), &transient).contains("transient"));
    let config_with = json!({"kind": "github", "transient_environments": true});
    assert_eq!(kinds(&config_with, "deployment_status", &transient), ["deploy.succeeded"]);
    let review = with(deployment_status("success"), &[("/deployment_status/environment", json!("review/7"))]);
    assert!(ignored(&config(), &headers("deployment_status"), &review).contains("ignored_environments"));
}

#[test]
fn foreign_names_are_mapped() {
    let body = with(deployment_status("success"), &[("/deployment_status/environment", json!("Prod (EU)"))]);
    let fault = fault(&config(), &headers("deployment_status"), &body);
    assert!(fault.contains("map it in names.environments"), "{fault}");
    let config = json!({"kind": "github", "names": {
        "environments": {"Prod (EU)": "production"}, "services": {"acme/search-api": "search"}, "default_target": "eu"
    }});
    let data = events(&config, &headers("deployment_status"), &body)[0][2].clone();
    assert_eq!([&data["environment"], &data["service"], &data["target"]], ["production", "search", "eu"]);
}

#[test]
fn another_task_than_deploy_has_no_effect() {
    let body = with(deployment_status("success"), &[("/deployment/task", json!("deploy:migrations"))]);
    assert_eq!(kinds(&config(), "deployment_status", &body), ["activity.reported"]);
    let config = json!({"kind": "github", "tasks": ["deploy*"]});
    assert_eq!(kinds(&config, "deployment_status", &body), ["deploy.succeeded"]);
}

#[test]
fn a_member_that_is_needed_and_wrong_is_a_fault_at_its_place() {
    for (pointer, value) in [
        ("/deployment/sha", json!(7)),
        ("/deployment/sha", json!("5732a58")),
        ("/deployment/ref", json!("v1.2.3\u{202e}")),
        ("/deployment/id", json!(1.5)),
        ("/deployment_status/created_at", json!("yesterday")),
        ("/deployment_status/created_at", json!("2027-01-01T00:00:00Z")),
        ("/deployment_status/environment", json!(["production"])),
        ("/repository/html_url", Value::Null),
    ] {
        let body = with(deployment_status("success"), &[(pointer, value.clone())]);
        if pointer == "/deployment/ref" {
            // Invisible characters: the form of a tag, and no version.
            assert!(fault(&config(), &headers("deployment_status"), &body).starts_with(pointer));
            continue;
        }
        let fault = fault(&config(), &headers("deployment_status"), &body);
        assert!(fault.starts_with(pointer), "{pointer} {value}: {fault}");
    }
}

#[test]
fn decoration_of_any_form_is_tolerated() {
    let body = with(
        deployment_status("success"),
        &[
            ("/deployment_status/log_url", json!(7)),
            ("/deployment_status/description", json!({"a": 1})),
            ("/deployment/creator", Value::Null),
            ("/workflow_run", Value::Null),
            ("/sender", json!("x")),
        ],
    );
    let data = events(&config(), &headers("deployment_status"), &body)[0][2].clone();
    assert_eq!(data.as_object().map(serde_json::Map::len), Some(4), "{data}");
}

#[test]
fn a_redelivery_has_the_same_identity_and_another_state_has_another() {
    let of = |state, id: i64| {
        let body = with(deployment_status(state), &[("/deployment_status/id", json!(id))]);
        identities(&config(), &headers("deployment_status"), &body)
    };
    assert_eq!(of("success", 71), of("success", 71));
    assert_ne!(of("success", 71), of("success", 72));
}

#[test]
fn a_deployment_that_was_created_is_an_activity() {
    let mut body = deployment_status("success");
    body.as_object_mut().expect("an object").remove("deployment_status");
    let events = events(&config(), &headers("deployment"), &body);
    assert_eq!(events[0][0], "activity.reported");
    assert_eq!(events[0][2]["activity"], "deployment.created");
    assert_eq!([&events[0][2]["environment"], &events[0][2]["service"]], ["production", "search-api"]);
}

fn workflow_run(conclusion: &str, trigger: &str) -> Value {
    json!({
        "action": "completed",
        "workflow": {"name": "Smoke production"},
        "workflow_run": {
            "id": 9, "name": "Smoke production", "run_number": 4, "run_attempt": 1, "event": trigger,
            "conclusion": conclusion, "status": "completed", "head_branch": "main", "head_sha": SHA,
            "head_repository": {"full_name": "acme/search-api"}, "pull_requests": [],
            "run_started_at": "2026-08-01T12:01:00Z", "updated_at": "2026-08-01T12:05:00Z",
            "html_url": "https://github.com/acme/search-api/actions/runs/9",
            "triggering_actor": {"login": "github-actions[bot]", "type": "Bot"}
        },
        "repository": repository()
    })
}

fn with_check(more: &Value) -> Value {
    let mut check = json!({
        "event": "workflow_run", "name": "Smoke *", "check": "smoke", "environment": "production"
    });
    check.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!({"kind": "github", "checks": [check]})
}

#[test]
fn a_run_that_the_settings_do_not_name_is_an_activity() {
    let events = events(&config(), &headers("workflow_run"), &workflow_run("failure", "deployment_status"));
    let expected = json!(["activity.reported", "2026-08-01T12:05:00Z", {
        "activity": "pipelinerun.finished", "subject": "acme/search-api: Smoke production #4", "commit": SHA,
        "outcome": "failure", "actor": {"type": "workload", "name": "github-actions[bot]"},
        "links": [{"rel": "pipeline", "href": "https://github.com/acme/search-api/actions/runs/9"}]
    }]);
    assert_eq!(events, [expected]);
}

#[test]
fn a_run_that_is_a_check_has_a_start_and_an_end() {
    let config = with_check(&json!({"target": "eu"}));
    let events = events(&config, &headers("workflow_run"), &workflow_run("failure", "schedule"));
    let [started, failed] = &events[..] else { panic!("not two events: {events:?}") };
    assert_eq!([&started[0], &started[1]], ["validation.started", "2026-08-01T12:01:00Z"]);
    assert_eq!([&failed[0], &failed[1]], ["validation.failed", "2026-08-01T12:05:00Z"]);
    for (name, value) in [
        ("environment", "production"),
        ("service", "search-api"),
        ("target", "eu"),
        ("check", "smoke"),
        ("run", "workflow_run/9/1"),
    ] {
        assert_eq!([&started[2][name], &failed[2][name]], [value, value]);
    }
}

#[test]
fn the_run_of_a_pull_request_never_fails_a_check() {
    let config = with_check(&json!({"triggers": ["pull_request", "push"], "branches": ["*"]}));
    for trigger in ["pull_request", "pull_request_target", "merge_group"] {
        let body = workflow_run("failure", trigger);
        assert_eq!(kinds(&config, "workflow_run", &body), ["activity.reported"], "{trigger}");
    }
    let fork = ("/workflow_run/head_repository", json!({"full_name": "stranger/search-api"}));
    let body = with(workflow_run("failure", "push"), &[fork]);
    assert_eq!(kinds(&config, "workflow_run", &body), ["activity.reported"]);
    assert_eq!(kinds(&config, "workflow_run", &workflow_run("failure", "push"))[1], "validation.failed");
}

#[test]
fn a_run_of_a_push_or_of_another_branch_counts_only_by_setting() {
    let push = workflow_run("failure", "push");
    assert_eq!(kinds(&with_check(&json!({})), "workflow_run", &push), ["activity.reported"]);
    let named = with_check(&json!({"triggers": ["push"], "of_commit": true}));
    let events = events(&named, &headers("workflow_run"), &push);
    assert_eq!(events[1][2]["release"], json!({"version": SHA, "commit": SHA}));
    let other = with(workflow_run("failure", "schedule"), &[("/workflow_run/head_branch", json!("topic"))]);
    assert_eq!(kinds(&with_check(&json!({})), "workflow_run", &other), ["activity.reported"]);
    assert_eq!(kinds(&with_check(&json!({"branches": ["top*"]})), "workflow_run", &other).len(), 2);
}

#[test]
fn a_check_of_a_repository_without_a_valid_name_is_not_understood() {
    let body = with(workflow_run("failure", "schedule"), &[("/repository/name", json!("a b"))]);
    let fault = fault(&with_check(&json!({})), &headers("workflow_run"), &body);
    assert!(fault.starts_with("/repository/name: ") && fault.contains("map it in names.services"), "{fault}");
}

#[test]
fn a_run_performs_the_first_check_that_it_counts_for() {
    let check = |environment: &str, branch: &str| json!({"event": "workflow_run", "name": "Smoke *", "check": "smoke", "environment": environment, "branches": [branch]});
    let config =
        json!({"kind": "github", "checks": [check("staging", "develop"), check("production", "main")]});
    let events = events(&config, &headers("workflow_run"), &workflow_run("failure", "schedule"));
    assert_eq!([&events[1][0], &events[1][2]["environment"]], ["validation.failed", "production"]);
}

#[test]
fn a_run_after_a_deploy_or_after_another_run_counts_only_by_setting() {
    for trigger in ["deployment_status", "deployment", "workflow_run"] {
        let body = workflow_run("failure", trigger);
        assert_eq!(kinds(&with_check(&json!({})), "workflow_run", &body), ["activity.reported"], "{trigger}");
        assert_eq!(kinds(&with_check(&json!({"triggers": [trigger]})), "workflow_run", &body).len(), 2);
    }
    let detached = with(workflow_run("failure", "schedule"), &[("/workflow_run/head_branch", Value::Null)]);
    assert_eq!(kinds(&with_check(&json!({})), "workflow_run", &detached), ["activity.reported"]);
}

#[test]
fn only_success_passes_and_only_failure_fails() {
    let config = with_check(&json!({}));
    for conclusion in
        ["cancelled", "skipped", "neutral", "stale", "timed_out", "startup_failure", "action_required"]
    {
        let body = workflow_run(conclusion, "schedule");
        assert_eq!(kinds(&config, "workflow_run", &body), ["activity.reported"], "{conclusion}");
    }
    assert_eq!(kinds(&config, "workflow_run", &workflow_run("success", "schedule"))[1], "validation.passed");
}

#[test]
fn a_new_attempt_of_a_run_has_another_identity() {
    let of = |attempt: i64| {
        let body =
            with(workflow_run("failure", "schedule"), &[("/workflow_run/run_attempt", json!(attempt))]);
        identities(&with_check(&json!({})), &headers("workflow_run"), &body)
    };
    assert_eq!(of(1), of(1));
    assert!(of(1).iter().all(|identity| !of(2).contains(identity)));
}

#[test]
fn a_run_that_is_not_completed_is_ignored() {
    for event in ["workflow_run", "check_run", "check_suite"] {
        for action in ["requested", "in_progress", "created", "rerequested"] {
            let body = with(workflow_run("success", "push"), &[("/action", json!(action))]);
            assert!(ignored(&config(), &headers(event), &body).contains(action));
        }
    }
}

fn check_run() -> Value {
    json!({
        "action": "completed",
        "check_run": {
            "id": 3, "name": "smoke", "conclusion": "failure", "head_sha": SHA, "pull_requests": [],
            "started_at": "2026-08-01T12:01:00Z", "completed_at": "2026-08-01T12:05:00Z", "external_id": "",
            "check_suite": {"id": 2, "head_branch": "main", "pull_requests": []},
            "app": {"slug": "github-actions", "name": "GitHub Actions"}
        },
        "repository": repository()
    })
}

#[test]
fn a_check_run_counts_only_for_named_branches_and_no_pull_request() {
    let check = |branches: Value| {
        json!({"kind": "github", "checks": [
            {"event": "check_run", "name": "smoke", "check": "smoke", "environment": "production", "branches": branches}
        ]})
    };
    assert_eq!(kinds(&config(), "check_run", &check_run()), ["activity.reported"]);
    assert_eq!(kinds(&check(json!(["main"])), "check_run", &check_run())[1], "validation.failed");
    for change in [
        ("/check_run/pull_requests", json!([{"number": 7}])),
        ("/check_run/check_suite/pull_requests", json!([{"number": 7}])),
        ("/check_run/check_suite/head_branch", Value::Null),
        ("/check_run/check_suite", Value::Null),
    ] {
        let body = with(check_run(), &[change]);
        assert_eq!(kinds(&check(json!(["*"])), "check_run", &body), ["activity.reported"]);
    }
}

#[test]
fn a_check_suite_is_an_activity() {
    let body = json!({
        "action": "completed",
        "check_suite": {
            "id": 2, "conclusion": "success", "head_branch": "main", "head_sha": SHA, "pull_requests": [],
            "app": {"name": "linter", "slug": "linter"},
            "created_at": "2026-08-01T12:01:00Z", "updated_at": "2026-08-01T12:05:00Z"
        },
        "repository": repository()
    });
    let events = events(&config(), &headers("check_suite"), &body);
    assert_eq!(events[0][2]["activity"], "checksuite.finished");
    assert_eq!(events[0][2]["subject"], "acme/search-api: linter");
}

fn review(action: &str) -> Value {
    json!({
        "action": action, "comment": "Go.", "since": "2026-08-01T12:00:00Z",
        "approver": {"login": "jonas", "type": "User"},
        "workflow_job_runs": [
            {"id": 1, "environment": "production", "updated_at": "2026-08-01T12:02:00Z"},
            {"id": 2, "environment": "staging", "updated_at": "2026-08-01T12:01:00Z"}
        ],
        "workflow_run": {
            "id": 9, "run_attempt": 2, "head_branch": "main", "head_sha": SHA, "event": "push",
            "html_url": "https://github.com/acme/search-api/actions/runs/9", "updated_at": "2026-08-01T12:01:00Z"
        },
        "repository": repository()
    })
}

#[test]
fn a_review_has_no_effect() {
    let unknown = with(review("approved"), &[("/workflow_job_runs", json!([]))]);
    for body in [review("approved"), review("rejected"), review("requested"), unknown] {
        assert_eq!(kinds(&config(), "deployment_review", &body), ["activity.reported"]);
    }
}

#[test]
fn a_published_release_is_an_activity() {
    let body = json!({
        "action": "published",
        "release": {
            "id": 5, "tag_name": "v1.2.3", "name": null, "body": "", "published_at": "2026-08-01T12:00:00Z",
            "html_url": "https://github.com/acme/search-api/releases/tag/v1.2.3", "author": {"login": "mira", "type": "User"}
        },
        "repository": repository()
    });
    let events = events(&config(), &headers("release"), &body);
    assert_eq!(events[0][2]["activity"], "release.published");
    assert_eq!(events[0][2]["subject"], "acme/search-api v1.2.3");
    for action in ["created", "released", "edited", "deleted"] {
        let body = with(body.clone(), &[("/action", json!(action))]);
        assert!(ignored(&config(), &headers("release"), &body).contains(action));
    }
}

#[test]
fn other_events_are_ignored_by_name() {
    assert!(ignored(&config(), &headers("ping"), &json!({"zen": "x"})).starts_with("ping"));
    assert!(ignored(&config(), &headers("push"), &json!({})).contains("push"));
    assert!(fault(&config(), &[], &json!({})).contains("X-GitHub-Event"));
}

#[test]
fn an_environment_is_ignored_by_its_name_at_github_and_by_that_of_the_ledger() {
    for pattern in ["production", "live", "review/*"] {
        let config = json!({
            "kind": "github", "names": {"environments": {"production": "live"}}, "ignored_environments": [pattern]
        });
        let body = deployment_status("success");
        if pattern == "review/*" {
            assert_eq!(kinds(&config, "deployment_status", &body), ["deploy.succeeded"]);
        } else {
            assert!(ignored(&config, &headers("deployment_status"), &body).contains(pattern));
        }
        // A review of several environments is about the others, too.
        assert_eq!(kinds(&config, "deployment_review", &review("approved")), ["activity.reported"]);
    }
    let config = json!({"kind": "github", "ignored_environments": ["production", "staging"]});
    assert!(ignored(&config, &headers("deployment_review"), &review("approved")).contains("production"));
}

fn pull_request(merged: bool) -> Value {
    let at = "2026-08-01T12:00:00Z";
    json!({
        "action": "closed", "number": 7,
        "pull_request": {
            "id": 301, "number": 7, "state": "closed", "title": "Cache the index", "merged": merged,
            "html_url": "https://github.com/acme/search-api/pull/7", "closed_at": at,
            "merged_at": if merged { json!(at) } else { Value::Null },
            "merge_commit_sha": SHA, "base": {"ref": "main"}, "user": {"login": "jonas", "type": "User"},
            "merged_by": if merged { json!({"login": "mira", "type": "User"}) } else { Value::Null }
        },
        "repository": repository(), "sender": {"login": "mira", "type": "User"}
    })
}

#[test]
fn a_merged_pull_request_is_an_activity_with_its_merge_commit() {
    let expected = json!(["activity.reported", "2026-08-01T12:00:00Z", {
        "activity": "change.merged", "subject": "acme/search-api#7: Cache the index", "commit": SHA,
        "actor": {"type": "person", "name": "mira"},
        "links": [{"rel": "change", "href": "https://github.com/acme/search-api/pull/7"}]
    }]);
    assert_eq!(events(&config(), &headers("pull_request"), &pull_request(true)), [expected]);
    let full = full_events(&config(), &headers("pull_request"), &pull_request(true));
    assert_eq!(full[0]["id"], "pull_request/301/merged");
}

#[test]
fn a_pull_request_that_was_not_merged_is_ignored() {
    assert!(ignored(&config(), &headers("pull_request"), &pull_request(false)).contains("not merged"));
    for action in ["opened", "synchronize", "reopened", "labeled"] {
        let body = with(pull_request(false), &[("/action", json!(action))]);
        assert!(ignored(&config(), &headers("pull_request"), &body).contains(action));
    }
    let body = with(pull_request(true), &[("/pull_request/merged_at", Value::Null)]);
    assert!(fault(&config(), &headers("pull_request"), &body).starts_with("/pull_request/merged_at: "));
}
