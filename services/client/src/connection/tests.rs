//! Requests contain the tenant, the path and the credentials; failures show no secret.

use super::*;

fn client(url: &str, tenant: &str) -> Client {
    let tenant = TenantName::parse(tenant).expect("a name");
    Client::new(url.parse().expect("a URL"), &tenant)
}

#[test]
fn every_url_contains_the_tenant_and_the_path_of_the_proxy() {
    let url = |url: &str, tenant| client(url, tenant).url(&["environments", "a b", "state"]).to_string();
    assert_eq!(url("http://127.0.0.1:8080", "default"), "http://127.0.0.1:8080/v1/environments/a%20b/state");
    assert_eq!(
        url("https://example.com/ledger/", "shop"),
        "https://example.com/ledger/v1/tenants/shop/environments/a%20b/state"
    );
}

#[tokio::test]
async fn credentials_are_never_shown() {
    let client = client("http://ci:secret@127.0.0.1:1/behind/a/proxy", "default");
    let error = client.get(client.url(&["position"])).await.expect_err("nothing listens");

    assert!(error.to_string().contains("http://127.0.0.1:1/ "), "{error}");
    assert_eq!(client.ledger().as_str(), "http://127.0.0.1:1/behind/a/proxy/v1");
    let shown = format!("{client:?} {error} {error:?} {}", client.url(&["position"]));
    assert!(!shown.contains("secret") && !shown.contains("ci:"), "{shown}");
}

/// Serves a router on a free port; returns the URL, with credentials.
async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://ci:s3%40cret@{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn credentials_are_sent_with_every_request() {
    let header = |headers: axum::http::HeaderMap| async move {
        headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned()
    };
    let url = serve(axum::Router::new().fallback(header)).await;
    let client = client(&url, "default");
    // ci:s3@cret
    let basic = "Basic Y2k6czNAY3JldA==";
    assert_eq!(client.get(client.url(&["position"])).await.expect("an answer"), basic);
    let posted = client.post(client.url(&["backtests"]), &(), None).await.expect("an answer");
    assert_eq!(posted, basic);
}

#[tokio::test]
async fn an_endless_response_is_rejected_after_the_limit() {
    let endless = |status| {
        move || async move {
            let chunks =
                futures::stream::repeat(Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 4096])));
            (status, axum::body::Body::from_stream(chunks))
        }
    };
    let router = axum::Router::new()
        .route("/v1/ok", axum::routing::get(endless(StatusCode::OK)))
        .route("/v1/error", axum::routing::get(endless(StatusCode::CONFLICT)));
    let url = serve(router).await;
    let client = client(&url, "default");
    for path in ["ok", "error"] {
        let error = client.get(client.url(&[path])).await.expect_err("it does not end");
        let text = error.to_string();
        assert!(text.contains("the response has more than 67108864 bytes"), "{text}");
        assert!(error.is_temporary());
    }
}

#[tokio::test]
async fn the_error_for_an_absent_service_names_it_and_says_what_to_do() {
    // Port 1 is reserved: nothing listens there.
    let client = client("http://127.0.0.1:1", "default");
    let error = client.get(client.url(&["position"])).await.expect_err("nothing listens");
    assert!(error.is_temporary());
    let text = error.to_string();
    assert!(text.contains("http://127.0.0.1:1/") && text.contains("release-ledger up"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn every_error_of_a_service_names_its_address_without_credentials() {
    let problem = r#"{"type":"urn:release-ledger:problem:unknown-tenant","title":"Unknown tenant"}"#;
    for (status, body) in [(404, problem), (503, problem), (502, "<html>"), (200, "")] {
        let status = StatusCode::from_u16(status).expect("a status");
        let url = serve(axum::Router::new().fallback(move || async move { (status, body) })).await;
        let client = client(&url, "default");

        let error = match client.get(client.url(&["position"])).await {
            Ok(_) => client.invalid_response("empty".to_owned()),
            Err(error) => error,
        };

        let shown = error.to_string();
        let host = url.rsplit_once('@').expect("credentials").1;
        assert!(shown.contains(host) && !shown.contains("s3"), "{shown}");
    }
}

#[tokio::test]
async fn an_unknown_environment_is_compared_with_those_that_exist() {
    let answer = |uri: axum::http::Uri| async move {
        match uri.path() {
            "/v1/environments" => {
                let one = r#"{"name":"production","first_position":1,"changes":1}"#;
                (StatusCode::OK, format!(r#"{{"position":1,"environments":[{one}]}}"#))
            }
            path => {
                let name = path.split('/').nth(3).unwrap_or_default();
                let detail = format!("unknown environment {name}: no event names it");
                let kind = "urn:release-ledger:problem:unknown-environment";
                (
                    StatusCode::NOT_FOUND,
                    format!(r#"{{"type":"{kind}","title":"Unknown","detail":"{detail}"}}"#),
                )
            }
        }
    };
    let url = serve(axum::Router::new().fallback(answer)).await;
    let client = client(&url, "default");

    for (name, expected) in [
        ("prodution", "unknown environment prodution: no event names it; did you mean production? ("),
        ("dev", "unknown environment dev: no event names it ("),
    ] {
        let state = client.url(&["environments", name, "state"]);
        let error = client.get(state).await.expect_err("a problem").to_string();
        assert!(error.contains(expected), "{error}");
    }
}
