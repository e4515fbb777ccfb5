//! Forms of pages: each records one event with the sender as its actor, however often it is sent, or nothing.

use ledger_tests::{Client, Response, Story, at, event, rollback_events};
use serde_json::{Value, json};

use super::visitor::{Visitor, assert_shows_problem, form_event_id, hidden_field, unescaped};
use super::{APPROVALS, QUESTION, ROLLBACK, Stage, VOTE};

/// Fields of the form that approves the release of [`QUESTION`].
fn approval<'f>(event_id: &'f str, reason: &'f str) -> Vec<(&'f str, &'f str)> {
    vec![
        ("decision", "approve"),
        ("environment", "production"),
        ("service", "web"),
        ("version", "v3"),
        ("reason", reason),
        ("event_id", event_id),
    ]
}

fn vote<'f>(decision: &'f str, event_id: &'f str, reason: &'f str) -> [(&'f str, &'f str); 3] {
    [("decision", decision), ("reason", reason), ("event_id", event_id)]
}

/// Asserts that an answer redirects, and returns where to.
#[track_caller]
fn location(answer: &Response) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text);
    answer.header("location").to_owned()
}

async fn head(client: &Client) -> u64 {
    client.positions().await.1
}

/// Returns the problem with which the API refuses the same vote of the same sender.
async fn refusal(voter: &Visitor, kind: &str) -> Response {
    let data = json!({"environment": "production", "rollback_id": "back-1", "actor": {"type": "person", "name": "a"}});
    voter.api.record(&event(kind, kind, &at(10), data)).await
}

#[tokio::test]
async fn the_approval_of_a_release_is_recorded_with_the_sender_as_its_actor_and_shown() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    let event_id = form_event_id(&noa.page(QUESTION).await);

    let approved = noa.submit(APPROVALS, &approval(&event_id, "Looks & <feels>\r\nright.")).await;

    let entry = location(&approved);
    assert!(entry.starts_with("/t/default/events/"), "{entry}");
    let events = rollback_events(stage.admin(), "approval.granted").await;
    let [recorded] = &events[..] else { panic!("{events:?}") };
    assert_eq!(recorded["event"]["id"], event_id.as_str());
    assert_eq!(recorded["event"]["source"], "release-ledger-pages");
    let data = json!({
        "environment": "production", "service": "web", "release": {"version": "v3"},
        "reason": "Looks & <feels>\nright.", "actor": {"type": "person", "name": "noa"},
    });
    assert_eq!(recorded["event"]["data"], data);
    assert_eq!((&recorded["actor"]["name"], &recorded["principal"]["name"]), (&json!("noa"), &json!("noa")));
    let page = unescaped(&noa.page(&entry).await);
    assert!(page.contains("Looks & <feels>") && page.contains("noa"), "{page}");
    let gate = json!({"service": "web", "release": {"version": "v3"}});
    let gate = Story::on(&stage.mia.api).gate(gate).await;
    let findings = gate["findings"].as_array().expect("findings");
    let approvals = findings.iter().find(|finding| finding["rule"] == "approvals").expect("a finding");
    assert_eq!(approvals["passes"], true, "{gate}");
    assert_eq!(approvals["grants"], json!([recorded["position"]]), "{gate}");
}

#[tokio::test]
async fn a_form_that_is_sent_twice_at_once_and_again_later_is_recorded_once() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    let event_id = form_event_id(&noa.page(QUESTION).await);
    let fields = approval(&event_id, "Fine.");

    let (first, second) = tokio::join!(noa.submit(APPROVALS, &fields), noa.submit(APPROVALS, &fields));
    let later = noa.submit(APPROVALS, &fields).await;

    assert_eq!(location(&first), location(&second));
    assert_eq!(location(&first), location(&later));
    assert_eq!(rollback_events(stage.admin(), "approval.granted").await.len(), 1);
}

#[tokio::test]
async fn a_form_that_was_sent_with_another_decision_or_by_another_person_is_refused() {
    let stage = Stage::start().await;
    let (noa, ada) = (stage.person("noa").await, stage.person("ada").await);
    let event_id = form_event_id(&noa.page(QUESTION).await);
    location(&noa.submit(APPROVALS, &approval(&event_id, "Fine.")).await);
    let head_before = head(stage.admin()).await;

    let other_reason = noa.submit(APPROVALS, &approval(&event_id, "Not fine.")).await;
    let mut rejection = approval(&event_id, "Fine.");
    rejection[0].1 = "reject";
    let other_decision = noa.submit(APPROVALS, &rejection).await;
    let other_person = ada.submit(APPROVALS, &approval(&event_id, "Fine.")).await;

    for refused in [other_reason, other_decision, other_person] {
        assert_eq!(refused.status, 409, "{}", refused.text);
        assert!(refused.text.contains("Event identity already used"), "{}", refused.text);
    }
    assert_eq!(head(stage.admin()).await, head_before, "nothing is recorded");
}

