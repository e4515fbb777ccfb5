//! Keys, tokens and issuers of the tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ledger_domain::PrincipalKind;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::oidc::{IssuerSettings, KeySource, Verifier};

/// Time of the tests, in seconds since 1970.
pub(super) const NOW: i64 = 1_800_000_000;
/// Audience of the tests.
pub(super) const AUDIENCE: &str = "https://ledger.example";

/// Clock of the tests.
pub(super) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).expect("a time")
}

/// Encodes base64url without padding.
pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A pair of keys.
pub(super) enum Pair {
    Rsa(RsaKeyPair),
    Ec { pkcs8: Vec<u8>, is_384: bool },
    Ed(Ed25519KeyPair),
}

impl Pair {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("generated"))
    }

    pub(super) fn ec(is_384: bool) -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(fixed(is_384), &SystemRandom::new()).expect("generated");
        Self::Ec { pkcs8: document.as_ref().to_vec(), is_384 }
    }

    /// Returns the public key as a JSON Web Key.
    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let public = pair.public_key();
                let n = base64(public.modulus().big_endian_without_leading_zero());
                let e = base64(public.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": n, "e": e})
            }
            Self::Ec { pkcs8, is_384 } => {
                let pair = EcdsaKeyPair::from_pkcs8(fixed(*is_384), pkcs8).expect("a key");
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if *is_384 { "P-384" } else { "P-256" };
                json!({"kty": "EC", "crv": curve, "kid": id, "use": "sig", "x": base64(x), "y": base64(y)})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": base64(pair.public_key())})
            }
        }
    }

    /// Signs a text as an algorithm demands.
    pub(super) fn sign(&self, algorithm: &str, text: &str) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    other => panic!("{other} is not for RSA"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).expect("signed");
                signature
            }
            Self::Ec { pkcs8, is_384 } => {
                let form = if algorithm == "DER" { &ECDSA_P256_SHA256_ASN1_SIGNING } else { fixed(*is_384) };
                let pair = EcdsaKeyPair::from_pkcs8(form, pkcs8).expect("a key");
                pair.sign(&SystemRandom::new(), text.as_bytes()).expect("signed").as_ref().to_vec()
            }
            Self::Ed(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        }
    }

    /// Returns a token with these texts as its header and its claims.
    pub(super) fn token(
        &self,
        algorithm: &str,
        header: impl AsRef<[u8]>,
        claims: impl AsRef<[u8]>,
    ) -> String {
        let text = format!("{}.{}", base64(header), base64(claims));
        format!("{text}.{}", base64(self.sign(algorithm, &text)))
    }
}

fn fixed(is_384: bool) -> &'static EcdsaSigningAlgorithm {
    if is_384 { &ECDSA_P384_SHA384_FIXED_SIGNING } else { &ECDSA_P256_SHA256_FIXED_SIGNING }
}

/// Keys of the issuer of the tests.
pub(super) struct TestKeys {
    pub(super) rsa: Pair,
    pub(super) ec: Pair,
    pub(super) ec384: Pair,
    pub(super) ed: Pair,
}

/// The key pairs are generated once.
pub(super) static KEYS: LazyLock<TestKeys> = LazyLock::new(|| TestKeys {
    rsa: Pair::rsa(),
    ec: Pair::ec(false),
    ec384: Pair::ec(true),
    ed: Pair::Ed(Ed25519KeyPair::generate().expect("generated")),
});

impl TestKeys {
    /// Returns the published set: each key under its name, and `rsa256`, which is the RSA key for RS256 only.
    pub(super) fn set(&self) -> String {
        let mut only = self.rsa.jwk("rsa256");
        only["alg"] = json!("RS256");
        let keys = [self.rsa.jwk("rsa"), only, self.ec.jwk("ec"), self.ec384.jwk("ec384"), self.ed.jwk("ed")];
        set(&keys)
    }

    /// Returns texts that a careless verifier would take as the secret of an HMAC, with their names.
    pub(super) fn public_texts(&self) -> Vec<(&'static str, Vec<u8>)> {
        let Pair::Rsa(pair) = &self.rsa else { panic!("an RSA key") };
        let public = pair.public_key();
        let der: PublicKeyX509Der<'_> = public.as_der().expect("encoded");
        let modulus = public.modulus().big_endian_without_leading_zero();
        let pem = |bytes: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
                .into_bytes()
        };
        vec![
            ("PEM", pem(der.as_ref())),
            ("PEM without the last line feed", pem(der.as_ref()).trim_ascii_end().to_vec()),
            ("DER", der.as_ref().to_vec()),
            ("PKCS #1 DER", public.as_ref().to_vec()),
            ("modulus", modulus.to_vec()),
            ("modulus in base64url", base64(modulus).into_bytes()),
            ("JWK", self.rsa.jwk("rsa").to_string().into_bytes()),
            ("nothing", Vec::new()),
        ]
    }
}

