//! What pages say and offer.

use serde_json::{Value, json};

use super::bodies::{body, entry_of, frame, gate_of, now, overview_of, question, rollback_of, state_of};
use super::document::Document;
use crate::{
    Frame, IssuerLink, RefusedForm, ReleaseQuestion, RenderError, approval, entry, environment, failure,
    overview, rollback, rollbacks, sign_in, tenants,
};

fn read(page: Result<String, RenderError>) -> Document {
    Document::read(&page.expect("a rendered page"))
}

fn default_frame() -> Frame<'static> {
    Frame { tenant: Some("default"), ..Frame::default() }
}

/// Asserts that the page says this.
fn assert_says(page: &Document, text: &str) {
    assert!(page.text.contains(text), "{text:?} is not in: {}", page.text);
}

/// Returns the value of a field of the first form that has it.
fn field<'a>(page: &'a Document, name: &str) -> Option<&'a str> {
    page.elements.iter().find(|element| element.attribute("name") == Some(name))?.attribute("value")
}

/// Returns the values of the buttons that decide.
fn decisions(page: &Document) -> Vec<&str> {
    let buttons = page.named("button").filter(|button| button.attribute("name") == Some("decision"));
    buttons.filter_map(|button| button.attribute("value")).collect()
}

fn no_rollbacks() -> Value {
    json!({"position": 0, "rollbacks": []})
}

#[test]
fn given_no_event_when_the_overview_is_shown_then_it_says_how_to_record_one() {
    let empty = json!({"position": 0, "environments": []});
    let page = read(overview(&default_frame(), &body(&empty), &body(&no_rollbacks()), now()));
    assert_says(&page, "release-ledger emit deploy.succeeded");
    assert_says(&page, "No rollback is requested or under way.");
}

#[test]
fn given_lanes_at_several_targets_then_the_matrix_names_the_targets_their_age_and_what_needs_attention() {
    let page = read(overview(&default_frame(), &body(&overview_of("web")), &body(&no_rollbacks()), now()));
    for text in ["another target", "2 d ago", "drift", "revoked", "deploying", "observed only", "frozen"] {
        assert_says(&page, text);
    }
    assert_says(&page, "it is lifted");
    assert_says(&page, "You may not read every environment and service");
}

#[test]
fn given_an_ended_rollback_then_it_is_not_in_the_overview() {
    let mut ended = rollback_of("back-1");
    ended["phase"] = json!("succeeded");
    let list = json!({"position": 9, "rollbacks": [ended]});
    let page = read(overview(&default_frame(), &body(&overview_of("web")), &body(&list), now()));
    assert_says(&page, "No rollback is requested or under way.");
}

#[test]
fn given_nothing_runs_then_the_environment_says_so() {
    let mut state = state_of("production");
    state["lanes"] = json!([]);
    state["at"] = json!("latest");
    let page = read(environment(&default_frame(), &body(&state), None, now()));
    assert_says(&page, "No release runs in production.");
}

#[test]
fn given_a_point_in_the_past_then_the_environment_says_so_and_links_to_now() {
    let mut state = state_of("production");
    state["at"] = json!("7");
    let page = read(environment(&default_frame(), &body(&state), None, now()));
    assert_says(&page, "You are looking at 7, not at what runs now.");
    assert_says(&page, "As of position 9");
    assert!(page.values("href").any(|href| href == "/t/default/environments/production"));
}

#[test]
fn given_no_rollback_of_the_environment_then_the_list_says_so() {
    let page = read(rollbacks(&default_frame(), &body(&no_rollbacks()), Some("staging")));
    assert_says(&page, "No rollback of staging was requested.");
    assert_eq!(field(&page, "environment"), Some("staging"));
}

#[test]
fn given_an_earlier_knowledge_of_the_latest_point_then_the_environment_does_not_say_that_it_runs_now() {
    let mut state = state_of("production");
    state["at"] = json!("latest");
    let page = read(environment(&default_frame(), &body(&state), Some("5"), now()));
    assert_says(&page, "You are looking at latest, as known at 5, not at what runs now.");
    assert!(!page.text.contains("What runs"), "{}", page.text);
    let page = read(environment(&default_frame(), &body(&state), Some("latest"), now()));
    assert_says(&page, "What runs");
}

