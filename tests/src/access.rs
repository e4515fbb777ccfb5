//! A service that authenticates its clients, with tokens for them.

use std::io::Write as _;

use ledger_access::ApiToken;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{Client, InProcess, Response, Servers, Service, event};

/// Flags of a service without the limits that a test reaches: it sends requests, and fails to authenticate, more often
/// than a client may.
pub const UNLIMITED: [&str; 2] =
    ["--limits-requests-per-second=0", "--limits-failed-authentications-per-minute=0"];

/// A settings file for services that authenticate their clients, and the token of the administrator.
pub struct AccessSettings {
    /// The token of the administrator `root`, a person.
    pub root: ApiToken,
    // A service reads it whenever it starts.
    file: NamedTempFile,
}

impl AccessSettings {
    /// Writes a file with the administrator, and with these lines.
    #[must_use]
    pub fn new(lines: &str) -> Self {
        let root = new_token();
        let mut file = NamedTempFile::new().expect("a file");
        let settings = format!("{}{lines}", administrator(&root, "root", "person"));
        file.write_all(settings.as_bytes()).expect("written");
        Self { root, file }
    }

    /// Starts a service as a process with these settings and further flags, and waits until it is ready.
    pub async fn start(&self, program: &str, servers: &Servers, more: &[&str]) -> Service {
        let config = self.config();
        let flags = [&["--access-authentication=required", &*config][..], more].concat();
        Service::start(program, servers, &flags).await
    }

    /// Returns the flag with which a service reads the file.
    fn config(&self) -> String {
        format!("--config={}", self.file.path().display())
    }
}

/// A service that authenticates its clients, and the token of its administrator.
pub struct Guarded {
    /// The service.
    pub service: InProcess,
    /// A client with the token of the administrator `root`.
    pub admin: Client,
}

/// Returns a new token.
#[must_use]
pub fn new_token() -> ApiToken {
    ApiToken::generate().expect("random numbers")
}

/// Returns the settings that make the owner of a token an administrator.
#[must_use]
pub fn administrator(token: &ApiToken, name: &str, kind: &str) -> String {
    let (id, hash) = (token.id(), token.hash());
    format!(
        "[[access.administrators]]\nname = {name:?}\nkind = {kind:?}\ntoken = \"{id}\"\nhash = \"{hash}\"\n"
    )
}

impl Guarded {
    /// Starts a service with these flags of `serve`, and lines of the settings file.
    pub async fn start(flags: &[&str], settings: &str) -> Self {
        let access = AccessSettings::new(settings);
        let config = access.config();
        let flags: Vec<&str> = flags.iter().copied().chain(UNLIMITED).chain([&*config]).collect();
        let service = InProcess::start(&flags).await;
        let admin = service.client_with(access.root.expose());
        Self { service, admin }
    }

    /// Records an event of access, and waits until it has an effect.
    pub async fn change(&self, kind: &str, id: &str, data: Value) {
        let position = self.try_change(kind, id, data).await.ok()["position"].as_u64().expect("a position");
        while self.admin.get("/v1/access/grants").await.ok()["position"].as_u64() < Some(position) {
            tokio::task::yield_now().await;
        }
    }

    /// Records an event of access, which may be rejected.
    pub async fn try_change(&self, kind: &str, id: &str, data: Value) -> Response {
        let event = event(id, kind, "2026-08-01T10:00:00Z", data).to_string();
        self.admin.post("/v1/tenants/_admin/events", "application/cloudevents+json", event).await
    }

    /// Creates a token of a person or a workload.
    pub async fn create_token(&self, name: &str, kind: &str) -> ApiToken {
        let token = new_token();
        let data = json!({
            "token": token.id().as_str(), "kind": kind, "name": name, "hash": token.hash().to_string(),
        });
        self.change("token.created", &format!("token-{}", token.id()), data).await;
        token
    }

    /// Adds a grant in the tenant `default` for the owner of a token.
    pub async fn grant(&self, id: &str, token: &ApiToken, environments: &[&str], verbs: &[&str]) {
        self.grant_in("default", id, token, environments, verbs).await;
    }

    /// Adds a grant in a tenant for the owner of a token.
    pub async fn grant_in(
        &self,
        tenant: &str,
        id: &str,
        token: &ApiToken,
        environments: &[&str],
        verbs: &[&str],
    ) {
        let data = json!({
            "grant": id, "grantee": {"token": token.id().as_str()}, "tenant": tenant,
            "environments": environments, "services": ["*"], "verbs": verbs,
        });
        self.change("grant.added", &format!("grant-{id}"), data).await;
    }

    /// Creates a token with a grant in the tenant `default`, and returns a client that sends it.
    pub async fn client(&self, name: &str, kind: &str, environments: &[&str], verbs: &[&str]) -> Client {
        let token = self.create_token(name, kind).await;
        self.grant(name, &token, environments, verbs).await;
        self.service.client_with(token.expose())
    }
}
