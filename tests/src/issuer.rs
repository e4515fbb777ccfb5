//! An OpenID Connect issuer on this machine, whose tokens have the algorithm of GitHub Actions, and with which people sign
//! in with a browser.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use axum::extract::{Form, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

/// Lifetime of a token, in seconds.
const LIFETIME: u64 = 6 * 60 * 60;

/// An issuer with one RSA key, which serves its discovery document and its key set over HTTP until the process ends. People
/// sign in with a browser: the one of [`Issuer::set_user`], at once.
pub struct Issuer {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    key: RsaKeyPair,
    user: Mutex<Option<User>>,
    /// Sign-ins whose code was not exchanged yet.
    sign_ins: Mutex<HashMap<String, SignIn>>,
    /// Members that replace those of ID tokens.
    replaced_claims: Mutex<Value>,
}

#[derive(Clone)]
struct User {
    subject: String,
    name: String,
}

struct SignIn {
    user: User,
    client_id: String,
    redirect_uri: String,
    nonce: String,
    challenge: String,
}

impl Issuer {
    /// Audience of the tokens of jobs.
    pub const AUDIENCE: &str = "https://ledger.example";
    /// Identifier of the repository whose jobs have tokens.
    pub const REPOSITORY_ID: &str = "74000001";

    /// Starts an issuer on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let document = json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"),
            "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
            "authorization_response_iss_parameter_supported": true,
        });
        let document = document.to_string();
        let (modulus, exponent) = (key.public_key().modulus(), key.public_key().exponent());
        let jwk = json!({
            "kty": "RSA", "kid": "test", "use": "sig", "alg": "RS256",
            "n": base64(modulus.big_endian_without_leading_zero()),
            "e": base64(exponent.big_endian_without_leading_zero()),
        });
        let keys = json!({"keys": [jwk]}).to_string();
        let served =
            |text: String| get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text) });
        let shared = Arc::new(Shared {
            url,
            key,
            user: Mutex::default(),
            sign_ins: Mutex::default(),
            replaced_claims: Mutex::new(json!({})),
        });
        let routes: Router = Router::new()
            .route("/.well-known/openid-configuration", served(document))
            .route("/keys", served(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(exchange))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { shared }
    }

    /// Returns the URL: the claim `iss` of the tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Makes this person the user of every browser that a service sends to the issuer.
    pub fn set_user(&self, subject: &str, name: &str) {
        let user = User { subject: subject.to_owned(), name: name.to_owned() };
        *self.shared.user.lock().unwrap_or_else(PoisonError::into_inner) = Some(user);
    }

    /// Replaces members of the ID tokens of people who sign in from now on; null removes one.
    pub fn replace_claims(&self, claims: Value) {
        *self.shared.replaced_claims.lock().unwrap_or_else(PoisonError::into_inner) = claims;
    }

    /// Returns a token with these claims, the issuer, and times at which it is valid.
    #[must_use]
    pub fn token(&self, claims: Value) -> String {
        self.shared.sign(&self.shared.complete(claims))
    }

    /// Returns the token that GitHub Actions issue to a job with this environment, in a run of a workflow on `main`.
    #[must_use]
    pub fn job_token(&self, environment: &str, run: usize) -> String {
        let workflow = "acme/web/.github/workflows/deploy.yml@refs/heads/main";
        let commit = "5732a5872809a214337dc162d8b21f900429daae";
        self.token(json!({
            "aud": Self::AUDIENCE, "sub": format!("repo:acme/web:environment:{environment}"),
            "jti": format!("0d8a1c5e-5c1b-4d0f-9c53-{run:012}"),
            "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": commit,
            "repository": "acme/web", "repository_id": Self::REPOSITORY_ID, "repository_visibility": "private",
            "repository_owner": "acme", "repository_owner_id": "65001",
            "run_id": (9_000_000_000 + run).to_string(), "run_number": run.to_string(), "run_attempt": "1",
            "actor": "octocat", "actor_id": "583231", "workflow": "deploy", "event_name": "push",
            "workflow_ref": workflow, "workflow_sha": commit, "job_workflow_ref": workflow,
            "job_workflow_sha": commit, "environment": environment,
        }))
    }
}

impl Shared {
    /// Adds the issuer, and times at which a token is valid.
    fn complete(&self, mut claims: Value) -> Value {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
        let now = since_1970.as_secs();
        claims["iss"] = self.url.as_str().into();
        for (name, time) in [("exp", now + LIFETIME), ("nbf", now - 5), ("iat", now - 5)] {
            claims[name] = time.into();
        }
        claims
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "kid": "test", "typ": "JWT"});
        let text = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.expect("signed");
        format!("{text}.{}", base64(signature))
    }

    /// Returns the ID token of a person.
    fn id_token(&self, sign_in: &SignIn) -> String {
        let mut claims = self.complete(json!({
            "sub": sign_in.user.subject, "preferred_username": sign_in.user.name, "aud": sign_in.client_id,
            "nonce": sign_in.nonce,
        }));
        let replaced = self.replaced_claims.lock().unwrap_or_else(PoisonError::into_inner);
        let claims_of_token = claims.as_object_mut().expect("an object");
        for (name, value) in replaced.as_object().expect("an object") {
            match value {
                Value::Null => claims_of_token.remove(name),
                value => claims_of_token.insert(name.clone(), value.clone()),
            };
        }
        self.sign(&claims)
    }
}

/// Signs the person in, and sends the browser back with a code.
async fn authorize(
    State(issuer): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    let is_request = text("response_type") == "code"
        && text("code_challenge_method") == "S256"
        && text("scope").split(' ').any(|word| word == "openid")
        && ["client_id", "state", "nonce", "code_challenge"].into_iter().all(|name| !text(name).is_empty());
    let (true, Ok(mut back)) = (is_request, text("redirect_uri").parse::<Url>()) else {
        return (StatusCode::BAD_REQUEST, format!("not a request of a sign-in: {query:?}")).into_response();
    };
    let user = issuer.user.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(user) = user else {
        let denied = [("error", "access_denied"), ("error_description", "<b>no user</b>")];
        back.query_pairs_mut().extend_pairs(denied).append_pair("state", &text("state"));
        return Redirect::to(back.as_str()).into_response();
    };
    let mut code = [0; 16];
    aws_lc_rs::rand::fill(&mut code).expect("random numbers");
    let code = base64(code);
    back.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", &text("state"))
        .append_pair("iss", &issuer.url);
    let sign_in = SignIn {
        user,
        client_id: text("client_id"),
        redirect_uri: text("redirect_uri"),
        nonce: text("nonce"),
        challenge: text("code_challenge"),
    };
    issuer.sign_ins.lock().unwrap_or_else(PoisonError::into_inner).insert(code, sign_in);
    Redirect::to(back.as_str()).into_response()
}

/// Exchanges a code for an ID token, once.
async fn exchange(State(issuer): State<Arc<Shared>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let text = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let found = issuer.sign_ins.lock().unwrap_or_else(PoisonError::into_inner).remove(text("code"));
    let is_same = |sign_in: &SignIn| {
        text("grant_type") == "authorization_code"
            && text("client_id") == sign_in.client_id
            && text("redirect_uri") == sign_in.redirect_uri
            && base64(Sha256::digest(text("code_verifier"))) == sign_in.challenge
    };
    match found.filter(is_same) {
        Some(sign_in) => {
            let body = json!({
                "access_token": "unused", "token_type": "Bearer", "expires_in": 60,
                "id_token": issuer.id_token(&sign_in),
            });
            Json(body).into_response()
        }
        None => (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response(),
    }
}

/// Encodes base64url without padding.
fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