#[test]
fn given_a_list_of_one_phase_then_it_does_not_say_that_there_is_no_other_rollback() {
    let of_phase = Frame { query: "phase=started", ..default_frame() };
    let page = read(rollbacks(&of_phase, &body(&no_rollbacks()), None));
    assert!(!page.text.contains("No rollback was requested."), "{}", page.text);
    assert_says(&page, "The list has only some of the rollbacks.");
    let page = read(rollbacks(&Frame { query: "phase=", ..default_frame() }, &body(&no_rollbacks()), None));
    assert_says(&page, "No rollback was requested.");
}

#[test]
fn given_more_open_rollbacks_than_the_overview_has_then_it_says_so() {
    let mut list = json!({"position": 9, "rollbacks": [rollback_of("back-1")], "next": 5});
    let page = read(overview(&default_frame(), &body(&overview_of("web")), &body(&list), now()));
    assert_says(&page, "Not all open rollbacks are shown.");
    list["next"] = Value::Null;
    let page = read(overview(&default_frame(), &body(&overview_of("web")), &body(&list), now()));
    assert!(!page.text.contains("Not all open rollbacks are shown."));
}

#[test]
fn given_more_pages_then_the_lists_link_to_them() {
    let mut list = no_rollbacks();
    list["next"] = json!(5);
    list["rollbacks"] = json!([rollback_of("back-1")]);
    for (query, path) in [
        ("", "/t/default/rollbacks?before=5"),
        ("environment=a%26b&before=9", "/t/default/rollbacks?environment=a%26b&before=5"),
        ("phase=failed&limit=1", "/t/default/rollbacks?phase=failed&limit=1&before=5"),
    ] {
        let page = read(rollbacks(&Frame { query, ..default_frame() }, &body(&list), None));
        assert!(page.values("href").any(|href| href == path), "{path}");
    }
    let of_service = Frame { query: "service=web", ..default_frame() };
    let page = read(overview(&of_service, &body(&overview_of("b")), &body(&no_rollbacks()), now()));
    assert!(page.values("href").any(|href| href == "/t/default?service=web&after=b"));
    let page = read(overview(&default_frame(), &body(&overview_of("a/b")), &body(&no_rollbacks()), now()));
    assert!(page.values("href").any(|href| href == "/t/default?after=a%2Fb"));
}

#[test]
fn given_an_event_id_then_a_rollback_under_way_can_be_approved_rejected_and_cancelled() {
    let page = read(rollback(&frame("mira"), &body(&rollback_of("back-1")), Some("3f2a")));
    assert_eq!(decisions(&page), ["approve", "reject", "cancel"]);
    assert_eq!(field(&page, "event_id"), Some("3f2a"));
    let actions: Vec<_> = page.values("action").filter(|action| action.ends_with("/vote")).collect();
    assert_eq!(actions, ["/t/mira/rollbacks/back-1/vote"; 2]);
    assert!(!page.text.contains("only the approval of another person counts"));
}

#[test]
fn given_the_reader_requested_the_rollback_then_the_page_says_that_another_person_must_approve() {
    let page = read(rollback(&frame("mira"), &body(&rollback_of("mira")), Some("3f2a")));
    assert_says(&page, "only the approval of another person counts");
}

#[test]
fn given_no_event_id_then_a_rollback_has_no_form_and_says_why() {
    let page = read(rollback(&default_frame(), &body(&rollback_of("back-1")), None));
    assert_eq!(page.named("form").count(), 0);
    assert_says(&page, "The service runs without authentication");
    assert_says(&page, "release-ledger rollback approve back-1");
    let shop = Frame { tenant: Some("shop"), ..Frame::default() };
    let page = read(rollback(&shop, &body(&rollback_of("back-1")), None));
    assert_says(&page, "release-ledger rollback approve back-1 --tenant shop");
}

#[test]
fn given_an_ended_rollback_then_nothing_is_left_to_decide() {
    let mut ended = rollback_of("back-1");
    ended["phase"] = json!("cancelled");
    let page = read(rollback(&frame("mira"), &body(&ended), Some("3f2a")));
    assert_eq!(decisions(&page), [""; 0]);
    assert_says(&page, "there is nothing left to decide");
}

