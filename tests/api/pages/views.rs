//! What pages show: the answer of the API to the same reader, or its problem.

use ledger_tests::{Guarded, Story, deploy, event};
use serde_json::json;

use super::visitor::{Visitor, api_path, assert_shows_problem, unescaped};
use super::{ENTRY, ENVIRONMENT, FLAGS, OVERVIEW, PAGES, QUESTION, ROLLBACK, ROLLBACKS, Stage};

/// Asserts that a page names a path of the API and shows these members of its answer, and its position.
async fn assert_shows_answer(reader: &Visitor, path: &str, pointers: &[&str]) {
    let page = reader.page(path).await;
    let answer = reader.api.get(&api_path(&page)).await.ok();
    let shown = unescaped(&page);
    for pointer in pointers.iter().chain(&["/position"]) {
        let member = answer.pointer(pointer).unwrap_or_else(|| panic!("{pointer} of {answer}"));
        let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
        assert!(shown.contains(&text), "{path} shows {pointer}, {text}: {page}");
    }
}

#[tokio::test]
async fn a_page_shows_the_answer_of_the_path_of_the_api_that_it_names() {
    let stage = Stage::start().await;
    let mia = &stage.mia;

    assert_shows_answer(mia, OVERVIEW, &["/environments/0/name", "/environments/0/lanes/0/release/version"])
        .await;
    assert_shows_answer(mia, ENVIRONMENT, &["/lanes/0/service", "/lanes/0/release/version"]).await;
    assert_shows_answer(mia, ROLLBACKS, &["/rollbacks/0/rollback_id", "/rollbacks/0/environment"]).await;
    assert_shows_answer(mia, &format!("{ROLLBACKS}?environment=production&phase="), &["/rollbacks/0/phase"])
        .await;
    assert_shows_answer(mia, ROLLBACK, &["/phase", "/reason", "/steps/0/to/version"]).await;
    assert_shows_answer(mia, ENTRY, &["/event/source", "/principal/name"]).await;
}

#[tokio::test]
async fn a_page_of_the_past_shows_the_same_point_as_the_api() {
    let stage = Stage::start().await;

    let past = stage.mia.page(&format!("{ENVIRONMENT}?at=2")).await;
    let empty_field = stage.mia.page(&format!("{ENVIRONMENT}?at=")).await;

    assert_eq!(api_path(&past), "/v1/tenants/default/environments/production/state?at=2");
    assert!(past.contains("release-ledger state production --at 2"), "{past}");
    assert!(!past.contains("v2"), "{past}");
    assert!(empty_field.contains("v2"), "{empty_field}");
    let known_earlier = stage.mia.page(&format!("{ENVIRONMENT}?known_at=2")).await;
    assert!(known_earlier.contains("as known at") && !known_earlier.contains("What runs"), "{known_earlier}");
}

