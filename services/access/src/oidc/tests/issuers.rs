//! Issuers that fail, change their keys or are slow.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::support::{Issuer, KEYS, Pair, Reply, advance, claims, good, header, set, verifier};
use crate::oidc::OidcError::{KeysUnavailable, UnknownKey};
use crate::oidc::cache::{MAX_AGE, MAX_RETRY, REFRESH_AGE, UNKNOWN_KEY_INTERVAL};
use crate::oidc::fetch::FETCH_LIMIT;
use crate::oidc::{KeySource, Verifier};

/// Returns a good token of an issuer, signed with a key of this id.
fn token(pair: &Pair, id: &str, issuer: &Issuer) -> String {
    pair.token("ES256", header("ES256", id).to_string(), claims(&issuer.url).to_string())
}

fn keys(keys: &[Value]) -> Reply {
    Reply::Json(set(keys))
}

#[tokio::test]
async fn an_issuer_without_a_valid_answer_makes_its_tokens_unavailable_and_recovers() {
    let issuer = Issuer::start().await;
    let many: Vec<_> = (0..101).map(|number| KEYS.ec.jwk(&number.to_string())).collect();
    let mut private = KEYS.ec.jwk("ec");
    private["d"] = json!("AQ");
    for (name, reply) in [
        ("a server error", Reply::Status(500)),
        ("no such page", Reply::Status(404)),
        ("another success", Reply::Status(203)),
        ("a redirect", Reply::Redirect(format!("{}/other/keys", issuer.url))),
        ("10 MB", Reply::Large),
        ("no JSON", Reply::Json("<html>".to_owned())),
        ("nothing", Reply::Json(String::new())),
        ("another object", Reply::Json("{}".to_owned())),
        ("no list", Reply::Json("{\"keys\":{}}".to_owned())),
        ("an empty set", keys(&[])),
        ("more than 100 keys", keys(&many)),
        ("symmetric keys only", keys(&[json!({"kty": "oct", "kid": "ec", "k": "AAAA"})])),
        ("a private key", keys(&[private])),
    ] {
        let verifier = issuer.verifier();
        issuer.reply_with_keys(reply);
        let before = issuer.fetches();
        assert_eq!(verifier.verify(&good(&issuer.url)).await, Err(KeysUnavailable), "{name}");
        assert_eq!(issuer.fetches(), before + 1, "{name}");
        // Until the delay has passed, no further request is sent.
        assert_eq!(verifier.verify(&good(&issuer.url)).await, Err(KeysUnavailable), "{name}");
        assert_eq!(issuer.fetches(), before + 1, "{name}");
        issuer.reply_with_keys(Reply::Json(KEYS.set()));
        advance(Duration::from_secs(1)).await;
        assert!(verifier.verify(&good(&issuer.url)).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_discovery_document_is_for_exactly_the_configured_issuer() {
    let issuer = Issuer::start().await;
    let url = issuer.url.as_str();
    let keys = format!("{url}/keys");
    let document =
        |issuer: &str, keys: &str| Reply::Json(json!({"issuer": issuer, "jwks_uri": keys}).to_string());
    for (name, reply) in [
        ("another issuer", document("https://other.example", &keys)),
        ("a trailing slash", document(&format!("{url}/"), &keys)),
        ("no issuer", Reply::Json(json!({"jwks_uri": keys}).to_string())),
        ("no keys", Reply::Json(json!({"issuer": url}).to_string())),
        ("keys without TLS", document(url, "http://keys.example/keys")),
        ("a file", document(url, "file:///etc/passwd")),
        ("a relative URL", document(url, "/keys")),
        ("credentials", document(url, &keys.replace("http://", "http://user:secret@"))),
        (
            "the issuer twice",
            Reply::Json(format!(r#"{{"issuer":"{url}","issuer":"{url}","jwks_uri":"{keys}"}}"#)),
        ),
        ("a redirect", Reply::Redirect(keys.clone())),
        ("a server error", Reply::Status(503)),
        ("10 MB", Reply::Large),
        ("no JSON", Reply::Json("no".to_owned())),
    ] {
        issuer.reply_with_document(reply);
        assert_eq!(issuer.verifier().verify(&good(url)).await, Err(KeysUnavailable), "{name}");
        assert_eq!(issuer.fetches(), 0, "{name}");
    }
    issuer.reply_with_document(document(url, &keys));
    assert!(issuer.verifier().verify(&good(url)).await.is_ok());
}

#[tokio::test]
async fn keys_come_from_a_url_or_from_a_file_as_well() {
    let issuer = Issuer::start().await;
    issuer.reply_with_document(Reply::Status(500));
    let from_url = verifier(&issuer.url, KeySource::Url(format!("{}/keys", issuer.url)));
    assert!(from_url.verify(&good(&issuer.url)).await.is_ok());

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys.json");
    let from_file = verifier(&issuer.url, KeySource::File(path.clone()));
    assert_eq!(from_file.verify(&good(&issuer.url)).await, Err(KeysUnavailable));
    for text in [" ".repeat(256 * 1024 + 1), KEYS.set()] {
        let is_valid = text.starts_with('{');
        std::fs::write(&path, text).expect("written");
        advance(MAX_RETRY).await;
        assert_eq!(from_file.verify(&good(&issuer.url)).await.is_ok(), is_valid);
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_is_given_up_after_the_time_limit() {
    let issuer = Issuer::start().await;
    issuer.reply_with_keys(Reply::Hang);
    let verifier = issuer.verifier();
    let waiting = start(&verifier, good(&issuer.url));
    issuer.arrived(1).await;
    advance(FETCH_LIMIT).await;
    assert_eq!(waiting.await.expect("no panic"), Err(KeysUnavailable));
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_after_the_time_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let verifier = verifier(&url, KeySource::Url(format!("{url}/keys")));
    let waiting = start(&verifier, good(&url));
    let (mut connection, _) = listener.accept().await.expect("a connection");
    let mut request = [0; 4096];
    assert!(connection.read(&mut request).await.expect("read") > 0);
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"keys\"").await.expect("written");
    advance(FETCH_LIMIT).await;
    assert_eq!(waiting.await.expect("no panic"), Err(KeysUnavailable));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_tried_less_and_less_often() {
    let issuer = Issuer::start().await;
    issuer.reply_with_keys(Reply::Status(500));
    let verifier = issuer.verifier();
    for (fetches, delay) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
        assert_eq!(verifier.verify(&good(&issuer.url)).await, Err(KeysUnavailable));
        assert_eq!(issuer.fetches(), fetches);
        advance(Duration::from_secs(delay) - Duration::from_millis(500)).await;
        assert_eq!(verifier.verify(&good(&issuer.url)).await, Err(KeysUnavailable));
        assert_eq!(issuer.fetches(), fetches);
        advance(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_new_key_works_after_one_refresh_and_an_old_one_stops() {
    let issuer = Issuer::start().await;
    let (one, two) = (Pair::ec(false), Pair::ec(false));
    issuer.reply_with_keys(keys(&[one.jwk("one")]));
    let verifier = issuer.verifier();
    let (old, new) = (token(&one, "one", &issuer), token(&two, "two", &issuer));
    assert!(verifier.verify(&old).await.is_ok());

    issuer.reply_with_keys(keys(&[two.jwk("two")]));
    assert_eq!(verifier.verify(&new).await, Err(UnknownKey));
    assert_eq!(issuer.fetches(), 1, "the last fetch was less than 10 s before");
    advance(UNKNOWN_KEY_INTERVAL).await;
    assert!(verifier.verify(&new).await.is_ok());
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(verifier.verify(&old).await, Err(UnknownKey));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn old_keys_are_refreshed_in_the_background() {
    let issuer = Issuer::start().await;
    let (one, two) = (Pair::ec(false), Pair::ec(false));
    issuer.reply_with_keys(keys(&[one.jwk("one")]));
    let verifier = issuer.verifier();
    let (old, new) = (token(&one, "one", &issuer), token(&two, "two", &issuer));
    assert!(verifier.verify(&old).await.is_ok());

    issuer.reply_with_keys(Reply::Hang);
    advance(REFRESH_AGE).await;
    assert!(verifier.verify(&old).await.is_ok(), "a refresh does not delay a known key");
    issuer.arrived(2).await;
    let waiting = start(&verifier, new);
    tokio::task::yield_now().await;
    assert!(verifier.verify(&old).await.is_ok());
    issuer.reply_with_keys(keys(&[two.jwk("two")]));
    assert!(waiting.await.expect("no panic").is_ok(), "an unknown key waits for the running refresh");
    assert_eq!(verifier.verify(&old).await, Err(UnknownKey));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn keys_survive_an_outage_of_a_day() {
    let issuer = Issuer::start().await;
    let verifier = issuer.verifier();
    let unknown = token(&KEYS.ec, "unknown", &issuer);
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    issuer.reply_with_keys(Reply::Status(503));
    let step = Duration::from_secs(60 * 60);
    for hour in 1..24 {
        advance(step).await;
        assert!(verifier.verify(&good(&issuer.url)).await.is_ok(), "hour {hour}");
        // It waits for the refresh that the first token started. The key may be new, so the answer is temporary.
        assert_eq!(verifier.verify(&unknown).await, Err(KeysUnavailable), "hour {hour}");
    }
    advance(step).await;
    assert_eq!(verifier.verify(&good(&issuer.url)).await, Err(KeysUnavailable));
    assert_eq!(step * 24, MAX_AGE);
    issuer.reply_with_keys(Reply::Json(KEYS.set()));
    advance(MAX_RETRY).await;
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    assert_eq!(verifier.verify(&unknown).await, Err(UnknownKey));
}

#[tokio::test]
async fn an_empty_set_withdraws_the_keys() {
    let issuer = Issuer::start().await;
    let verifier = issuer.verifier();
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    issuer.reply_with_keys(keys(&[]));
    advance(UNKNOWN_KEY_INTERVAL).await;
    let unknown = token(&KEYS.ec, "unknown", &issuer);
    assert_eq!(verifier.verify(&unknown).await, Err(KeysUnavailable));
    assert_eq!(verifier.verify(&good(&issuer.url)).await, Err(KeysUnavailable));
}

#[tokio::test]
async fn a_thousand_concurrent_unknown_keys_cause_two_fetches_at_most() {
    let issuer = Issuer::start().await;
    let verifier = issuer.verifier();
    for round in 1..=2 {
        let tokens = (0..1000).map(|number| token(&KEYS.ec, &format!("unknown {number}"), &issuer));
        let waiting: Vec<_> = tokens.map(|token| start(&verifier, token)).collect();
        for waiting in waiting {
            assert_eq!(waiting.await.expect("no panic"), Err(UnknownKey));
        }
        assert_eq!(issuer.fetches(), round);
        advance(UNKNOWN_KEY_INTERVAL).await;
    }
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_cancelled_verification_does_not_block_others() {
    let issuer = Issuer::start().await;
    issuer.reply_with_keys(Reply::Hang);
    let verifier = issuer.verifier();
    let first = start(&verifier, good(&issuer.url));
    issuer.arrived(1).await;
    let second = start(&verifier, good(&issuer.url));
    first.abort();
    assert!(first.await.expect_err("cancelled").is_cancelled());
    issuer.reply_with_keys(Reply::Json(KEYS.set()));
    assert!(second.await.expect("no panic").is_ok());
    assert!(verifier.verify(&good(&issuer.url)).await.is_ok());
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn a_fetch_that_ends_with_its_runtime_is_not_waited_for() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let (verifier, url) = first.block_on(async {
        let issuer = Issuer::start().await;
        issuer.reply_with_keys(Reply::Hang);
        let verifier = issuer.verifier();
        start(&verifier, good(&issuer.url));
        issuer.arrived(1).await;
        (verifier, issuer.url)
    });
    drop(first);
    assert_eq!(runtime().block_on(verifier.verify(&good(&url))), Err(KeysUnavailable));
}

/// Verifies a token in a task.
fn start(verifier: &Verifier, token: String) -> tokio::task::JoinHandle<Verified> {
    let verifier = verifier.clone();
    tokio::spawn(async move { verifier.verify(&token).await })
}

type Verified = Result<ledger_domain::Principal, crate::oidc::OidcError>;
