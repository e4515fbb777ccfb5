//! Pages on two processes: a person signs in, approves a release and a rollback, and every process ends a session.

mod stage;
mod visitor;

use std::time::{Duration, Instant};

use ledger_tests::{Story, new_token, rollback_events};
use serde_json::{Value, json};

pub(crate) use stage::{MIA, Stage};
pub(crate) use visitor::Visitor;

use visitor::Page;

/// Maximum time between the acknowledgement of a revocation and its effect on every process.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);
/// Maximum time until the service answers again after an outage.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// Interval at which a page is requested that becomes available.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const OVERVIEW: &str = "/t/default";
const ROLLBACK: &str = "/t/default/rollbacks/back-1";
const QUESTION: &str = "/t/default/approvals/new?environment=production&service=web&version=v3";
const SESSION: &str = "__Host-release-ledger";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_signs_in_with_an_issuer_approves_a_release_and_a_rollback_on_two_processes() {
    let stage = Stage::start().await;
    stage.record_releases().await;
    let mut mia = Visitor::new();
    sign_in_with_the_issuer(&stage, &mut mia).await;
    approve_a_release_once(&stage, &mut mia).await;
    stage.request_rollback().await;
    refuse_forms_that_no_page_of_the_service_sends(&stage, &mia).await;
    approve_a_rollback(&stage, &mut mia).await;
    refuse_the_session_outside_of_pages(&stage, &mia).await;
    sign_out_of_every_process(&stage, mia).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_an_outage_and_ends_with_its_token_on_every_process_within_a_second() {
    let mut stage = Stage::start().await;
    stage.record_releases().await;
    let secret = new_token();
    let id = secret.id().as_str();
    let token = json!({"token": id, "kind": "person", "name": "noa", "hash": secret.hash().to_string()});
    stage.change_access("token.created", "token", token).await;
    let grant = json!({
        "grant": "noa", "grantee": {"token": id}, "tenant": "default", "environments": ["*"],
        "services": ["*"], "verbs": ["read"],
    });
    stage.change_access("grant.added", "grant", grant).await;
    let mut noa = Visitor::new();
    let signed_in = noa.submit(&stage.here("/signin"), &[("token", secret.expose()), ("to", OVERVIEW)]).await;
    assert_eq!((signed_in.status(), &*signed_in.redirected_to()), (303, OVERVIEW), "{}", signed_in.text());
    assert!(!noa.cookies().contains(secret.expose()), "the cookie is no copy of the token");
    assert_shows(&noa.get(&stage.there(OVERVIEW)).await, "noa");

    stage.other.kill().await;
    stage.other.restart().await;
    assert_shows(&noa.get(&stage.there(OVERVIEW)).await, "noa");
    stage.servers.kill_postgres().await;
    let away = noa.get(&stage.here(OVERVIEW)).await;
    assert_eq!(away.status(), 503, "an outage is no sign-out: {}", away.text());
    assert!(away.response.content_type.starts_with("text/html"), "{}", away.response.content_type);
    stage.servers.start_postgres().await;
    for url in [stage.here(OVERVIEW), stage.there(OVERVIEW)] {
        wait_for_page(&mut noa, &url).await;
    }

    stage.start_change_of_access("token.revoked", "revocation", json!({"token": id})).await;
    let revoked = Instant::now();
    let (mut here, mut there) = (noa.clone(), noa);
    tokio::join!(
        end_in_time(&mut here, stage.here(OVERVIEW), revoked),
        end_in_time(&mut there, stage.there(OVERVIEW), revoked),
    );
    let mut again = Visitor::new();
    let refused = again.submit(&stage.there("/signin"), &[("token", secret.expose()), ("to", "/")]).await;
    assert_eq!(again.cookie(SESSION), None, "{}", refused.text());
}

async fn sign_in_with_the_issuer(stage: &Stage, mia: &mut Visitor) {
    let path = "/t/default/environments/production?at=1";
    let asked = mia.get(&stage.there(path)).await;
    assert_eq!(asked.status(), 303, "{}", asked.text());
    assert!(asked.redirected_to().starts_with("/signin?to="), "{}", asked.redirected_to());
    let choice = mia.visit(&asked.location()).await;
    assert_eq!(choice.status(), 200, "{}", choice.text());

    // The issuer redirects to the address that people know, which is another process than the one that was asked.
    let shown = mia.visit(&choice.link("/signin/")).await;

    assert_eq!(shown.path_and_query(), path);
    assert_shows(&shown, "mia");
    assert_shows(&mia.get(&stage.there(path)).await, "mia");
}

async fn approve_a_release_once(stage: &Stage, mia: &mut Visitor) {
    assert_eq!(stage.gate("v3").await["allowed"], false);
    let question = mia.get(&stage.here(QUESTION)).await;
    assert_shows(&question, "0 of 1 approvals");
    let event_id = question.input("event_id");
    let fields = [
        ("decision", "approve"),
        ("environment", "production"),
        ("service", "web"),
        ("version", "v3"),
        ("reason", "I looked at the change & the <tests>."),
        ("event_id", &*event_id),
    ];
    let (here, there) = (stage.here("/t/default/approvals"), stage.there("/t/default/approvals"));

    // A double click, which a load balancer gives to both processes, and a reload.
    let mut other_tab = mia.clone();
    let (first, second) = tokio::join!(mia.submit(&here, &fields), other_tab.submit(&there, &fields));
    let third = mia.submit(&there, &fields).await;

    for answer in [&first, &second, &third] {
        assert_eq!(answer.status(), 303, "{}", answer.text());
    }
    stage.wait_for_projections().await;
    let followed = mia.visit(&first.location()).await;
    assert_eq!(followed.status(), 200, "{}", followed.text());
    assert_eq!(stage.gate("v3").await["allowed"], true);
    let granted = rollback_events(&stage.admin(), "approval.granted").await;
    assert_eq!(granted.len(), 1, "{granted:?}");
    let approval = &granted[0];
    assert_is_of_mia(stage, approval);
    assert_eq!(approval["event"]["data"]["reason"], "I looked at the change & the <tests>.");
    let entry = mia.get(&stage.there(&format!("/t/default/events/{}", approval["position"]))).await;
    for text in ["mia", MIA, stage.people.url()] {
        assert_shows(&entry, text);
    }
}

async fn approve_a_rollback(stage: &Stage, mia: &mut Visitor) {
    let page = mia.get(&stage.there(ROLLBACK)).await;
    assert_eq!(page.status(), 200, "{}", page.text());
    let event_id = page.input("event_id");
    let fields = [("decision", "approve"), ("reason", "Customers see errors."), ("event_id", &*event_id)];

    let voted = mia.submit(&stage.there(&format!("{ROLLBACK}/vote")), &fields).await;

    assert_eq!(voted.status(), 303, "{}", voted.text());
    stage.wait_for_projections().await;
    let approvals = Story::on(&stage.admin()).rollback("back-1").await["approvals"].clone();
    assert_eq!((&approvals["wanted"], &approvals["granted"]), (&json!(1), &json!(1)), "{approvals}");
    let granted = rollback_events(&stage.admin(), "approval.granted").await;
    assert_is_of_mia(stage, granted.last().expect("an approval"));
    assert_shows(&mia.get(&stage.here(ROLLBACK)).await, "mia");
}

async fn refuse_forms_that_no_page_of_the_service_sends(stage: &Stage, mia: &Visitor) {
    let (_, head) = stage.admin().positions().await;
    let event_id = mia.clone().get(&stage.here(ROLLBACK)).await.input("event_id");
    let fields = [("decision", "approve"), ("reason", "A trap."), ("event_id", &*event_id)];
    let vote = stage.here(&format!("{ROLLBACK}/vote"));
    let own = stage.one.url();
    let foreign: [&[(&str, &str)]; 6] = [
        &[],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "same-site"), ("origin", &*own)],
        &[("sec-fetch-site", "none")],
    ];

    for headers in foreign {
        let refused = mia.clone().submit_with(&vote, &fields, headers).await;
        assert_eq!(refused.status(), 403, "{headers:?}: {}", refused.text());
        assert!(refused.response.content_type.starts_with("text/html"), "{headers:?}");
    }
    let unknown = Visitor::new().submit(&vote, &fields).await;
    assert_eq!(unknown.status(), 401, "{}", unknown.text());
    assert_eq!(stage.admin().positions().await.1, head, "nothing is recorded");
}