/// Returns an artifact with a digest of one digit.
fn artifact(digit: &str) -> String {
    format!("pkg:oci/web@sha256:{}", digit.repeat(64))
}

/// Deploys v3 of `web` with an artifact to staging, so that the version means the artifact.
async fn deploy_to_staging(stage: &Stage, artifact: &str, minutes: u64) {
    let deployed = json!({"service": "web", "release": {"version": "v3", "artifact": artifact}});
    let position = Story::of(stage.admin(), "staging").record("deploy.succeeded", minutes, deployed).await;
    stage.admin().wait_for_projections(position).await;
}

#[tokio::test]
async fn an_approval_of_a_version_is_about_the_artifact_that_the_page_showed() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    deploy_to_staging(&stage, &artifact("1"), 5).await;
    let page = noa.page(QUESTION).await;
    deploy_to_staging(&stage, &artifact("2"), 6).await;

    let (event_id, shown) = (form_event_id(&page), hidden_field(&page, "artifact").expect("an artifact"));
    let mut fields = approval(&event_id, "");
    fields.push(("artifact", &*shown));
    location(&noa.submit(APPROVALS, &fields).await);

    assert_eq!(shown, artifact("1"));
    let events = rollback_events(stage.admin(), "approval.granted").await;
    assert_eq!(events[0]["event"]["data"]["release"], json!({"version": "v3", "artifact": shown}));
    let gate = Story::on(&stage.mia.api).gate(json!({"service": "web", "release": {"version": "v3"}})).await;
    assert_eq!(gate["allowed"], false, "v3 is another artifact now: {gate}");
}

#[tokio::test]
async fn a_form_without_the_artifact_that_its_version_means_by_now_is_refused_and_not_lost() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    let page = noa.page(QUESTION).await;
    assert_eq!(hidden_field(&page, "artifact"), None);
    deploy_to_staging(&stage, &artifact("1"), 5).await;

    let refused = noa.submit(APPROVALS, &approval(&form_event_id(&page), "Looks & feels right.")).await;

    assert_eq!(refused.status, 412, "{}", refused.text);
    let text = unescaped(&refused.text);
    for part in
        [&*artifact("1"), "Looks & feels right.", "href=\"/t/default/approvals/new?environment=production&"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(rollback_events(stage.admin(), "approval.granted").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_changed_form_of_a_sender_who_may_not_read_is_refused_with_the_position_of_the_first() {
    let stage = Stage::start().await;
    let approver = Visitor::new(&stage.guarded, "ada", "person", &["production"], &["gate", "approve"]).await;
    let event_id = form_event_id(&approver.page(QUESTION).await);
    location(&approver.submit(APPROVALS, &approval(&event_id, "")).await);

    let again = approver.submit(APPROVALS, &approval(&event_id, "Fine.")).await;

    assert_eq!(again.status, 409, "{}", again.text);
    assert!(again.text.contains("this form was sent before, and is recorded at position"), "{}", again.text);
}

#[tokio::test]
async fn a_rejection_of_a_release_is_recorded_with_its_artifact() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    let artifact = format!("pkg:oci/web@sha256:{}", "0".repeat(64));
    let event_id = form_event_id(&noa.page(QUESTION).await);
    let mut fields = approval(&event_id, "");
    fields[0].1 = "reject";
    fields.push(("artifact", &*artifact));

    location(&noa.submit(APPROVALS, &fields).await);

    let events = rollback_events(stage.admin(), "approval.rejected").await;
    let data = &events.first().expect("a rejection")["event"]["data"];
    assert_eq!(data["release"], json!({"version": "v3", "artifact": artifact}));
    assert_eq!(data.get("reason"), None, "an empty reason is none");
}

#[tokio::test]
async fn a_vote_on_a_rollback_is_recorded_once_and_shown() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    let event_id = form_event_id(&noa.page(ROLLBACK).await);
    let fields = vote("approve", &event_id, "Customers see errors.");

    let voted = location(&noa.submit(VOTE, &fields).await);
    let again = location(&noa.submit(VOTE, &fields).await);

    assert!(voted.starts_with(&format!("{ROLLBACK}?wait_for=")), "{voted}");
    assert_eq!(again, voted);
    assert!(noa.page(&voted).await.contains("noa"));
    let rollback = Story::on(stage.admin()).rollback("back-1").await;
    assert_eq!(
        (&rollback["approvals"]["granted"], &rollback["approvals"]["answers"][0]["actor"]["name"]),
        (&json!(1), &json!("noa"))
    );
    let events = rollback_events(stage.admin(), "approval.granted").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["event"]["data"]["reason"], "Customers see errors.");
}

