//! Tests of requests of browsers before they reach a page. The database of the sessions does not answer.

use chrono::TimeDelta;
use futures::future::join_all;

use super::*;

/// Returns a service with pages, whose clients need credentials, and the token of its proxy.
fn service() -> (Service, String) {
    let token = ApiToken::generate().expect("random numbers");
    let proxy = ProxySettings {
        secret_header: HeaderName::from_static("x-proxy"),
        secret_hash: token.hash(),
        user_header: HeaderName::from_static("x-user"),
    };
    let clock = || DateTime::UNIX_EPOCH;
    let authenticator = Authenticator::new(Directory::default(), None, Some(proxy), clock);
    let sessions = Sessions::new(&no_projections(), TimeDelta::hours(1), clock);
    let pages = Pages::new(None, Some(sessions), Vec::new());
    let service = Service::with_pages(Authentication::Required(Arc::new(authenticator)), Some(pages));
    (service, token.expose().to_owned())
}

/// Returns the cookie of a session, which no database has.
fn cookie() -> String {
    format!("__Host-release-ledger={}", "A".repeat(43))
}

#[tokio::test]
async fn a_browser_without_a_session_is_led_to_the_sign_in() {
    let (service, _) = service();
    let page = service.get("/t/default?at=-1", &[]).await;
    assert_eq!((page.status, page.header("location")), (303, "/signin?to=%2Ft%2Fdefault%3Fat%3D%2D1"));
    assert_eq!(page.header("cache-control"), "no-store");

    let same_origin = [("sec-fetch-site", "same-origin")];
    let form = service.send(request("POST", "/t/default/approvals", &same_origin, "")).await;
    assert_eq!((form.status, form.header("location")), (401, ""));
}

#[tokio::test]
async fn the_database_is_asked_for_a_session_of_a_page_only() {
    let (service, token) = service();
    let cookie = cookie();
    let headers = [("cookie", &*cookie)];

    assert_eq!(service.get("/t", &headers).await.status, 503);
    for path in ["/v1/whoami", "/metrics", "/v1/tenants/default/overview"] {
        assert_eq!(service.get(path, &headers).await.status, 401, "{path}");
    }
    assert_eq!(service.get("/signin", &headers).await.status, 200);
    let with_both = [("cookie", &*cookie), ("x-proxy", &*token), ("x-user", "ada")];
    assert_eq!(service.get("/t", &with_both).await.status, 404, "the proxy takes precedence");
}

#[tokio::test]
async fn a_form_of_another_site_is_rejected_before_its_session_is_looked_up() {
    let (service, _) = service();
    let cookie = cookie();
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("x-none", "")]
    {
        for path in ["/t/default/approvals", "/signin", "/signout"] {
            let headers = [("cookie", &*cookie), (name, value)];
            let answer = service.send(request("POST", path, &headers, "")).await;
            assert_eq!(answer.status, 403, "{path} {name}: {value}");
        }
    }
    let of_api = service.send(request("POST", "/v1/events", &[("sec-fetch-site", "cross-site")], "")).await;
    assert_eq!(of_api.status, 401, "the API has no cookies to protect");
}

#[tokio::test]
async fn wrong_secrets_count_as_failures_of_their_address() {
    let (service, _) = service();
    let ask = async |address: [u8; 4]| {
        let mut request = request("GET", "/t/default", &[("cookie", "__Host-release-ledger=wrong")], "");
        request.extensions_mut().insert(Peer(SocketAddr::from((address, 80))));
        service.send(request).await
    };

    let first = ask([10, 0, 0, 1]).await;
    assert_eq!(first.status, 303);
    assert!(first.header("set-cookie").contains("Max-Age=0"), "{}", first.header("set-cookie"));
    assert_eq!(ask([10, 0, 0, 1]).await.status, 303);
    let refused = ask([10, 0, 0, 1]).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("set-cookie").contains("Max-Age=0"), "{}", refused.header("set-cookie"));
    assert_eq!(ask([10, 0, 0, 2]).await.status, 303);
    advance(Duration::from_secs(30));
    assert_eq!(ask([10, 0, 0, 1]).await.status, 303);
}

#[tokio::test]
async fn the_form_of_a_stranger_uses_no_budget_of_the_bodies_of_others() {
    let (service, _) = service();
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    for (length, status) in [((16 << 10) - 6, 401), ((16 << 10) - 5, 413)] {
        let form = format!("token={}", "x".repeat(length));
        let answer = service.send(request("POST", "/signin", &headers, form)).await;
        assert_eq!(answer.status, status, "{length}");
    }
}

#[tokio::test]
async fn sign_outs_with_wrong_secrets_count_as_failures_of_their_address() {
    let (service, _) = service();
    let sign_out = async |cookie: &str| {
        let headers = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
        let mut request = request("POST", "/signout", &headers, "");
        request.extensions_mut().insert(Peer(SocketAddr::from(([10, 0, 0, 1], 80))));
        service.send(request).await
    };

    for status in [303, 303, 429] {
        let answer = sign_out("__Host-release-ledger=wrong").await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(answer.header("set-cookie").contains("Max-Age=0"), "{}", answer.header("set-cookie"));
    }
    assert_eq!(sign_out("a=b").await.status, 303, "without a cookie there is nothing to guess");
}

#[tokio::test]
async fn a_flood_of_sign_ins_without_credentials_never_asks_the_database() {
    let (service, _) = service();
    let form = "token=wrong&to=%2F";
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let requests = (0..100).map(|_| service.send(request("POST", "/signin", &headers, form)));
    for answer in join_all(requests).await {
        assert_eq!(answer.status, 401, "{}", answer.text);
    }
    for path in ["/signin", "/signin?to=%2Ft%2Fdefault"] {
        assert_eq!(service.get(path, &[]).await.status, 200, "{path}");
    }
    // There is no sign-in in progress: nothing is exchanged.
    assert_eq!(service.get("/signin/callback?code=a&state=b", &[]).await.status, 400);
}

#[tokio::test]
async fn neither_a_cookie_nor_a_code_is_in_the_log() {
    let (log, (service, _)) = (Log::default(), service());
    let _guard = log.capture();
    let cookie = cookie();

    service.get("/t/default?secret=hunter2", &[("cookie", &*cookie)]).await;
    service.get("/signin/callback?code=hunter2&state=hunter2", &[("cookie", &*cookie)]).await;

    assert!(log.lines().len() >= 2, "{}", log.text());
    let text = log.text();
    assert!(!text.contains("AAAA") && !text.contains("hunter2"), "{text}");
}
