//! Sign-in of people with issuers that lie, fail or take other credentials than usual.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use ledger_domain::PrincipalKind;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::support::{KEYS, NOW, header as token_header, now};
use crate::oidc::{
    Attempt, AuthorizationResponse, ClientSettings, IssuerSettings, KeySource, SignIn, SignInError, Verifier,
};

const CLIENT: &str = "ledger";
const REDIRECT: &str = "https://ledger.example/signin/callback";

/// Answers of an issuer, and the requests that it received.
#[derive(Default)]
struct Shared {
    document: Mutex<Value>,
    discoveries: Mutex<usize>,
    token: Mutex<(u16, String)>,
    asked: Mutex<Vec<(HeaderMap, String)>>,
}

/// An issuer that serves HTTP on this machine until its test ends.
struct Issuer {
    url: String,
    shared: Arc<Shared>,
}

async fn discover(State(shared): State<Arc<Shared>>) -> String {
    *shared.discoveries.lock().expect("unlocked") += 1;
    shared.document.lock().expect("unlocked").to_string()
}

async fn exchange(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = String::from_utf8(body.to_vec()).expect("UTF-8");
    shared.asked.lock().expect("unlocked").push((headers, form));
    let (status, text) = shared.token.lock().expect("unlocked").clone();
    let location = [(header::LOCATION, "/elsewhere")];
    (StatusCode::from_u16(status).expect("a status"), location, text).into_response()
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discover))
            .route("/token", post(exchange))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let issuer = Self { url, shared };
        issuer.change_document(json!({}));
        issuer
    }

    /// Serves a correct discovery document with these members.
    fn change_document(&self, changes: Value) {
        let url = &self.url;
        let mut document = json!({
            "issuer": url, "authorization_endpoint": format!("{url}/authorize?tenant=a#part"),
            "token_endpoint": format!("{url}/token"),
        });
        for (name, value) in changes.as_object().expect("an object") {
            document[name] = value.clone();
        }
        *self.shared.document.lock().expect("unlocked") = document;
    }

    fn reply(&self, status: u16, text: impl Into<String>) {
        *self.shared.token.lock().expect("unlocked") = (status, text.into());
    }

    fn sign_in(&self, secret: Option<&str>) -> SignIn {
        let mut settings = IssuerSettings::generic(&self.url, CLIENT, PrincipalKind::Person);
        settings.keys = KeySource::Fixed(KEYS.set());
        let verifier = Verifier::new(vec![settings], now).expect("valid settings");
        let client = ClientSettings {
            client_id: CLIENT.to_owned(),
            client_secret: secret.map(|secret| secret.to_owned().into()),
            scope: "openid profile".to_owned(),
            redirect_url: REDIRECT.to_owned(),
        };
        verifier.sign_in(&self.url, client).expect("valid settings")
    }

    /// Returns the ID token of `mia` with the nonce of a sign-in.
    fn id_token(&self, nonce: &str) -> String {
        let claims = json!({
            "iss": self.url, "sub": "4711", "aud": CLIENT, "exp": NOW + 300, "iat": NOW - 5, "nonce": nonce,
            "preferred_username": "mia",
        });
        KEYS.ec.token("ES256", token_header("ES256", "ec").to_string(), claims.to_string())
    }
}

fn fields(url: &str) -> HashMap<String, String> {
    let url: Url = url.parse().expect("a URL");
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn answer(fields: &HashMap<String, String>) -> AuthorizationResponse {
    AuthorizationResponse {
        code: Some("a code".to_owned()),
        state: Some(fields["state"].clone()),
        iss: None,
        error: None,
        error_description: None,
    }
}

#[tokio::test]
async fn a_request_has_what_ties_the_answer_to_it() {
    let issuer = Issuer::start().await;

    let (url, attempt) = issuer.sign_in(None).begin().await.expect("an address");

    assert!(url.starts_with(&format!("{}/authorize?tenant=a&response_type=code&", issuer.url)), "{url}");
    let fields = fields(&url);
    assert_eq!((&*fields["client_id"], &*fields["redirect_uri"]), (CLIENT, REDIRECT));
    assert_eq!((&*fields["scope"], &*fields["code_challenge_method"]), ("openid profile", "S256"));
    let secrets = attempt.expose();
    assert!(secrets.starts_with(&format!("{}.{}.", fields["state"], fields["nonce"])), "{secrets}");
    let verifier = secrets.rsplit('.').next().expect("a verifier");
    assert!(!url.contains(verifier) && !url.contains('#'), "{url}");
}

#[tokio::test]
async fn a_secret_of_the_client_is_sent_in_the_header_and_encoded() {
    let issuer = Issuer::start().await;
    let sign_in = issuer.sign_in(Some("a:b %"));
    let (url, attempt) = sign_in.begin().await.expect("an address");
    let fields = fields(&url);
    issuer.reply(200, json!({"id_token": issuer.id_token(&fields["nonce"])}).to_string());

    let principal = sign_in.complete(&attempt, &answer(&fields)).await.expect("a person");

    assert_eq!((principal.kind, principal.name.as_str()), (PrincipalKind::Person, "mia"));
    let asked = issuer.shared.asked.lock().expect("unlocked").clone();
    let [(headers, form)] = &asked[..] else { panic!("{} requests", asked.len()) };
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    // ledger:a%3Ab+%25
    assert_eq!(headers["authorization"], "Basic bGVkZ2VyOmElM0FiKyUyNQ==");
    assert!(form.starts_with("grant_type=authorization_code&code=a+code&"), "{form}");
    assert!(form.contains("&code_verifier=") && !form.contains("client_secret"), "{form}");
}

#[tokio::test]
async fn a_secret_is_a_field_for_an_issuer_that_takes_no_header() {
    let issuer = Issuer::start().await;
    issuer.change_document(json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}));
    let sign_in = issuer.sign_in(Some("a:b"));
    let (url, attempt) = sign_in.begin().await.expect("an address");
    issuer.reply(400, r#"{"error": "invalid_grant"}"#);

    let failure = sign_in.complete(&attempt, &answer(&fields(&url))).await;

    assert_eq!(failure, Err(SignInError::Reported("invalid_grant".to_owned())));
    let asked = issuer.shared.asked.lock().expect("unlocked").clone();
    assert!(asked[0].1.contains("&client_secret=a%3Ab"), "{}", asked[0].1);
    assert!(!asked[0].0.contains_key("authorization"));
}

