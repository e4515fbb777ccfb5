//! Two processes of the service that people sign in to, with releases and a rollback that need approvals.

use ledger_access::ApiToken;
use ledger_tests::{
    Client, Issuer, Servers, Service, Story, administrator, deploy, event, free_ports, new_token,
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::PROGRAM;

const TIME: &str = "2026-08-01T10:00:00Z";
/// Subject of the person `mia` at the issuer.
pub(crate) const MIA: &str = "4711";
/// Text that is markup and script where a page does not escape it.
const HOSTILE: &str =
    "<script>alert(1)</script><img src=x onerror=alert(1)> \"'><a href=javascript:alert(1)>x";

/// The service, and the issuer of its people.
pub(crate) struct Stage {
    /// Issuer that signs `mia` in.
    pub(crate) people: Issuer,
    /// The process at the address that the people know.
    pub(crate) one: Service,
    /// Another process.
    pub(crate) other: Service,
    /// The servers of both.
    pub(crate) servers: Servers,
    root: ApiToken,
    // The services read it when they start.
    _settings: NamedTempFile,
}

impl Stage {
    /// Starts the processes with an empty ledger. `mia`, whom the issuer signs in, may read, ask the gate and approve.
    pub(crate) async fn start() -> Self {
        let servers = Servers::start().await;
        let people = Issuer::start().await;
        people.set_user(MIA, "mia");
        let root = new_token();
        let ports = free_ports(2);
        let (issuer, url) = (people.url(), format!("http://127.0.0.1:{}", ports[0]));
        let settings = format!(
            "{}[pages]\nurl = {url:?}\n\
             [[access.issuers]]\nissuer = {issuer:?}\naudience = \"release-ledger\"\nkind = \"person\"\n\
             sign_in = {{ client_id = \"release-ledger\" }}\n\
             [[access.grants]]\ngrantee = {{ issuer = {issuer:?}, subject = {MIA:?} }}\ntenant = \"default\"\n\
             environments = [\"*\"]\nservices = [\"*\"]\nverbs = [\"read\", \"gate\", \"approve\"]\n",
            administrator(&root, "root", "person")
        );
        let file = NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), settings).expect("written");
        let config = format!("--config={}", file.path().display());
        let start = async |port: u16| {
            let listen = format!("--listen=127.0.0.1:{port}");
            let flags = [
                "--access-authentication=required",
                "--limits-requests-per-second=0",
                "--limits-failed-authentications-per-minute=0",
                &*config,
                &*listen,
            ];
            Service::start(PROGRAM, &servers, &flags).await
        };
        let (one, other) = (start(ports[0]).await, start(ports[1]).await);
        Self { people, one, other, servers, root, _settings: file }
    }

    /// Records releases of `web` in production, where deploys and rollbacks need an approval.
    pub(crate) async fn record_releases(&self) {
        let story = Story::on(&self.admin());
        story.declare_policy(json!({"approvals": 1}), 0).await;
        story.deploy("web", "v1", 1).await;
        story.check_passed("web", "v1", "smoke", 2).await;
        story.deploy("web", "v2", 3).await;
    }

    /// Requests the rollback `back-1` of production to `v1`, which needs an approval.
    pub(crate) async fn request_rollback(&self) {
        let rollback =
            json!({"to": "last-known-good", "rollback_id": "back-1", "reason": "Customers see errors."});
        let requested = Story::on(&self.admin()).request(rollback).await;
        assert_eq!(requested.status, 201, "{}", requested.text);
        self.wait_for_projections().await;
    }

    /// Records events whose texts are hostile, or too long for a line; returns the position of the hostile one.
    pub(crate) async fn record_hostile_events(&self) -> u64 {
        let (admin, long) = (self.admin(), "v".repeat(300));
        admin.record_and_wait(&deploy("long", TIME, "staging", "web", &long)).await;
        let data = json!({
            "environment": "production", "service": "web", "release": {"version": HOSTILE},
            "reason": format!("{HOSTILE} {long}"),
            "links": [
                {"rel": "pipeline", "href": "javascript:alert(1)"},
                {"rel": "ticket", "href": "https://tickets.example/OPS-77"},
            ],
        });
        admin.record_and_wait(&event("hostile", "deploy.failed", TIME, data)).await
    }

    /// Records a change of access, and waits until both processes apply it.
    pub(crate) async fn change_access(&self, kind: &str, id: &str, data: Value) {
        let position = self.start_change_of_access(kind, id, data).await;
        for service in [&self.one, &self.other] {
            let admin = service.client().with_token(self.root.expose());
            while admin.get("/v1/access/grants").await.ok()["position"].as_u64() < Some(position) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Records a change of access; returns its position.
    pub(crate) async fn start_change_of_access(&self, kind: &str, id: &str, data: Value) -> u64 {
        let event = event(id, kind, TIME, data).to_string();
        let path = "/v1/tenants/_admin/events";
        let admin = self.admin();
        let send = || admin.post(path, "application/cloudevents+json", event.clone());
        let recorded = Client::until_decided(send).await.ok();
        recorded["position"].as_u64().expect("a position")
    }

    /// Returns a client of the first process with the token of the administrator.
    pub(crate) fn admin(&self) -> Client {
        self.one.client().with_token(self.root.expose())
    }

    /// Waits until the projections have reached the head of the stream.
    pub(crate) async fn wait_for_projections(&self) {
        let admin = self.admin();
        admin.wait_for_projections(admin.positions().await.1).await;
    }

    /// Returns the gate's answer for a version of `web` in production.
    pub(crate) async fn gate(&self, version: &str) -> Value {
        let request = json!({"service": "web", "release": {"version": version}});
        Story::on(&self.admin()).gate(request).await
    }

    /// Returns the URL of a page of the first process.
    pub(crate) fn here(&self, path: &str) -> String {
        format!("{}{path}", self.one.url())
    }

    /// Returns the URL of a page of the other process.
    pub(crate) fn there(&self, path: &str) -> String {
        format!("{}{path}", self.other.url())
    }
}