async fn refuse_the_session_outside_of_pages(stage: &Stage, mia: &Visitor) {
    for path in ["/v1/whoami", "/v1/tenants/default/overview", "/v1/events"] {
        let refused = mia.clone().get(&stage.here(path)).await;
        assert_eq!(refused.status(), 401, "{path}: {}", refused.text());
    }
}

async fn sign_out_of_every_process(stage: &Stage, mut mia: Visitor) {
    let copy = mia.clone();
    assert!(copy.cookie(SESSION).is_some(), "{}", copy.cookies());

    let out = mia.submit(&stage.here("/signout"), &[]).await;

    assert_eq!((out.status(), &*out.redirected_to()), (303, "/signin"), "{}", out.text());
    assert_eq!(mia.cookie(SESSION), None, "the cookie is removed");
    // A copy of the cookie is of no use.
    for url in [stage.here(OVERVIEW), stage.there(OVERVIEW)] {
        let page = copy.clone().get(&url).await;
        assert_eq!(page.status(), 303, "{url}: {}", page.text());
        assert!(page.redirected_to().starts_with("/signin?to="), "{}", page.redirected_to());
    }
}

#[track_caller]
fn assert_shows(page: &Page, text: &str) {
    assert_eq!(page.status(), 200, "{}: {}", page.url, page.text());
    assert!(page.text().contains(text), "{text} is not on {}: {}", page.url, page.text());
}

/// Asserts that an entry was sent by `mia`.
#[track_caller]
fn assert_is_of_mia(stage: &Stage, entry: &Value) {
    let principal = &entry["principal"];
    let identity = (&principal["kind"], &principal["name"], &principal["issuer"], &principal["subject"]);
    let issuer = stage.people.url();
    assert_eq!(identity, (&json!("person"), &json!("mia"), &json!(issuer), &json!(MIA)), "{entry}");
    assert_eq!(entry["actor"], json!({"type": "person", "name": "mia"}), "{entry}");
}

/// Requests a page until the service answers with it.
async fn wait_for_page(visitor: &mut Visitor, url: &str) {
    let began = Instant::now();
    loop {
        let page = visitor.get(url).await;
        if page.status() == 200 {
            return;
        }
        assert_eq!(page.status(), 503, "{url}: {}", page.text());
        assert!(began.elapsed() < RECOVERY_LIMIT, "{url}: {}", page.text());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until a process asks for a sign-in. Fails if it still accepts a session that was used later than
/// [`REVOCATION_LIMIT`] after the revocation.
async fn end_in_time(visitor: &mut Visitor, url: String, revoked: Instant) {
    loop {
        let sent = revoked.elapsed();
        let page = visitor.get(&url).await;
        if page.status() == 303 {
            assert!(page.redirected_to().starts_with("/signin?to="), "{}", page.redirected_to());
            return;
        }
        assert_eq!(page.status(), 200, "{url}: {}", page.text());
        assert!(sent < REVOCATION_LIMIT, "{url} is still shown {} ms after the revocation", sent.as_millis());
    }
}