/// Returns a token that is authenticated by an HMAC.
pub(super) fn hmac_token(algorithm: &str, secret: &[u8], header: &str, claims: &str) -> String {
    let form = match algorithm {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    let text = format!("{}.{}", base64(header), base64(claims));
    let tag = hmac::sign(&hmac::Key::new(form, secret), text.as_bytes());
    format!("{text}.{}", base64(tag))
}

/// Returns a key set.
pub(super) fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Returns the claims of a good token.
pub(super) fn claims(issuer: &str) -> Value {
    json!({
        "iss": issuer, "sub": "repo:shop/web", "aud": AUDIENCE, "exp": NOW + 300, "nbf": NOW - 5, "iat": NOW - 5,
        "repository": "shop/web",
    })
}

/// Returns the header of a good token.
pub(super) fn header(algorithm: &str, key: &str) -> Value {
    json!({"alg": algorithm, "kid": key, "typ": "JWT"})
}

/// Returns a good token, signed with the key `ec`.
pub(super) fn good(issuer: &str) -> String {
    KEYS.ec.token("ES256", header("ES256", "ec").to_string(), claims(issuer).to_string())
}

/// Returns a verifier of one issuer.
pub(super) fn verifier(issuer: &str, keys: KeySource) -> Verifier {
    let mut settings = IssuerSettings::generic(issuer, AUDIENCE, PrincipalKind::Workload);
    settings.keys = keys;
    settings.claims = vec!["repository".to_owned()];
    Verifier::new(vec![settings], now).expect("valid settings")
}

/// Response of an issuer.
#[derive(Clone)]
pub(super) enum Reply {
    Json(String),
    Status(u16),
    Redirect(String),
    /// 10 MB.
    Large,
    /// None, until the reply is replaced.
    Hang,
}

/// An issuer that serves HTTP on this machine until its test ends.
#[derive(Clone)]
pub(super) struct Issuer {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    documents: Mutex<Reply>,
    keys: watch::Sender<Reply>,
    fetches: AtomicUsize,
    arrived: watch::Sender<usize>,
}

impl Issuer {
    /// Starts an issuer that publishes [`KEYS`].
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let shared = Arc::new(Shared {
            documents: Mutex::new(Reply::Json(document)),
            keys: watch::channel(Reply::Json(KEYS.set())).0,
            fetches: AtomicUsize::new(0),
            arrived: watch::channel(0).0,
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(serve_document))
            .route("/keys", get(serve_keys))
            .route("/other/keys", get(serve_keys))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub(super) fn reply_with_keys(&self, reply: Reply) {
        self.shared.keys.send_replace(reply);
    }

    pub(super) fn reply_with_document(&self, reply: Reply) {
        *self.shared.documents.lock().expect("unlocked") = reply;
    }

    /// Returns the number of requests for the keys.
    pub(super) fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Waits until a number of requests for the keys have arrived.
    pub(super) async fn arrived(&self, count: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= count).await.expect("open");
    }

    /// Returns a verifier of this issuer, which reads its discovery document.
    pub(super) fn verifier(&self) -> Verifier {
        verifier(&self.url, KeySource::Discovery)
    }
}

async fn serve_document(State(shared): State<Arc<Shared>>) -> Response {
    let reply = shared.documents.lock().expect("unlocked").clone();
    respond(reply).expect("a response")
}

async fn serve_keys(State(shared): State<Arc<Shared>>) -> Response {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    let mut replies = shared.keys.subscribe();
    shared.arrived.send_modify(|arrived| *arrived += 1);
    let reply = replies.wait_for(|reply| !matches!(reply, Reply::Hang)).await.expect("open").clone();
    respond(reply).expect("a response")
}

fn respond(reply: Reply) -> Option<Response> {
    Some(match reply {
        Reply::Json(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Reply::Status(status) => {
            (StatusCode::from_u16(status).expect("a status"), KEYS.set()).into_response()
        }
        Reply::Redirect(url) => (StatusCode::FOUND, [(header::LOCATION, url)], KEYS.set()).into_response(),
        Reply::Large => " ".repeat(10_000_000).into_response(),
        Reply::Hang => return None,
    })
}

/// Moves the clock of the rates forward, and lets it run again: a paused clock would end every time limit at once.
pub(super) async fn advance(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}
