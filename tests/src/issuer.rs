//! An OpenID Connect issuer on this machine, whose tokens have the algorithm of GitHub Actions.

use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Lifetime of a token, in seconds.
const LIFETIME: u64 = 6 * 60 * 60;

/// An issuer with one RSA key, which serves its discovery document and its key set over HTTP until the process ends.
pub struct Issuer {
    url: String,
    key: RsaKeyPair,
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
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let (modulus, exponent) = (key.public_key().modulus(), key.public_key().exponent());
        let jwk = json!({
            "kty": "RSA", "kid": "test", "use": "sig", "alg": "RS256",
            "n": base64(modulus.big_endian_without_leading_zero()),
            "e": base64(exponent.big_endian_without_leading_zero()),
        });
        let keys = json!({"keys": [jwk]}).to_string();
        let served =
            |text: String| get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text) });
        let routes: Router = Router::new()
            .route("/.well-known/openid-configuration", served(document))
            .route("/keys", served(keys));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, key }
    }

    /// Returns the URL: the claim `iss` of the tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a token with these claims, the issuer, and times at which it is valid.
    #[must_use]
    pub fn token(&self, mut claims: Value) -> String {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
        let now = since_1970.as_secs();
        claims["iss"] = self.url.as_str().into();
        for (name, time) in [("exp", now + LIFETIME), ("nbf", now - 5), ("iat", now - 5)] {
            claims[name] = time.into();
        }
        let header = json!({"alg": "RS256", "kid": "test", "typ": "JWT"});
        let text = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.expect("signed");
        format!("{text}.{}", base64(signature))
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

/// Encodes base64url without padding.
fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