#[test]
fn given_no_release_then_the_approval_page_asks_for_one() {
    let page = read(approval(&frame("mira"), &ReleaseQuestion::default(), None, Some("3f2a")));
    assert_eq!(decisions(&page), [""; 0]);
    for name in ["environment", "service", "version", "artifact"] {
        assert_eq!(field(&page, name), Some(""), "{name}");
    }
}

#[test]
fn given_the_answer_of_the_gate_then_the_form_submits_the_release_as_given() {
    let version = "v1\u{202e}\"2";
    let page = read(approval(&frame("mira"), &question(version), Some(&body(&gate_of("web"))), Some("3f2a")));
    assert_eq!(decisions(&page), ["approve", "reject"]);
    let hidden = page.named("input").filter(|input| input.attribute("type") == Some("hidden"));
    let hidden: Vec<_> = hidden.map(|input| (input.attribute("name"), input.attribute("value"))).collect();
    let expected = [
        ("event_id", "3f2a"),
        ("environment", version),
        ("service", version),
        ("version", version),
        ("artifact", version),
        ("new", "true"),
    ];
    assert_eq!(hidden, expected.map(|(name, value)| (Some(name), Some(value))));
    assert_says(&page, "may not be deployed");
}

#[test]
fn given_a_version_with_a_known_artifact_then_the_form_and_the_command_decide_about_the_artifact_that_is_shown()
 {
    let question = ReleaseQuestion { artifact: "", ..question("web") };
    let mut gate = gate_of("web");
    gate["release"]["artifact"] = json!("pkg:oci/web@sha256:0a");
    let page = read(approval(&frame("mira"), &question, Some(&body(&gate)), Some("3f2a")));
    let fields = page.named("input").filter(|input| input.attribute("name") == Some("artifact"));
    let submitted: Vec<_> = fields
        .filter(|input| input.attribute("type") == Some("hidden"))
        .map(|it| it.attribute("value"))
        .collect();
    assert_eq!(submitted, [Some("pkg:oci/web@sha256:0a")]);
    let page = read(approval(&frame("mira"), &question, Some(&body(&gate)), None));
    assert_says(&page, "release-ledger approve web web web --artifact pkg:oci/web@sha256:0a");
}

#[test]
fn given_no_artifact_then_the_form_submits_none() {
    let question = ReleaseQuestion { artifact: "", ..question("web") };
    let mut gate = gate_of("web");
    gate["release"]["artifact"] = Value::Null;
    let page = read(approval(&frame("mira"), &question, Some(&body(&gate)), Some("3f2a")));
    let hidden = page.named("input").filter(|input| input.attribute("type") == Some("hidden"));
    assert!(hidden.filter_map(|input| input.attribute("name")).all(|name| name != "artifact"));
}

#[test]
fn given_a_principal_then_the_entry_shows_it_beside_the_claimed_actor() {
    let mut stored = entry_of("web");
    stored["actor"] = json!({"type": "person", "name": "mira"});
    stored["event"]["data"]["actor"] = json!({"type": "workload", "name": "another-sender"});
    stored["event"]["type"] = json!("io.releaseledger.deploy.succeeded.v1");
    let page = read(entry(&default_frame(), &body(&stored), None));
    assert_says(&page, "mira, as authenticated");
    assert_says(&page, "another-sender (workload), as the event states");
    assert_says(&page, "deploy.succeeded");
    assert_says(&page, "a repeat has no effect");
    let entries: Vec<_> = page.values("href").filter(|href| href.starts_with("/t/default/events/")).collect();
    assert_eq!(entries[..2], ["/t/default/events/6", "/t/default/events/8"]);
}

#[test]
fn given_the_first_entry_then_there_is_no_previous_one() {
    let mut stored = entry_of("web");
    stored["position"] = json!(1);
    let page = read(entry(&default_frame(), &body(&stored), None));
    assert!(!page.text.contains("Previous entry"));
}