#[tokio::test]
async fn an_answer_to_another_request_costs_the_issuer_nothing() {
    let issuer = Issuer::start().await;
    let sign_in = issuer.sign_in(None);
    let (url, attempt) = sign_in.begin().await.expect("an address");
    let other = Attempt::generate().expect("random");
    let right = answer(&fields(&url));
    let without_state = AuthorizationResponse { state: None, ..answer(&fields(&url)) };
    let of_another =
        AuthorizationResponse { iss: Some("https://evil.example".into()), ..answer(&fields(&url)) };

    assert_eq!(sign_in.complete(&other, &right).await, Err(SignInError::OtherSignIn));
    assert_eq!(sign_in.complete(&attempt, &without_state).await, Err(SignInError::OtherSignIn));
    assert_eq!(sign_in.complete(&attempt, &of_another).await, Err(SignInError::OtherIssuer));
    issuer.reply(400, r#"{"error": "invalid_grant"}"#);
    assert!(issuer.shared.asked.lock().expect("unlocked").is_empty());
}

#[tokio::test]
async fn an_answer_of_the_token_endpoint_that_is_none_is_a_failure_for_the_moment() {
    let issuer = Issuer::start().await;
    let sign_in = issuer.sign_in(None);
    let (url, attempt) = sign_in.begin().await.expect("an address");
    let fields = fields(&url);
    let token = issuer.id_token(&fields["nonce"]);
    let right = json!({"id_token": token}).to_string();
    for (status, text) in [
        (200, String::new()),
        (200, "{}".to_owned()),
        (200, r#"{"id_token": 7}"#.to_owned()),
        (200, format!(r#"{{"id_token": "{token}", "id_token": "x"}}"#)),
        (200, format!("{right}{}", " ".repeat(300_000))),
        (302, right.clone()),
        (500, right.clone()),
        (500, "<html>".to_owned()),
    ] {
        issuer.reply(status, text);
        let failure = sign_in.complete(&attempt, &answer(&fields)).await.expect_err("a failure");
        assert_eq!(failure, SignInError::Unavailable, "{status}");
        assert!(failure.is_temporary());
    }
    issuer.reply(200, right);
    assert!(sign_in.complete(&attempt, &answer(&fields)).await.is_ok());
}

#[tokio::test]
async fn a_document_of_another_issuer_or_with_other_addresses_is_refused_and_asked_for_once() {
    for changes in [
        json!({"issuer": "https://evil.example"}),
        json!({"authorization_endpoint": "http://evil.example/authorize"}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"token_endpoint": "http://evil.example/token"}),
        json!({"token_endpoint": null}),
    ] {
        let issuer = Issuer::start().await;
        issuer.change_document(changes.clone());
        let sign_in = issuer.sign_in(None);

        for _ in 0..3 {
            let failure = sign_in.begin().await.map(|(url, _)| url);
            assert_eq!(failure, Err(SignInError::Unavailable), "{changes}");
        }

        assert_eq!(*issuer.shared.discoveries.lock().expect("unlocked"), 1, "{changes}");
    }
}

#[tokio::test]
async fn a_client_that_closes_the_connection_does_not_stop_the_request_for_the_addresses() {
    let issuer = Issuer::start().await;
    let sign_in = issuer.sign_in(None);

    tokio::select! {
        biased;
        _ = sign_in.begin() => panic!("it waits for the issuer"),
        () = std::future::ready(()) => {}
    }

    assert!(sign_in.begin().await.is_ok());
    assert_eq!(*issuer.shared.discoveries.lock().expect("unlocked"), 1);
}

#[tokio::test]
async fn an_issuer_that_names_itself_must_name_itself() {
    let issuer = Issuer::start().await;
    issuer.change_document(json!({"authorization_response_iss_parameter_supported": true}));
    let sign_in = issuer.sign_in(None);
    let (url, attempt) = sign_in.begin().await.expect("an address");
    let fields = fields(&url);
    issuer.reply(200, json!({"id_token": issuer.id_token(&fields["nonce"])}).to_string());

    assert_eq!(sign_in.complete(&attempt, &answer(&fields)).await, Err(SignInError::OtherIssuer));
    let named = AuthorizationResponse { iss: Some(issuer.url.clone()), ..answer(&fields) };
    assert!(sign_in.complete(&attempt, &named).await.is_ok());
}