#[tokio::test]
async fn a_cancelled_rollback_is_shown_as_cancelled_also_if_the_form_is_sent_again() {
    let stage = Stage::start().await;
    let noa = stage.person("noa").await;
    let event_id = form_event_id(&noa.page(ROLLBACK).await);
    let fields = vote("cancel", &event_id, "It was the load balancer.");

    let cancelled = location(&noa.submit(VOTE, &fields).await);
    let again = location(&noa.submit(VOTE, &fields).await);

    assert_eq!(again, cancelled);
    let page = noa.page(&cancelled).await;
    assert!(page.contains("cancelled") && page.contains("It was the load balancer."), "{page}");
    let new = "0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2c";
    let too_late = noa.submit(VOTE, &vote("cancel", new, "")).await;
    assert_eq!(too_late.status, 409, "{}", too_late.text);
}

#[tokio::test]
async fn a_vote_that_the_rules_refuse_is_a_page_with_the_words_of_the_problem() {
    let stage = Stage::start().await;
    let ci = Visitor::new(&stage.guarded, "ci", "workload", &["*"], &["*"]).await;
    let reader = Visitor::new(&stage.guarded, "reader", "person", &["*"], &["read"]).await;
    let event_id = form_event_id(&stage.mia.page(ROLLBACK).await);
    let head_before = head(stage.admin()).await;

    for (voter, slug) in [(&stage.mia, "self-approval"), (&ci, "not-a-person"), (&reader, "forbidden")] {
        let problem = refusal(voter, "approval.granted").await;
        assert_eq!(problem.problem(), slug, "{}", problem.text);

        let page = voter.submit(VOTE, &vote("approve", &event_id, "")).await;

        assert_shows_problem(&page, &problem);
    }
    let unknown = stage.mia.submit("/t/default/rollbacks/none/vote", &vote("approve", &event_id, "")).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    assert_eq!(head(stage.admin()).await, head_before, "nothing is recorded");
    let page = ci.page(ROLLBACK).await;
    assert!(!page.contains("name=\"event_id\""), "a workload has no vote, and no form: {page}");
}

#[tokio::test]
async fn an_invalid_form_is_refused_and_records_nothing() {
    let stage = Stage::start().await;
    let event_id = "0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2c";
    let head_before = head(stage.admin()).await;
    let noa = stage.person("noa").await;
    let with = |name: &'static str, value: &'static str| {
        let mut fields = approval(event_id, "");
        fields.retain(|(field, _)| *field != name);
        fields.push((name, value));
        fields
    };

    for (fields, status) in [
        (with("decision", "perhaps"), 400),
        (with("event_id", "1"), 400),
        (with("environment", "a b"), 400),
        (with("environment", "nowhere"), 404),
        (with("service", "a b"), 422),
        (with("version", ""), 422),
        (with("artifact", "web:latest"), 422),
        (with("actor", "mia"), 422),
        (vec![("decision", "approve")], 422),
    ] {
        let refused = noa.submit(APPROVALS, &fields).await;
        assert_eq!(refused.status, status, "{fields:?}: {}", refused.text);
        assert_eq!(refused.content_type, "text/html; charset=utf-8", "{fields:?}");
    }
    let json = noa.send(APPROVALS, "application/json", "{}".to_owned()).await;
    assert_eq!(json.status, 415, "{}", json.text);
    let long = "x".repeat(70_000);
    assert_eq!(noa.submit(APPROVALS, &approval(event_id, &long)).await.status, 413);
    assert_eq!(noa.submit(APPROVALS, &approval(event_id, &long[..5_000])).await.status, 422);
    assert_eq!(noa.get(APPROVALS).await.status, 405);
    let events = rollback_events(stage.admin(), "approval.granted").await;
    assert_eq!((head(stage.admin()).await, events), (head_before, Vec::<Value>::new()));
}

#[tokio::test]
async fn who_may_decide_and_not_read_sees_the_question_again() {
    let stage = Stage::start().await;
    let approver = Visitor::new(&stage.guarded, "ada", "person", &["production"], &["gate", "approve"]).await;
    let event_id = form_event_id(&approver.page(QUESTION).await);

    let approved = location(&approver.submit(APPROVALS, &approval(&event_id, "")).await);

    let question = "/t/default/approvals/new?environment=production&service=web&version=v3&artifact=";
    assert_eq!(approved, question);
    assert_eq!(approver.get(&approved).await.status, 200);
    assert_eq!(rollback_events(stage.admin(), "approval.granted").await.len(), 1);
}