#[test]
fn given_the_last_entry_then_there_is_no_next_one() {
    let stored = entry_of("web");
    let latest = stored["position"].as_u64();
    let page = read(entry(&default_frame(), &body(&stored), latest));
    assert!(!page.text.contains("Next entry"));
    let page = read(entry(&default_frame(), &body(&stored), latest.map(|latest| latest + 1)));
    assert!(page.text.contains("Next entry"));
}

#[test]
fn given_a_link_in_an_event_then_it_opens_without_referrer_and_without_opener() {
    let page = read(entry(&default_frame(), &body(&entry_of("https://ci.example/run/1")), None));
    let links: Vec<_> =
        page.named("a").filter(|link| link.attribute("href") == Some("https://ci.example/run/1")).collect();
    assert!(!links.is_empty());
    assert!(links.iter().all(|link| link.attribute("rel") == Some("noopener noreferrer")));
}

#[test]
fn given_issuers_then_the_sign_in_page_links_to_them_and_keeps_the_target() {
    let issuers = [IssuerLink { name: "Example", number: 2 }];
    let page = read(sign_in(&issuers, "/t/default?at=1", Some("the issuer refused the sign-in")));
    assert_says(&page, "Sign in with Example");
    assert_says(&page, "the issuer refused the sign-in");
    assert!(page.values("href").any(|href| href == "/signin/2?to=%2Ft%2Fdefault%3Fat%3D1"));
    assert_eq!(field(&page, "to"), Some("/t/default?at=1"));
}

#[test]
fn given_no_tenant_then_the_list_says_what_to_do() {
    assert_says(&read(tenants(&Frame::default(), &[])), "Ask an administrator for a grant.");
}

#[test]
fn given_a_problem_then_the_page_says_it_and_links_back() {
    let page = read(failure(&default_frame(), 404, "Not found", "environment x is unknown", None));
    assert_says(&page, "environment x is unknown");
    assert!(page.values("href").any(|href| href == "/t/default"));
    assert!(page.values("href").all(|href| href != "/signin"));
    let page = read(failure(&Frame::default(), 401, "Not authenticated", "sign in first", None));
    assert!(page.values("href").any(|href| href == "/signin"));
}

#[test]
fn given_a_refused_form_then_its_page_and_what_was_typed_are_not_lost() {
    let form = RefusedForm { page: "/t/default/rollbacks/back-1", reason: "It leaks.\nMemory." };
    let page = read(failure(&default_frame(), 409, "Conflict", "the rollback is over", Some(form)));
    assert_says(&page, "It leaks.\nMemory.");
    assert!(page.values("href").any(|href| href == "/t/default/rollbacks/back-1"));
    let page = read(failure(&default_frame(), 401, "Not authenticated", "sign in first", Some(form)));
    assert!(page.values("href").any(|href| href == "/signin?to=%2Ft%2Fdefault%2Frollbacks%2Fback-1"));
}

#[test]
fn given_a_tenant_then_the_navigation_marks_the_current_section() {
    let page = read(rollbacks(&default_frame(), &body(&no_rollbacks()), None));
    let current = page.named("a").filter(|link| link.attribute("aria-current") == Some("page"));
    let current: Vec<_> = current.filter_map(|link| link.attribute("href")).collect();
    assert_eq!(current, ["/t/default/rollbacks"]);
}

#[test]
fn given_a_session_then_the_reader_can_sign_out_by_a_form() {
    let page = read(tenants(&frame("mira"), &["default"]));
    assert_says(&page, "Signed in as mira");
    assert!(page.values("action").any(|action| action == "/signout"));
    let page = read(tenants(&default_frame(), &["default"]));
    assert!(page.values("action").all(|action| action != "/signout"));
}

#[test]
fn given_the_same_answer_by_other_means_then_the_page_names_both() {
    let frame = Frame {
        api_path: Some("/v1/tenants/default/rollbacks?environment=staging"),
        command: Some("release-ledger rollback list --environment staging"),
        ..default_frame()
    };
    let page = read(rollbacks(&frame, &body(&no_rollbacks()), None));
    assert_says(&page, "release-ledger rollback list --environment staging");
    assert_says(&page, "'/v1/tenants/default/rollbacks?environment=staging'");
}
