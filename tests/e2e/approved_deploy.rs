//! A pipeline without a secret of the ledger: the claims of its jobs say where they may deploy, a person approves, and a
//! revocation reaches every process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use ledger_tests::{
    AccessSettings, Client, Command, Issuer, Outcome, Servers, Service, UNLIMITED, deploy, event, no_ci,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::PROGRAM;

const TIME: &str = "2026-08-01T10:00:00Z";
/// Maximum time between the end of the command that revokes a token and its effect on every process.
const REVOCATION_LIMIT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_deploys_where_its_claims_allow_after_a_person_approved_until_a_revocation_ends_a_token() {
    let stage = Stage::start().await;
    stage.grant_by_claims_and_subject().await;
    stage.deploy_to_staging_only().await;
    let approval = stage.approve_as_a_person_only().await;
    stage.deploy_to_production_as_its_own_job_only().await;
    stage.find_senders_beside_the_actors_that_they_claimed(approval).await;
    stage.revoke_a_token_for_every_process().await;
}

/// Two processes of the service on the same servers, and the issuers that they trust.
struct Stage {
    github: Arc<Issuer>,
    people: Issuer,
    /// URL at which jobs request their identity.
    identities: String,
    access: AccessSettings,
    one: Service,
    other: Service,
    _servers: Servers,
}

impl Stage {
    /// Starts the services, with `v1` of `web` in production, where a deploy needs an approval.
    async fn start() -> Self {
        let servers = Servers::start().await;
        let (github, people) = (Arc::new(Issuer::start().await), Issuer::start().await);
        let (of_jobs, audience, of_people) = (github.url(), Issuer::AUDIENCE, people.url());
        let access = AccessSettings::new(&format!(
            "[[access.issuers]]\nissuer = {of_jobs:?}\naudience = {audience:?}\npreset = \"github\"\n\
             [[access.issuers]]\nissuer = {of_people:?}\naudience = \"release-ledger\"\nkind = \"person\"\n"
        ));
        let one = access.start(PROGRAM, &servers, &UNLIMITED).await;
        let other = access.start(PROGRAM, &servers, &UNLIMITED).await;
        let identities = serve_identities(Arc::clone(&github)).await;
        let stage = Self { github, people, identities, access, one, other, _servers: servers };
        let policy = json!({"environment": "production", "policy": {"approvals": 1}});
        let admin = stage.admin();
        admin.record_and_wait(&event("policy", "environment.declared", TIME, policy)).await;
        admin.record_and_wait(&deploy("before", TIME, "production", "web", "v1")).await;
        stage
    }

    /// Grants with commands: the job of each environment deploys to its own, and that of staging may ask and may send
    /// approvals for production, so that the rule about people refuses them, and not a missing grant.
    async fn grant_by_claims_and_subject(&self) {
        let (of_jobs, of_people) = (self.github.url(), self.people.url());
        let repository = format!("repository_id={}", Issuer::REPOSITORY_ID);
        let to_jobs = ["--to-claims", of_jobs, &*repository];
        let staging = ["environment=staging", "--verb=emit:deploy,read", "--environment=staging"];
        let asks = ["environment=staging", "--verb=gate,approve,read", "--environment=production"];
        let production = [
            "environment=production",
            "ref=refs/heads/main",
            "--verb=emit:deploy,read",
            "--environment=production",
        ];
        self.administer(&[&["grant", "add", "staging"][..], &to_jobs, &staging].concat()).await;
        self.administer(&[&["grant", "add", "asks"][..], &to_jobs, &asks].concat()).await;
        self.administer(&[&["grant", "add", "production"][..], &to_jobs, &production].concat()).await;
        let approve = ["--verb=approve,read", "--environment=production"];
        let to_mia = ["grant", "add", "approvers", "--to-subject", of_people, "4711"];
        self.administer(&[&to_mia[..], &approve].concat()).await;
    }

    async fn deploy_to_staging_only(&self) {
        let deployed = self.job("staging", &run_to("staging")).await;
        let beyond = self.job("staging", &run_to("production")).await;
        let refused = self.client_of_job("staging").record(&production_deploy("1")).await;

        assert_eq!((deployed.code, &*deployed.stdout), (Some(0), "deployed\n"), "{}", deployed.stderr);
        assert_eq!((beyond.code, &*beyond.stdout), (Some(125), ""), "{}", beyond.stderr);
        for words in ["did not run the command", "no grant allows workload repo:acme/web:environment:staging"]
        {
            assert!(beyond.stderr.contains(words), "{words}: {}", beyond.stderr);
        }
        assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{}", refused.text);
    }

