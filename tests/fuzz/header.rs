//! The `Authorization` header of a request, through the router of the service: only the exact credentials are accepted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use ledger_access::{ApiToken, Directory};
use ledger_adapters::cdevents;
use ledger_api::{
    AccessFollower, AllowedHosts, App, Authentication, Authenticator, Bounds, Ledgers, Limits, RateLimits,
    Rates, router,
};
use ledger_domain::{PrincipalKind, ShortText, TenantName};
use ledger_journal::{MemoryJournal, SharedJournal};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::{api_token_text, now, signed_token, verifier};
use crate::choices::Choices;
use crate::edit;

const MIB: usize = 1 << 20;

const LIMITS: Limits = Limits {
    batch_bytes: MIB,
    events: 1_000,
    read_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(30),
    min_bytes_per_second: 1,
    question_timeout: Duration::from_secs(30),
    connections: 10,
    body_bytes: 16 * MIB,
    answer_bytes: 16 * MIB,
    followers: 1,
    followers_of_principal: 1,
};

/// A service without ledgers, which accepts one API token and the tokens of one issuer.
struct Service {
    router: TowerToHyperService<Router>,
    /// The API token, and a token of the issuer.
    tokens: [String; 2],
    runtime: Runtime,
}

/// Answer to a request.
struct Answer {
    status: u16,
    has_challenge: bool,
    text: String,
}

impl Service {
    fn new() -> Self {
        let text = api_token_text();
        let token = ApiToken::parse(&text).expect("a token");
        let mut directory = Directory::default();
        let name = ShortText::parse("ci").expect("a name");
        directory.add_administrator(token.id().clone(), token.hash(), PrincipalKind::Workload, name);
        let authenticator = Arc::new(Authenticator::new(directory, Some(verifier()), None, now));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(read_directory(&authenticator));
        let app = App {
            ledgers: Ledgers::default(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            limits: LIMITS,
            bounds: Bounds::new(&LIMITS),
            rates: Rates::new(RateLimits::default()),
            authentication: Authentication::Required(authenticator),
            read_log: None,
            hooks: BTreeMap::new(),
            cdevents: cdevents::Settings::default(),
            allowed_hosts: AllowedHosts::default(),
            is_encrypted: false,
            checks: Vec::new(),
            pages: None,
            history_scans: Semaphore::new(1),
        };
        let router = TowerToHyperService::new(router(Arc::new(app)));
        Self { router, tokens: [text, signed_token()], runtime }
    }

    /// Asks who the client is, with these headers. `None` if HTTP allows no such header.
    fn ask(&self, values: &[&str]) -> Option<Answer> {
        let mut request = Request::builder().uri("/v1/whoami").header(header::HOST, "ledger");
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Body::empty()).expect("a request");
        self.runtime.block_on(async {
            let response = self.router.call(request).await.expect("an answer");
            let status = response.status().as_u16();
            let has_challenge = response.headers().contains_key(header::WWW_AUTHENTICATE);
            let body = to_bytes(response.into_body(), MIB).await.expect("a body");
            Some(Answer { status, has_challenge, text: String::from_utf8_lossy(&body).into_owned() })
        })
    }

    /// Returns true if a header has one of the tokens, as RFC 6750 or as RFC 7617 states it.
    fn is_credential(&self, value: &str) -> bool {
        let Some((scheme, rest)) = value.split_once(' ').filter(|_| value.is_ascii()) else { return false };
        match &*scheme.to_ascii_lowercase() {
            "bearer" => self.tokens.iter().any(|token| token == rest),
            "basic" => {
                let decoded = STANDARD.decode(rest.trim()).unwrap_or_default();
                let decoded = String::from_utf8(decoded).unwrap_or_default();
                let password = decoded.split_once(':').map(|(_, password)| password);
                self.tokens.iter().any(|token| Some(&**token) == password)
            }
            _ => false,
        }
    }

