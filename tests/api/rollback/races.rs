//! Responses to failed checks while what runs changes: each is decided by what runs at the head of the journal.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, Position, TenantName};
use ledger_ingest::{FailedCheck, Ingest, PointSearchUse, RecordError, RecordOutcome, Rejection, Request};
use ledger_journal::{InterceptedJournal, Interceptor, MemoryJournal, SharedJournal};
use ledger_projections::{
    ProjectionSupervisor, Projections, SchemaVersion, Settings, SupervisorConfig, Waited,
};
use ledger_tests::{Servers, at, event, text};
use release_ledger::clock;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

const D1: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const D2: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// Longest wait for a condition; retentions are as long, so that nothing is dropped during a test.
const LIMIT: Duration = Duration::from_secs(60);
/// Interval at which a condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Lets others append reports between a decision and its confirmation: the decision reads the head first, the
/// confirmation reads it second.
struct Race {
    head_reads: AtomicU32,
    /// Reports that are recorded at the second read.
    reports: Mutex<Vec<Envelope>>,
    /// Write path of the others.
    others: Ingest,
}

#[async_trait]
impl Interceptor for Race {
    async fn before_head(&self) {
        if self.head_reads.fetch_add(1, Ordering::Relaxed) == 1 {
            let reports = std::mem::take(&mut *self.reports.lock().expect("not poisoned"));
            self.others.record(reports).await;
        }
    }
}

/// A ledger without a controller: the test asks for the responses.
struct Ledger {
    journal: SharedJournal,
    projections: Projections,
    ingest: Ingest,
    _projecting: DropGuard,
    // The last field: the projector needs Postgres.
    _servers: Servers,
}

impl Ledger {
    async fn start() -> Self {
        let servers = Servers::start().await;
        let settings = Settings {
            url: servers.postgres_url().into(),
            connections: 4,
            acquire_timeout: LIMIT,
            schema_version: SchemaVersion::CURRENT,
        };
        let projections = Projections::new(&settings, TenantName::default()).expect("projections");
        let journal: SharedJournal = Arc::new(MemoryJournal::new(TenantName::default(), clock::now));
        let config = SupervisorConfig {
            worker_id: Uuid::from_u128(1),
            runs_projectors: true,
            retired_retention: LIMIT,
            outdated_retention: LIMIT,
        };
        let ledgers = vec![(projections.clone(), Arc::clone(&journal))];
        let cancel = CancellationToken::new();
        tokio::spawn(ProjectionSupervisor::new(config, ledgers).run(cancel.clone()));
        let (ingest, _) =
            Ingest::open(TenantName::default(), Arc::clone(&journal), projections.clone(), clock::now);
        let ledger =
            Self { journal, projections, ingest, _projecting: cancel.drop_guard(), _servers: servers };
        ledger.wait_for_projections(Position::START).await;
        ledger
    }

    /// Starts a ledger in which web v1 is known good at the targets, v2 has replaced it, and a canary has failed.
    async fn with_failed_canary(targets: &[&str], canary: Value) -> (Self, FailedCheck) {
        let ledger = Self::start().await;
        ledger.declare_policy().await;
        for target in targets {
            ledger.record(&deploy(1, target, "v1", D1)).await;
        }
        let smoke = json!({
            "environment": "production", "service": "web", "release": {"version": "v1"}, "check": "smoke",
        });
        ledger.record(&event("smoke", "validation.passed", &at(2), smoke)).await;
        for target in targets {
            ledger.record(&deploy(3, target, "v2", D2)).await;
        }
        let check = ledger.record_canary(canary).await;
        (ledger, check)
    }

    /// Declares a policy of production by which a failed canary triggers a rollback.
    async fn declare_policy(&self) {
        let automatic = json!({
            "checks": ["canary"], "at_most_a_day": 9, "at_most_age_seconds": 315_360_000_u64,
        });
        let policy = json!({"required_validations": ["smoke"], "automatic_rollback": automatic});
        let declared = json!({"environment": "production", "policy": policy});
        self.record(&event("policy", "environment.declared", &at(0), declared)).await;
    }