    /// Returns the position of the approval.
    async fn approve_as_a_person_only(&self) -> u64 {
        let gate = ["gate", "production", "web", "v2", "--json"];
        let approve = ["approve", "production", "web", "v2"];
        let closed = self.job("staging", &gate).await;
        let own = self.job("staging", &approve).await;
        let claimed = json!({
            "environment": "production", "service": "web", "release": {"version": "v2"},
            "actor": {"type": "person", "name": "mia"},
        });
        let claimed = event("own", "approval.granted", TIME, claimed);
        let claimed = self.client_of_job("staging").record(&claimed).await;

        assert_eq!(closed.code, Some(1), "{}", closed.stderr);
        assert!(closed.stderr.contains("0 of 1 approvals"), "{}", closed.stderr);
        assert_eq!((own.code, &*own.stdout), (Some(1), ""), "{}", own.stderr);
        assert!(own.stderr.contains("only people can approve or reject; "), "{}", own.stderr);
        assert_eq!((claimed.status, claimed.problem()), (403, "not-a-person"), "{}", claimed.text);

        let mia = json!({"aud": "release-ledger", "sub": "4711", "preferred_username": "mia"});
        let mia = self.people.token(mia);
        let approve = [&approve[..], &["--json"]].concat();
        let approved = self.run(&self.one, &approve, &[("RELEASE_LEDGER_TOKEN", &*mia)]).await;
        let position = parsed(&approved)["position"].as_u64().expect("a position");
        let wait = format!("--wait-for={position}");
        let open = parsed(&self.job("staging", &[&gate[..], &[&*wait]].concat()).await);

        assert_eq!(open["allowed"], true, "{open}");
        let findings = open["findings"].as_array().expect("findings");
        let approvals = findings.iter().find(|finding| finding["rule"] == "approvals").expect("a finding");
        assert_eq!(approvals["grants"], json!([position]), "{open}");
        position
    }

    async fn deploy_to_production_as_its_own_job_only(&self) {
        let refused = self.client_of_job("staging").record(&production_deploy("2")).await;
        let deployed = self.job("production", &run_to("production")).await;

        assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "an approval is no grant");
        assert_eq!((deployed.code, &*deployed.stdout), (Some(0), "deployed\n"), "{}", deployed.stderr);
    }

    async fn find_senders_beside_the_actors_that_they_claimed(&self, approval: u64) {
        let admin = self.admin();
        admin.wait_for_projections(admin.positions().await.1).await;
        let state = admin.get("/v1/environments/production/state").await.ok();
        let lane = &state["lanes"][0];
        assert_eq!(lane["release"]["version"], "v2", "{state}");
        let deployed = self.entry(lane["since"]["position"].as_u64().expect("a position")).await;
        let approved = self.entry(approval).await;

        let job = "repo:acme/web:environment:production";
        let principal = &deployed["principal"];
        assert_eq!((&principal["issuer"], &principal["subject"]), (&json!(self.github.url()), &json!(job)));
        let claims = principal["claims"].as_object().expect("claims");
        for (claim, value) in [
            ("repository_id", Issuer::REPOSITORY_ID),
            ("environment", "production"),
            ("ref", "refs/heads/main"),
            ("run_id", "9000000001"),
            ("actor", "octocat"),
        ] {
            assert_eq!(claims[claim], value, "{claim}");
        }
        assert!(!claims.contains_key("jti"), "only selected claims are kept: {principal}");
        assert_eq!(deployed["actor"], json!({"type": "workload", "name": job}));
        assert_eq!(deployed["event"]["data"]["actor"], json!({"type": "person", "name": "octocat"}));

        let person = json!({"kind": "person", "name": "mia", "issuer": self.people.url(), "subject": "4711"});
        assert_eq!(approved["principal"], person);
        assert_eq!(approved["actor"], json!({"type": "person", "name": "mia"}));
        assert_eq!(approved["event"]["data"]["actor"], json!({"type": "person", "name": "laptop"}));
    }

    async fn revoke_a_token_for_every_process(&self) {
        let created = self.administer(&["token", "create", "--name=noa", "--kind=person"]).await;
        let text = |member: &str| created[member].as_str().expect("a text").to_owned();
        let (id, secret) = (text("token"), text("secret"));
        let (here, there) = (self.one.client().with_token(&secret), self.other.client().with_token(&secret));
        for client in [&here, &there] {
            assert_eq!(client.get("/v1/whoami").await.ok()["principal"]["name"], "noa");
        }

        let revoke = ["token", "revoke", &*id, "--reason=The laptop is lost."];
        let revocation =
            self.run(&self.other, &revoke, &[("RELEASE_LEDGER_TOKEN", self.access.root.expose())]).await;
        let revoked = Instant::now();
        assert_eq!(revocation.code, Some(0), "{}", revocation.stderr);
        tokio::join!(
            refuse_in_time(&there, revoked, "the process that recorded the revocation"),
            refuse_in_time(&here, revoked, "the other process"),
        );
        for service in [&self.one, &self.other] {
            let approve = ["approve", "production", "web", "v3"];
            let refused = self.run(service, &approve, &[("RELEASE_LEDGER_TOKEN", &*secret)]).await;
            assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{}", refused.stderr);
            assert!(refused.stderr.contains("approval.granted is not recorded"), "{}", refused.stderr);
        }
    }

    fn admin(&self) -> Client {
        self.one.client().with_token(self.access.root.expose())
    }

    /// Returns a client of the other process with the token of a job.
    fn client_of_job(&self, environment: &str) -> Client {
        self.other.client().with_token(&self.github.job_token(environment, 1))
    }

    /// Runs a command of the administrator that changes access, waits until both processes apply the change, and returns
    /// what the command printed.
    async fn administer(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let token = [("RELEASE_LEDGER_TOKEN", self.access.root.expose())];
        let printed = parsed(&self.run(&self.one, &arguments, &token).await);
        let position = printed["position"].as_u64().expect("a position");
        for service in [&self.one, &self.other] {
            let admin = service.client().with_token(self.access.root.expose());
            while admin.get("/v1/access/grants").await.ok()["position"].as_u64() < Some(position) {
                tokio::task::yield_now().await;
            }
        }
        printed
    }

    /// Runs the program in a job of GitHub Actions, where it requests the job's identity itself.
    async fn job(&self, environment: &str, arguments: &[&str]) -> Outcome {
        let identity = format!("{}/{environment}?api-version=2.0", self.identities);
        let variables = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_RUN_ID", "9000000001"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "acme/web"),
            ("GITHUB_SHA", "5732a5872809a214337dc162d8b21f900429daae"),
            ("GITHUB_TRIGGERING_ACTOR", "octocat"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", &*identity),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job"),
            ("RELEASE_LEDGER_AUDIENCE", Issuer::AUDIENCE),
        ];
        self.run(&self.other, arguments, &variables).await
    }

    /// Runs the program with a home of its own, outside of any CI except for these variables.
    async fn run(&self, service: &Service, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().to_str().expect("UTF-8");
        let url = service.url();
        let mut all = vec![
            ("HOME", home),
            ("XDG_CONFIG_HOME", home),
            ("XDG_STATE_HOME", home),
            ("USER", "laptop"),
            ("RELEASE_LEDGER_ACTOR", ""),
            ("RELEASE_LEDGER_SPOOL", ""),
            ("RELEASE_LEDGER_TOKEN", ""),
            ("RELEASE_LEDGER_URL", &*url),
        ];
        all.extend(no_ci());
        all.extend(variables);
        Command::start_with(PROGRAM, arguments, &all).outcome().await
    }

    /// Returns an entry as the command line shows it.
    async fn entry(&self, position: u64) -> Value {
        let position = position.to_string();
        let token = [("RELEASE_LEDGER_TOKEN", self.access.root.expose())];
        parsed(&self.run(&self.other, &["entry", &*position, "--json"], &token).await)
    }
}