    /// Sends headers, and checks that exactly one valid credential is accepted, and that no answer shows a secret.
    fn check(&self, values: &[&str]) {
        let Some(answer) = self.ask(values) else { return };
        let is_accepted = matches!(values, [value] if self.is_credential(value));
        let Answer { status, has_challenge, text } = answer;
        assert_eq!(status, if is_accepted { 200 } else { 401 }, "{values:?}: {text}");
        assert_eq!(has_challenge, status == 401, "{values:?}");
        for token in &self.tokens {
            let secret = &token[token.len() - 60..];
            assert!(!text.contains(secret), "the answer shows a token: {text}");
        }
    }
}

/// Reads the tokens and grants, of which there are none besides those of the settings.
async fn read_directory(authenticator: &Arc<Authenticator>) {
    let journal: SharedJournal = Arc::new(MemoryJournal::new(TenantName::admin(), now));
    let follower = AccessFollower::new(Arc::clone(authenticator), journal);
    let mut changes = authenticator.changes();
    tokio::select! {
        changed = changes.changed() => changed.expect("the directory is read"),
        () = follower.run(CancellationToken::new()) => {}
    }
}

thread_local! {
    static SERVICE: Service = Service::new();
}

/// Returns headers with each token in each scheme, and some that are wrong in one place.
fn samples(service: &Service) -> Vec<String> {
    let [token, jwt] = &service.tokens;
    let basic = |text: String| STANDARD.encode(text);
    vec![
        format!("Bearer {token}"),
        format!("Bearer {jwt}"),
        format!("Basic {}", basic(format!("ci:{token}"))),
        format!("Basic {}", basic(format!(":{jwt}"))),
        format!("Basic {}", basic(token.clone())),
        format!("bearer  {token}"),
        format!("Bearer {token}, Basic {}", basic(format!("ci:{token}"))),
        format!("Bearer Bearer {token}"),
        format!("Bearer {token}\t"),
        format!("Digest {token}"),
        "Bearer".to_owned(),
        String::new(),
    ]
}

/// Sends one header, or two in one of four cases.
pub(crate) fn authorization(choices: &mut Choices<'_>) {
    SERVICE.with(|service| {
        let samples = samples(service);
        let first = edit::text(&samples, choices);
        if choices.one_in(4) {
            let second = edit::text(&samples, choices);
            service.check(&[&first, &second]);
        } else {
            service.check(&[&first]);
        }
    });
}

#[test]
fn the_samples_are_accepted_or_rejected_as_they_should_be() {
    SERVICE.with(|service| {
        let status = |value: &String| service.ask(&[value]).map(|answer| answer.status);
        let statuses: Vec<_> = samples(service).iter().map(status).collect();
        let expected = [[Some(200); 4].as_slice(), [Some(401); 8].as_slice()].concat();
        assert_eq!(statuses, expected);
    });
}

#[test]
fn a_header_with_two_schemes_with_controls_or_of_one_mebibyte_is_rejected() {
    SERVICE.with(|service| {
        let [token, jwt] = &service.tokens;
        let long = "x".repeat(MIB);
        let wrong = [
            format!("Bearer {token} Bearer {token}"),
            format!("Bearer {token},Bearer {jwt}"),
            format!("Basic Bearer {token}"),
            format!("Bearer \t{token}"),
            format!("Bearer {token}\u{7f}"),
            format!("Bearer {token}\0"),
            format!("Bearer {token}\r\nAuthorization: Bearer {token}"),
            format!("Bearer {token}\u{e9}"),
            format!("Bearer {long}"),
            format!("Bearer rl_{long}"),
            format!("Bearer {jwt}{long}"),
            format!("Bearer {token}{}", " ".repeat(MIB)),
            format!("Basic {}", STANDARD.encode(&long)),
            format!("Basic {}", STANDARD.encode(format!("{long}:{long}"))),
            long,
        ];
        for value in wrong {
            // HTTP itself allows no header with most of the controls.
            let status = service.ask(&[&value]).map_or(401, |answer| answer.status);
            assert_eq!(status, 401, "{value:.200}");
        }
        let credential = format!("Bearer {token}");
        service.check(&[&credential, &credential]);
        service.check(&[]);
    });
}
