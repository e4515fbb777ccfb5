//! Pages need credentials, and show in their place where to sign in.

use ledger_tests::InProcess;

use super::visitor::Visitor;
use super::{APPROVALS, PAGES, QUESTION, Stage, VOTE};

#[tokio::test]
async fn every_page_without_credentials_redirects_to_the_sign_in_that_leads_back_to_it() {
    let stage = Stage::start().await;
    let stranger = Visitor::stranger(&stage.guarded.service);

    for path in PAGES.into_iter().chain(["/", "/t/nowhere", "/t/default/none"]) {
        let answer = stranger.get(path).await;

        assert_eq!(answer.status, 303, "{path}: {}", answer.text);
        let location = answer.header("location");
        assert!(location.starts_with("/signin"), "{path}: {location}");
        assert!(path == "/" || location.starts_with("/signin?to=%2Ft%2F"), "{path}: {location}");
    }
}

#[tokio::test]
async fn a_form_without_credentials_is_a_page_that_says_so() {
    let stage = Stage::start().await;
    let stranger = Visitor::stranger(&stage.guarded.service);
    let (_, head) = stage.admin().positions().await;

    for (path, page) in [(VOTE, "%2Frollbacks%2Fback-1"), (APPROVALS, "%2Fapprovals%2Fnew")] {
        let answer = stranger.submit(path, &[("decision", "approve")]).await;

        assert_eq!(answer.status, 401, "{path}: {}", answer.text);
        assert_eq!(answer.content_type, "text/html; charset=utf-8", "{path}");
        let sign_in = format!("href=\"/signin?to=%2Ft%2Fdefault{page}\"");
        assert!(answer.text.contains(&sign_in), "{path}: {}", answer.text);
    }
    assert_eq!(stage.admin().positions().await.1, head, "nothing is recorded");
}

#[tokio::test]
async fn the_icon_and_the_style_sheet_need_no_credentials_and_may_be_kept() {
    let stage = Stage::start().await;
    let page = stage.mia.page("/t/default").await;
    let paths: Vec<_> =
        page.split("href=\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();

    let [icon, style] = paths[..] else { panic!("{paths:?}") };
    for (path, content_type) in [(icon, "image/svg+xml"), (style, "text/css; charset=utf-8")] {
        let file = Visitor::stranger(&stage.guarded.service).get(&format!("/assets/{path}")).await;
        assert_eq!((file.status, &*file.content_type), (200, content_type));
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
    }
    let other = Visitor::stranger(&stage.guarded.service).get("/assets/0000000000000000/pages.css").await;
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn a_service_without_authentication_shows_pages_and_no_form_that_records() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let anyone = Visitor::stranger(&service);
    let deploy = ledger_tests::deploy("d1", "2026-08-01T10:00:00Z", "production", "web", "v1");
    anyone.api.record_and_wait(&deploy).await;

    let root = anyone.get("/").await;
    assert_eq!((root.status, root.header("location")), (303, "/t/default"));
    for path in ["/t/default", "/t/default/environments/production", &*QUESTION.replace("v3", "v1")] {
        let page = anyone.page(path).await;
        assert!(!page.contains("method=\"post\""), "{path}: {page}");
    }
    let fields = [
        ("decision", "approve"),
        ("environment", "production"),
        ("service", "web"),
        ("version", "v1"),
        ("event_id", "0193f3a0-7c2b-7d11-9a52-6b4f5f0e1d2c"),
    ];
    let refused = anyone.submit(APPROVALS, &fields).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_eq!(anyone.api.positions().await.1, 1, "nothing is recorded");
}