#[tokio::test]
async fn a_page_names_the_command_line_with_the_same_answer() {
    let stage = Stage::start().await;
    for (path, command) in [
        (OVERVIEW, "release-ledger overview"),
        ("/t/default?environment=production", "release-ledger overview --environment production"),
        (ENVIRONMENT, "release-ledger state production"),
        (ROLLBACKS, "release-ledger rollback list"),
        (ROLLBACK, "release-ledger rollback show back-1"),
        (QUESTION, "release-ledger gate production web v3"),
        (ENTRY, "release-ledger entry 2"),
    ] {
        let page = stage.mia.page(path).await;
        assert!(unescaped(&page).contains(&format!("{command}</code>")), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_question_about_a_release_has_every_finding_of_the_gate() {
    let stage = Stage::start().await;

    let page = unescaped(&stage.mia.page(QUESTION).await);

    let gate = Story::on(&stage.mia.api).gate(json!({"service": "web", "release": {"version": "v3"}})).await;
    let findings = gate["findings"].as_array().expect("findings");
    assert!(!findings.is_empty(), "{gate}");
    for finding in findings {
        for member in ["rule", "detail"] {
            assert!(page.contains(finding[member].as_str().expect("text")), "{finding}: {page}");
        }
    }
    let form = stage.mia.page("/t/default/approvals/new").await;
    assert!(form.contains("name=\"version\"") && !form.contains("value=\"approve\""), "{form}");
}

#[tokio::test]
async fn an_empty_ledger_has_pages() {
    let guarded = Guarded::start(FLAGS, "").await;
    let mia = Visitor::new(&guarded, "mia", "person", &["*"], &["*"]).await;
    mia.grant_in(&guarded, "shop").await;

    for path in ["/t/shop", "/t/shop/rollbacks", "/t/shop/approvals/new"] {
        let page = mia.page(path).await;
        assert!(page.contains("shop"), "{path}: {page}");
    }
    let overview = mia.page("/t/shop").await;
    assert!(overview.contains("release-ledger overview --tenant shop"), "{overview}");
    let root = mia.page("/").await;
    assert!(root.contains("href=\"/t/default\"") && root.contains("href=\"/t/shop\""), "{root}");
}

#[tokio::test]
async fn the_root_leads_to_the_only_tenant_of_the_reader() {
    let stage = Stage::start().await;

    let root = stage.mia.get("/").await;

    assert_eq!((root.status, root.header("location")), (303, OVERVIEW), "{}", root.text);
}

#[tokio::test]
async fn what_does_not_exist_is_the_problem_of_the_api_as_a_page() {
    let stage = Stage::start().await;
    let api = |path: &str| format!("/v1/tenants/{path}");
    for (page, of_api) in [
        ("/t/nowhere", api("nowhere/overview")),
        ("/t/default/environments/nowhere", api("default/environments/nowhere/state")),
        ("/t/default/environments/production?at=99", api("default/environments/production/state?at=99")),
        ("/t/default/environments/a%20b", api("default/environments/a%20b/state")),
        ("/t/default/rollbacks/none", api("default/rollbacks/none")),
        ("/t/default/rollbacks?phase=odd", api("default/rollbacks?phase=odd")),
        ("/t/default/events/99", api("default/events/99")),
        ("/t/default/events/x", api("default/events/x")),
        ("/t/default?colour=1", api("default/overview?colour=1")),
    ] {
        let (page, problem) = (stage.mia.get(page).await, stage.mia.api.get(&of_api).await);
        assert!((400..500).contains(&problem.status), "{of_api}");
        assert_shows_problem(&page, &problem);
    }
    for path in ["/t/default/none", "/t/default/rollbacks/back-1/none", "/t"] {
        let page = stage.mia.get(path).await;
        assert_eq!((page.status, &*page.content_type), (404, "text/html; charset=utf-8"), "{path}");
    }
    let unknown = stage.mia.get(&QUESTION.replace("web", "nothing")).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    let first = stage.mia.page(&format!("{}&new=true", QUESTION.replace("web", "nothing"))).await;
    assert!(first.contains("release-ledger gate production nothing v3 --new"), "{first}");
}

#[tokio::test]
async fn the_headers_of_a_problem_are_those_of_its_page() {
    let stage = Stage::start().await;
    for path in ["/t/default/rollbacks/none", "/t/default/none"] {
        let head = stage.mia.head(path).await;
        assert_eq!((head.status, &*head.content_type), (404, "text/html; charset=utf-8"), "{path}");
    }
}

#[tokio::test]
async fn the_next_page_of_a_list_has_the_same_filters() {
    let stage = Stage::start().await;
    let page = stage.mia.page(&format!("{ROLLBACKS}?phase=requested&limit=1")).await;
    assert!(unescaped(&page).contains("/rollbacks?phase=requested&limit=1&before="), "{page}");
}

#[tokio::test]
async fn a_tenant_without_a_grant_looks_like_one_that_does_not_exist() {
    let stage = Stage::start().await;
    for part in
        ["", "/environments/production", "/rollbacks", "/rollbacks/back-1", "/approvals/new", "/events/1"]
    {
        let page = |tenant: &str| format!("/t/{tenant}{part}");

        let (forbidden, absent) = (stage.mia.get(&page("shop")).await, stage.mia.get(&page("none")).await);

        assert_eq!((forbidden.status, absent.status), (404, 404), "{part}");
        assert_eq!(forbidden.text.replace("shop", "none"), absent.text, "{part}");
    }
}

#[tokio::test]
async fn a_reader_of_one_environment_sees_nothing_of_another() {
    let stage = Stage::start().await;
    Story::of(stage.admin(), "staging").deploy("web", "v7", 20).await;
    let noa = Visitor::new(&stage.guarded, "noa", "person", &["staging"], &["read"]).await;

    let overview = noa.page(OVERVIEW).await;

    assert!(overview.contains("staging") && overview.contains("v7"), "{overview}");
    assert!(!overview.contains("production") && !overview.contains("back-1"), "{overview}");
    for (page, of_api) in [
        (ENVIRONMENT, "/v1/environments/production/state"),
        (ROLLBACKS, "/v1/rollbacks"),
        (ROLLBACK, "/v1/rollbacks/back-1"),
    ] {
        let problem = noa.api.get(of_api).await;
        assert!(matches!(problem.status, 403 | 404), "{of_api}");
        assert_shows_problem(&noa.get(page).await, &problem);
    }
    let gate = noa.get(QUESTION).await;
    assert_eq!(gate.status, 403, "{}", gate.text);
    let of_production = Visitor::new(&stage.guarded, "ada", "person", &["production"], &["read"]).await;
    assert!(of_production.page(OVERVIEW).await.contains("back-1"), "its rollbacks that have not ended");
}

#[tokio::test]
async fn a_page_names_its_reader() {
    let stage = Stage::start().await;
    for path in PAGES {
        let page = stage.mia.page(path).await;
        assert!(page.contains("<strong>mia</strong>"), "{path}: {page}");
        assert!(!page.contains("Sign out"), "a token has no session: {path}");
    }
}

/// Texts that a browser could take for something else.
const HOSTILE: [&str; 3] =
    ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'; </code></pre><b>&amp;"];

#[tokio::test]
async fn hostile_texts_of_events_are_escaped_on_every_page() {
    let guarded = Guarded::start(FLAGS, "").await;
    let mia = Visitor::new(&guarded, "mia", "person", &["*"], &["*"]).await;
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let mut deployed = deploy(
            &format!("d{number}"),
            "2026-08-01T10:00:00Z",
            "production",
            &format!("web{number}"),
            text,
        );
        deployed["data"]["release"]["commit"] = text.into();
        deployed["data"]["reason"] = text.into();
        deployed["data"]["links"] = json!([{"rel": "pipeline", "href": "javascript:alert(1)"}]);
        mia.api.record_and_wait(&deployed).await;
    }
    let request = json!({
        "to": "1", "rollback_id": "back-1", "reason": HOSTILE[1], "force": true,
        "initiated_by": {"type": "person", "name": "mia"},
    });
    let requested = Story::on(&mia.api).request(request).await.ok();
    guarded.admin.wait_for_projections(requested["position"].as_u64().expect("a position")).await;

    let question = format!("{QUESTION}%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E").replace("web", "web1");
    for path in
        [OVERVIEW, ENVIRONMENT, ROLLBACKS, ROLLBACK, "/t/default/events/1", "/t/default/events/2", &*question]
    {
        let page = mia.page(path).await.to_lowercase();
        for tag in ["<script", "<img", "<b>", "href=\"javascript", "href='javascript"] {
            assert!(!page.contains(tag), "{path} has {tag}: {page}");
        }
    }
    let odd = mia.get("/t/default/environments/%3Cscript%3E?at=%3Cscript%3E").await;
    assert!(odd.status >= 400 && !odd.text.contains("<script"), "{}", odd.text);
}

#[tokio::test]
async fn an_entry_shows_the_principal_beside_the_actor_that_the_event_claims() {
    let stage = Stage::start().await;
    let data = json!({
        "environment": "production", "service": "web", "release": {"version": "v3"},
        "actor": {"type": "person", "name": "somebody-else"},
    });
    let claimed = event("claimed", "deploy.succeeded", "2026-08-01T11:00:00Z", data);
    let position = stage.mia.api.record_and_wait(&claimed).await;

    let page = stage.mia.page(&format!("/t/default/events/{position}")).await;

    assert!(page.contains("somebody-else") && page.contains("mia"), "{page}");
}

#[tokio::test]
async fn an_entry_that_a_page_shows_is_in_the_log_of_reads() {
    let stage = Stage::start().await;

    stage.mia.page(ENTRY).await;

    let read = loop {
        let log = stage.admin().get("/v1/access/reads?principal=mia").await.ok();
        let reads = log["reads"].as_array().expect("reads").clone();
        match reads.into_iter().find(|read| read["route"] == "/t/{tenant}/events/{position}") {
            Some(read) => break read,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((&read["tenant"], &read["status"]), (&json!("default"), &json!(200)), "{read}");
    assert_eq!((&read["entries"], &read["first_position"]), (&json!(1), &json!(2)), "{read}");
}