/// Returns the arguments that deploy `v2` of `web`, if the ledger records the start.
fn run_to(environment: &str) -> [&str; 9] {
    let [service, version] = ["--service=web", "--version=v2"];
    ["run", "--strict", "--environment", environment, service, version, "--", "echo", "deployed"]
}

fn production_deploy(id: &str) -> Value {
    deploy(id, TIME, "production", "web", "v2")
}

/// Asserts that a command succeeded, and returns the JSON that it printed.
#[track_caller]
fn parsed(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.stdout, outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// Waits until a process refuses the credentials of a client. Fails if a request that was sent later than
/// [`REVOCATION_LIMIT`] is still accepted.
async fn refuse_in_time(client: &Client, revoked: Instant, process: &str) {
    loop {
        let sent = revoked.elapsed();
        let response = client.get("/v1/whoami").await;
        if response.status == 401 {
            return;
        }
        assert!(
            sent < REVOCATION_LIMIT,
            "{process} still answers {} to a request sent {} ms after the revocation",
            response.status,
            sent.as_millis()
        );
        tokio::task::yield_now().await;
    }
}

/// Serves the identities of jobs as the runners of GitHub Actions do; returns the URL. The path of a request is the
/// environment of its job.
async fn serve_identities(github: Arc<Issuer>) -> String {
    let answer = move |uri: Uri, headers: HeaderMap| {
        let github = Arc::clone(&github);
        async move {
            if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Bearer of-the-job") {
                return (StatusCode::UNAUTHORIZED, String::new());
            }
            if uri.query() != Some("api-version=2.0&audience=https%3A%2F%2Fledger.example") {
                return (StatusCode::BAD_REQUEST, String::new());
            }
            let token = github.job_token(uri.path().trim_start_matches('/'), 1);
            (StatusCode::OK, json!({"count": 1, "value": token}).to_string())
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router: Router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