    /// Records a failed canary, the only failed check of the ledger.
    async fn record_canary(&self, canary: Value) -> FailedCheck {
        let position = self.record(&event("canary", "validation.failed", &at(4), canary)).await;
        let checks = self.projections.failed_checks(Position::START, 1).await.expect("failed checks");
        let production = EnvironmentName::parse("production").expect("a name");
        FailedCheck::of(production, position, &checks[0].1).expect("a failed check")
    }

    async fn record(&self, event: &Value) -> Position {
        let outcomes = self.ingest.record(vec![envelope(event)]).await;
        let [RecordOutcome::Recorded(position)] = outcomes[..] else { panic!("{event}: {outcomes:?}") };
        self.wait_for_projections(position).await;
        position
    }

    async fn wait_for_projections(&self, position: Position) {
        let reached = async {
            while !matches!(self.projections.wait_for(position, LIMIT).await, Ok(Waited::Reached)) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        timeout(LIMIT, reached).await.expect("the projections reach the position");
    }

    /// Responds to a failed check; others record a report after the first decision and before its event.
    async fn respond(
        &self,
        check: &FailedCheck,
        point_search: PointSearchUse,
        meanwhile: Option<Value>,
    ) -> RecordOutcome {
        let race = Race {
            head_reads: AtomicU32::new(0),
            reports: Mutex::new(meanwhile.iter().map(envelope).collect()),
            others: self.ingest.clone(),
        };
        let journal: SharedJournal =
            Arc::new(InterceptedJournal::new(Arc::clone(&self.journal), Arc::new(race)));
        let (ingest, _) = Ingest::open(TenantName::default(), journal, self.projections.clone(), clock::now);
        let decided = async {
            loop {
                let request = Request::Failed(Box::new(check.clone()), point_search);
                match ingest.request(request).await {
                    // The machine is busy.
                    RecordOutcome::Refused(RecordError::Undecided(_)) => {
                        tokio::time::sleep(POLL_INTERVAL).await;
                    }
                    outcome => return outcome,
                }
            }
        };
        timeout(LIMIT, decided).await.expect("the service decides")
    }

    /// Returns the data of the event that an outcome recorded.
    async fn data_of(&self, outcome: &RecordOutcome) -> Value {
        let RecordOutcome::Recorded(position) = outcome else { panic!("not recorded: {outcome:?}") };
        let entry = self.journal.entry(*position).await.expect("the journal answers").expect("an entry");
        let event: Value = serde_json::from_slice(&entry.bytes).expect("JSON");
        event["data"].clone()
    }

    async fn head(&self) -> u64 {
        self.journal.head().await.expect("a head").position.get()
    }
}

fn envelope(event: &Value) -> Envelope {
    Envelope::parse(event.to_string().as_bytes()).expect("an event")
}

fn deploy(minutes: u64, target: &str, version: &str, digest: &str) -> Value {
    let release = json!({"version": version, "artifact": format!("pkg:oci/web@{digest}")});
    let data = json!({"environment": "production", "service": "web", "target": target, "release": release});
    event(&format!("{minutes}-{target}"), "deploy.succeeded", &at(minutes), data)
}

fn canary_of_artifact() -> Value {
    json!({"artifact": D2, "check": "canary"})
}

fn canary_of_lane() -> Value {
    json!({"environment": "production", "service": "web", "release": {"version": "v2"}, "check": "canary"})
}

/// Returns true if the check gets no response, because nothing that runs failed it.
fn has_no_response(outcome: &RecordOutcome) -> bool {
    let RecordOutcome::Refused(RecordError::Rejected(rejection)) = outcome else { return false };
    matches!(**rejection, Rejection::NotRunning { .. })
}

#[tokio::test]
async fn rule_4_a_failed_artifact_that_no_longer_runs_when_it_is_decided_gets_no_response() {
    let (ledger, check) = Ledger::with_failed_canary(&["eu"], canary_of_artifact()).await;
    let before = ledger.head().await;

    let outcome = ledger.respond(&check, PointSearchUse::Allowed, Some(deploy(5, "eu", "v1", D1))).await;

    assert!(has_no_response(&outcome), "{outcome:?}");
    assert_eq!(ledger.head().await, before + 1, "only the deploy is recorded");
}

#[tokio::test]
async fn rule_4_a_lane_that_is_redeployed_before_the_request_is_recorded_is_not_in_its_plan() {
    let (ledger, check) = Ledger::with_failed_canary(&["eu", "us"], canary_of_artifact()).await;

    let outcome = ledger.respond(&check, PointSearchUse::Allowed, Some(deploy(5, "eu", "v1", D1))).await;

    let data = ledger.data_of(&outcome).await;
    let steps = data["plan"]["steps"].as_array().unwrap_or_else(|| panic!("no request: {data}"));
    let targets: Vec<String> = steps.iter().map(|step| text(&step["target"])).collect();
    assert_eq!(targets, ["us"], "{data}");
}

#[tokio::test]
async fn rule_4_a_failed_lane_that_is_redeployed_meanwhile_is_declined_by_what_runs_now() {
    let (ledger, check) = Ledger::with_failed_canary(&["eu"], canary_of_lane()).await;

    let outcome = ledger.respond(&check, PointSearchUse::Allowed, Some(deploy(5, "eu", "v1", D1))).await;

    let reason = text(&ledger.data_of(&outcome).await["reason"]);
    assert!(reason.contains("no longer runs"), "{reason}");
}

#[tokio::test]
async fn rule_4_a_failed_artifact_that_a_version_no_longer_means_when_it_is_decided_gets_no_response() {
    let ledger = Ledger::start().await;
    ledger.declare_policy().await;
    let deploy_to_staging = |minutes: u64, digest: &str| {
        let release = json!({"version": "v2", "artifact": format!("pkg:oci/web@{digest}")});
        let data = json!({"environment": "staging", "service": "web", "target": "eu", "release": release});
        event(&format!("{minutes}-staging"), "deploy.succeeded", &at(minutes), data)
    };
    ledger.record(&deploy_to_staging(1, D2)).await;
    let data = json!({
        "environment": "production", "service": "web", "target": "eu", "release": {"version": "v2"},
    });
    ledger.record(&event("3-eu", "deploy.succeeded", &at(3), data)).await;
    let check = ledger.record_canary(canary_of_artifact()).await;
    let before = ledger.head().await;

    // A report that comes late: v2 meant another artifact when it was deployed to production.
    let outcome = ledger.respond(&check, PointSearchUse::TimedOut, Some(deploy_to_staging(2, D1))).await;

    assert!(has_no_response(&outcome), "{outcome:?}");
    assert_eq!(
        ledger.head().await,
        before + 1,
        "the first decision is a response, and only the deploy is recorded"
    );
}

#[tokio::test]
async fn rule_4_after_a_search_timeout_a_failed_artifact_that_no_longer_runs_gets_no_response() {
    let (ledger, check) = Ledger::with_failed_canary(&["eu"], canary_of_artifact()).await;

    let outcome = ledger.respond(&check, PointSearchUse::TimedOut, Some(deploy(5, "eu", "v1", D1))).await;

    assert!(has_no_response(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn rule_4_after_a_search_timeout_a_failed_lane_is_declined_by_what_runs_now() {
    let (ledger, check) = Ledger::with_failed_canary(&["eu"], canary_of_lane()).await;

    let outcome = ledger.respond(&check, PointSearchUse::TimedOut, Some(deploy(5, "eu", "v1", D1))).await;

    let reason = text(&ledger.data_of(&outcome).await["reason"]);
    assert!(reason.contains("no longer runs"), "{reason}");
}

#[tokio::test]
async fn rule_4_after_a_search_timeout_the_controller_declines_where_it_would_search() {
    let (ledger, check) = Ledger::with_failed_canary(&["eu"], canary_of_artifact()).await;

    let outcome = ledger.respond(&check, PointSearchUse::TimedOut, None).await;

    let reason = text(&ledger.data_of(&outcome).await["reason"]);
    assert!(reason.contains("did not end within"), "{reason}");
}
