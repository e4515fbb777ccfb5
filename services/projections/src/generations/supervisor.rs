//! Supervises this process's projections: activates the live generation, runs projectors for owned tenants, starts
//! rebuilds, drops expired generations.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ledger_domain::{Position, error_chain};
use ledger_journal::SharedJournal;
use metrics::gauge;
use sqlx::PgConnection;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::generations::cleanup::drop_expired;
use crate::generations::continuity::ContinuityMonitor;
use crate::generations::eligibility::{Eligibility, INELIGIBLE_BACKOFF};
use crate::generations::preferences::Preferences;
use crate::generations::rebuilder::{Origin, RebuildFailure, RebuildMode, Rebuilder};
use crate::generations::registry::{Generation, GenerationState, Worker, next_number};
use crate::generations::tenants::{SupervisedTenants, TenantChange};
use crate::generations::watcher::{POLL_INTERVAL, REGISTRY_TIMEOUT};
use crate::postgres::{Database, Error, Projections};
use crate::projector::Projector;
use crate::projector::pipeline::GenerationHandle;
use crate::projector::status::{ProjectorStatus, StopReason};

/// Interval of heartbeats and lease renewals.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of clean-ups.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);
/// Timeout of one clean-up.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Delay before taking over a tenant that prefers another worker.
const TAKEOVER_DELAY: Duration = Duration::from_secs(2);
/// Timeout for reading the head of a journal.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Time without handovers to a worker that did not acquire its tenant.
const HANDOVER_COOLDOWN: Duration = Duration::from_secs(10);
/// Running time of a healthy task after which the ineligibility back-off is reset.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Delay before a failed rebuild is retried.
const BUILD_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Configuration of a [`ProjectionSupervisor`].
#[derive(Debug, Clone, Copy)]
pub struct SupervisorConfig {
    /// The unique id of the process.
    pub worker_id: Uuid,
    /// True if the process runs projectors; false if it only queries.
    pub runs_projectors: bool,
    /// Retention of a replaced generation, for processes that have not noticed the switch yet.
    pub retired_retention: Duration,
    /// Retention of generations of an older schema version, after the last worker that supports it was seen.
    pub outdated_retention: Duration,
}

/// Supervises the projections of a process's tenants.
///
/// Each generation of a tenant's projections has one owner: the process that projects into it. Rendezvous hashing over
/// tenant and worker spreads the tenants: each tenant prefers one worker, which acquires the tenant when it is free,
/// and to which any other owner hands it over.
///
/// A tick reads the registry once for all tenants, and their journals concurrently. Therefore tenants do not wait for
/// one another's journals, and leases are renewed in time even if a journal does not respond.
pub struct ProjectionSupervisor {
    config: SupervisorConfig,
    worker: Worker,
    tenants: BTreeMap<String, TenantProjection>,
    /// Removed tenants whose tasks have not ended yet.
    removed: Vec<(String, TenantProjection)>,
    changes: mpsc::UnboundedReceiver<TenantChange>,
    handle: SupervisedTenants,
    /// Taken by [`Self::run`], which runs it as a task.
    monitor: Option<ContinuityMonitor>,
    connection: Option<PgConnection>,
    /// True if the registry's tables are known to exist.
    migrated: bool,
    /// The last logged reason why the registry is unavailable. Polling is frequent, so each reason is logged once.
    logged_failure: Option<String>,
    last_heartbeat: Option<Instant>,
    last_cleanup: Instant,
    cleanup: Option<AbortOnDropHandle<()>>,
    /// Notified when a task of this process ends.
    task_ended: Arc<Notify>,
    /// Notified when another generation becomes active.
    generation_changed: Arc<Notify>,
}

/// The supervision state of one tenant's projections.
struct TenantProjection {
    projections: Projections,
    journal: SharedJournal,
    /// Tasks by the number of their generation.
    tasks: HashMap<i32, Task>,
    /// Generations for which the projector of this process stopped permanently.
    stopped: HashMap<i32, StopReason>,
    /// True if one of these generations is not retired.
    has_fatal_error: bool,
    /// A preferred worker that did not acquire a generation, and the end of its handover cool-down.
    unresponsive: Option<(Uuid, Instant)>,
    /// Times since which generations without an owner are left to the preferred worker.
    free_since: HashMap<i32, Instant>,
    rebuild_at: Instant,
    eligibility: Eligibility,
}

/// A projector or a rebuild of a generation that this process owns.
struct Task {
    handle: JoinHandle<TaskOutcome>,
    cancel: CancellationToken,
    started: Instant,
    /// Time of the last successful access to the tables.
    healthy_at: watch::Sender<Instant>,
}

enum TaskOutcome {
    Stopped(StopReason),
    /// Transient failures kept the projector from progress for too long, up to this time.
    GaveUp(Instant),
    Built,
    NotBuilt(String),
}

impl ProjectionSupervisor {
    /// Creates a supervisor of some tenants' projections, all in one database.
    #[must_use]
    pub fn new(config: SupervisorConfig, ledgers: Vec<(Projections, SharedJournal)>) -> Self {
        let version =
            ledgers.first().map_or(0, |(projections, _)| projections.database().schema_version.version);
        let generation_changed = Arc::new(Notify::new());
        let (supervisor, changes) = mpsc::unbounded_channel();
        let (to_monitor, of_monitor) = mpsc::unbounded_channel();
        let monitor = ContinuityMonitor::new(ledgers.clone(), of_monitor, Arc::clone(&generation_changed));
        let supervised = |(projections, journal): (Projections, SharedJournal)| {
            (
                projections.tenant.to_string(),
                TenantProjection::new(projections, journal, config.runs_projectors),
            )
        };
        Self {
            config,
            worker: Worker { id: config.worker_id, version },
            tenants: ledgers.into_iter().map(supervised).collect(),
            removed: Vec::new(),
            changes,
            handle: SupervisedTenants::new(supervisor, to_monitor),
            monitor: Some(monitor),
            connection: None,
            migrated: false,
            logged_failure: None,
            last_heartbeat: None,
            last_cleanup: Instant::now(),
            cleanup: None,
            task_ended: Arc::new(Notify::new()),
            generation_changed,
        }
    }

    /// Returns a handle that adds and removes tenants.
    #[must_use]
    pub fn tenants(&self) -> SupervisedTenants {
        self.handle.clone()
    }

    /// Adds and removes tenants, as the handles requested.
    fn apply(&mut self, change: TenantChange) {
        match change {
            TenantChange::Added(projections, journal) => {
                let name = projections.tenant.to_string();
                let added = TenantProjection::new(*projections, journal, self.config.runs_projectors);
                self.tenants.entry(name).or_insert(added);
            }
            TenantChange::Removed(tenant) => {
                if let Some((name, removed)) = self.tenants.remove_entry(tenant.as_str()) {
                    removed.tasks.values().for_each(|task| task.cancel.cancel());
                    removed.projections.deactivate("the tenant was retired");
                    self.removed.push((name, removed));
                }
            }
        }
    }

    /// Releases the generations of removed tenants whose tasks have ended.
    async fn release_removed(&mut self) {
        let is_ended = |(_, tenant): &mut (String, TenantProjection)| {
            tenant.tasks.values().all(|task| task.handle.is_finished())
        };
        let ended: Vec<_> = self.removed.extract_if(.., is_ended).collect();
        for (name, tenant) in ended {
            self.release_ended(&name, tenant.tasks).await;
        }
    }

    /// Waits for tasks, and releases their generations.
    async fn release_ended(&mut self, tenant: &str, tasks: HashMap<i32, Task>) {
        for (number, task) in tasks {
            if let Err(error) = task.handle.await {
                warn!(tenant, %error, "projector task failed");
            }
            if let Some(connection) = &mut self.connection {
                // If the release fails, the lease ends with the connection.
                let _ = self.worker.release(connection, tenant, number).await;
            }
        }
    }

    /// Activates live generations, starts the tasks that are due, and checks the continuity of the journals once. Does
    /// not wait for tasks.
    pub async fn reconcile_once(&mut self) {
        self.reconcile().await;
        if let Some(monitor) = &mut self.monitor {
            monitor.check().await;
        }
    }

    async fn reconcile(&mut self) {
        let ticks = tokio::time::timeout(REGISTRY_TIMEOUT, async {
            while self.tick().await? {}
            Ok::<_, Error>(())
        });
        let reason = match ticks.await {
            Ok(Ok(())) => {
                if self.logged_failure.take().is_some() {
                    info!("generation registry is available again");
                }
                return;
            }
            Ok(Err(error)) => {
                // The registry's tables are missing if the database was restored or replaced.
                self.migrated &= !error.is_missing_table();
                error_chain(&error)
            }
            Err(_) => format!("the database did not respond within {REGISTRY_TIMEOUT:?}"),
        };
        self.connection = None;
        if self.logged_failure.as_ref() != Some(&reason) {
            warn!(reason, "generation registry is unavailable; retrying");
            self.logged_failure = Some(reason.clone());
        }
        for tenant in self.tenants.values() {
            if !tenant.projections.is_ready() {
                tenant.projections.deactivate(&reason);
            }
        }
    }

    /// Supervises the projections until the token is cancelled. Then lets the projectors finish their batches, and
    /// releases their generations.
    pub async fn run(mut self, cancelled: CancellationToken) {
        let monitor = self.monitor.take().map(ContinuityMonitor::run);
        let _monitoring = monitor.map(|running| AbortOnDropHandle::new(tokio::spawn(running)));
        loop {
            self.reconcile().await;
            self.release_removed().await;
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = self.task_ended.notified() => {}
                // The handle of this supervisor keeps the channel open.
                Some(change) = self.changes.recv() => self.apply(change),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            while let Ok(change) = self.changes.try_recv() {
                self.apply(change);
            }
        }
        for tenant in self.tenants.values() {
            tenant.tasks.values().for_each(|task| task.cancel.cancel());
        }
        let ending = std::mem::take(&mut self.tenants).into_iter().chain(std::mem::take(&mut self.removed));
        for (name, tenant) in ending.collect::<Vec<_>>() {
            self.release_ended(&name, tenant.tasks).await;
        }
    }

    /// Does everything that is due now. Returns true if more is due at once.
    async fn tick(&mut self) -> Result<bool, Error> {
        let Some(first) = self.tenants.values().next() else { return Ok(false) };
        let database = first.projections.database().clone();
        if !self.migrated {
            database.migrate_registry().await?;
            self.migrated = true;
        }
        // After a failure, the next tick connects again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.last_heartbeat = None;
                database.connect().await?
            }
        };
        if self.last_heartbeat.is_none_or(|last| last.elapsed() >= HEARTBEAT_INTERVAL) {
            Self::heartbeat(&mut connection, self.worker, self.config.runs_projectors, &mut self.tenants)
                .await?;
            self.last_heartbeat = Some(Instant::now());
        }
        let names: Vec<String> = self.tenants.keys().cloned().collect();
        let generations =
            self.worker.list_generations(&mut connection, &names, self.config.retired_retention).await?;
        let workers = self.worker.live_workers(&mut connection).await?;
        let mut by_tenant: GenerationsByTenant<'_> = HashMap::new();
        for generation in &generations {
            by_tenant.entry(&generation.tenant).or_default().push(generation);
        }
        let stale = self.activate(&mut connection, &by_tenant).await?;
        let created = self.create_missing(&mut connection, &by_tenant, &stale).await?;
        self.claim(&mut connection, &by_tenant, &stale, Preferences::new(&workers)).await?;
        self.start_cleanup(database, names, generations);
        self.connection = Some(connection);
        Ok(created || !stale.is_empty())
    }

    /// Collects finished tasks and activates live generations. Returns the tenants for which a rebuild completed: their
    /// generations were read before that.
    async fn activate(
        &mut self,
        connection: &mut PgConnection,
        generations: &GenerationsByTenant<'_>,
    ) -> Result<HashSet<String>, Error> {
        let mut stale = HashSet::new();
        for (name, tenant) in &mut self.tenants {
            let own = generations_of(generations, name);
            if tenant.collect_finished(connection, self.worker, self.config.runs_projectors, own).await? {
                stale.insert(name.clone());
            } else if tenant.activate_live(own) {
                self.generation_changed.notify_one();
            }
        }
        Ok(stale)
    }

    /// Creates a generation for each tenant that has none in use. Returns true if it created any.
    async fn create_missing(
        &mut self,
        connection: &mut PgConnection,
        generations: &GenerationsByTenant<'_>,
        stale: &HashSet<String>,
    ) -> Result<bool, Error> {
        let mut created = false;
        for (name, tenant) in self.tenants.iter().filter(|(name, _)| !stale.contains(*name)) {
            let own = generations_of(generations, name);
            if own.iter().all(|it| it.state == GenerationState::Retired) {
                let number = next_number(own.iter().copied());
                let tenant = &tenant.projections.tenant;
                created |= self.worker.create_generation(connection, tenant, number).await?;
            }
        }
        Ok(created)
    }

    /// Claims the generations that this process should own. Reads the journals' heads concurrently.
    async fn claim(
        &mut self,
        connection: &mut PgConnection,
        generations: &GenerationsByTenant<'_>,
        stale: &HashSet<String>,
        preferences: Preferences,
    ) -> Result<(), Error> {
        let context = ClaimContext {
            worker: self.worker,
            runs_projectors: self.config.runs_projectors,
            preferences,
            task_ended: Arc::clone(&self.task_ended),
        };
        let mut claiming = Vec::new();
        for (name, tenant) in self.tenants.iter_mut().filter(|(name, _)| !stale.contains(*name)) {
            let claims = tenant.plan_claims(&context, generations_of(generations, name));
            if !claims.is_empty() || tenant.may_become_eligible() {
                claiming.push(async move {
                    let head = tokio::time::timeout(HEAD_TIMEOUT, tenant.journal.head()).await;
                    let head = head.ok().and_then(Result::ok).map(|head| head.position);
                    (tenant, claims, head)
                });
            }
        }
        for (tenant, claims, head) in futures::future::join_all(claiming).await {
            tenant.claim(connection, &context, claims, head).await?;
        }
        Ok(())
    }

    /// Starts to drop expired generations, if that is due and not in progress.
    fn start_cleanup(&mut self, database: Database, tenants: Vec<String>, generations: Vec<Generation>) {
        let is_idle = self.cleanup.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if !is_idle || self.last_cleanup.elapsed() < CLEANUP_INTERVAL {
            return;
        }
        self.last_cleanup = Instant::now();
        let expired = generations.into_iter().filter(|it| it.expired);
        let expired: Vec<_> = expired.map(|it| (it.tenant, self.worker.version, it.number)).collect();
        let dropping = drop_expired(database, self.worker, self.config.outdated_retention, tenants, expired);
        self.cleanup = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            match tokio::time::timeout(CLEANUP_TIMEOUT, dropping).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = error_chain(&error);
                    warn!(error, "could not drop expired generations; retrying");
                }
                Err(_) => {
                    warn!(timeout = ?CLEANUP_TIMEOUT, "dropping expired generations timed out; retrying");
                }
            }
        })));
    }

    /// Records a heartbeat with the eligible tenants, renews the leases of the running tasks, and cancels tasks that
    /// lost theirs.
    async fn heartbeat(
        connection: &mut PgConnection,
        worker: Worker,
        runs_projectors: bool,
        tenants: &mut BTreeMap<String, TenantProjection>,
    ) -> Result<(), Error> {
        let eligible: Vec<String> = tenants
            .iter_mut()
            .filter_map(|(name, tenant)| tenant.is_eligible().then(|| name.clone()))
            .collect();
        worker.heartbeat(connection, runs_projectors, &eligible).await?;
        let running: Vec<(String, i32)> = tenants
            .iter()
            .flat_map(|(name, tenant)| tenant.tasks.keys().map(|number| (name.clone(), *number)))
            .collect();
        let owned: HashSet<(String, i32)> = worker.renew(connection, &running).await?.into_iter().collect();
        for lost in running.into_iter().filter(|generation| !owned.contains(generation)) {
            if let Some(task) = tenants.get(&lost.0).and_then(|tenant| tenant.tasks.get(&lost.1)) {
                task.cancel.cancel();
            }
        }
        Ok(())
    }
}

/// Generations by the name of their tenant.
type GenerationsByTenant<'g> = HashMap<&'g str, Vec<&'g Generation>>;

fn generations_of<'m, 'g>(generations: &'m GenerationsByTenant<'g>, tenant: &str) -> &'m [&'g Generation] {
    generations.get(tenant).map_or(&[], Vec::as_slice)
}

/// The input of claims that is the same for all tenants in a tick.
struct ClaimContext {
    worker: Worker,
    runs_projectors: bool,
    preferences: Preferences,
    task_ended: Arc<Notify>,
}

/// A generation that this process may acquire.
struct Claim {
    number: i32,
    state: GenerationState,
    /// The preferred worker, if it is another one that did not acquire the generation in time.
    instead_of: Option<Uuid>,
}

impl TenantProjection {
    fn new(projections: Projections, journal: SharedJournal, runs_projectors: bool) -> Self {
        if runs_projectors {
            projections.status.send_replace(Some(ProjectorStatus::Starting));
        }
        let now = Instant::now();
        Self {
            projections,
            journal,
            tasks: HashMap::new(),
            stopped: HashMap::new(),
            has_fatal_error: false,
            unresponsive: None,
            free_since: HashMap::new(),
            rebuild_at: now,
            eligibility: Eligibility::new(now),
        }
    }

    /// Returns true if other owners may hand the tenant over to this process. Resets the back-off after a healthy run.
    fn is_eligible(&mut self) -> bool {
        let is_healthy = |task: &Task| {
            task.started.elapsed() > HEALTHY_AFTER
                && task.healthy_at.borrow().elapsed() < HEARTBEAT_INTERVAL * 5
        };
        if self.tasks.values().any(is_healthy) {
            self.eligibility.backoff = INELIGIBLE_BACKOFF.0;
        }
        let is_ending = self.tasks.values().any(|task| task.cancel.is_cancelled());
        !self.has_fatal_error && !is_ending && self.eligibility.ineligible_until.is_none()
    }

    /// Returns true if the ineligibility back-off is over, so that a readable journal makes this process eligible
    /// again.
    fn may_become_eligible(&self) -> bool {
        self.eligibility.ineligible_until.is_some_and(|until| until <= Instant::now())
    }

    /// Removes finished tasks and releases their generations; forgets generations that no longer exist. Returns true if
    /// a rebuild completed.
    async fn collect_finished(
        &mut self,
        connection: &mut PgConnection,
        worker: Worker,
        runs_projectors: bool,
        own: &[&Generation],
    ) -> Result<bool, Error> {
        let mut built = false;
        let finished: Vec<i32> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.handle.is_finished())
            .map(|(number, _)| *number)
            .collect();
        for number in finished {
            let Some(task) = self.tasks.remove(&number) else { continue };
            let tenant = self.projections.tenant.to_string();
            // A failure to project into a retired generation does not count.
            let needed = own.iter().any(|it| it.number == number && it.state != GenerationState::Retired);
            match task.handle.await {
                Ok(TaskOutcome::Built) => built = true,
                Ok(TaskOutcome::Stopped(StopReason::Cancelled)) => {}
                Ok(TaskOutcome::Stopped(stopped)) => {
                    if self.projections.active_number().is_none_or(|active| active == number) {
                        self.projections.status.send_replace(Some(ProjectorStatus::Stopped(stopped.clone())));
                    }
                    self.stopped.insert(number, stopped);
                }
                // Count from the time of the failure: if the database was unavailable since, no worker could project.
                Ok(TaskOutcome::GaveUp(at)) if needed => self.eligibility.record_failure(at),
                Ok(TaskOutcome::GaveUp(_)) => {}
                Ok(TaskOutcome::NotBuilt(reason)) => {
                    warn!(tenant, number, reason, "rebuild failed; retrying");
                    self.rebuild_at = Instant::now() + BUILD_RETRY_DELAY;
                    // It is no failure of this process if another one completed or took over the rebuild.
                    let is_open =
                        |it: &&Generation| it.state == GenerationState::Building && (it.mine || !it.owned);
                    if own.iter().filter(|it| it.number == number).any(is_open) {
                        self.eligibility.record_failure(Instant::now());
                    }
                }
                Err(error) => {
                    error!(tenant, number, %error, "projector task failed");
                    self.eligibility.record_failure(Instant::now());
                }
            }
            if !runs_projectors {
                // A process without projectors only builds the first generation of an empty ledger.
                self.projections.status.send_replace(None);
            }
            worker.release(connection, &tenant, number).await?;
        }
        let of = |number: &i32| own.iter().find(|it| it.number == *number);
        // The monitor clears the divergence if a lagging journal has caught up.
        let is_resolved = |number: &i32| {
            self.projections.active_number() == Some(*number) && self.projections.divergence().is_none()
        };
        self.stopped.retain(|number, stopped| {
            of(number).is_some() && !(matches!(stopped, StopReason::Diverged(_)) && is_resolved(number))
        });
        self.free_since.retain(|number, _| of(number).is_some());
        self.has_fatal_error =
            self.stopped.keys().filter_map(of).any(|it| it.state != GenerationState::Retired);
        let stopped = f64::from(u32::from(self.has_fatal_error));
        gauge!("ledger_projector_stopped", "tenant" => self.projections.tenant.to_string()).set(stopped);
        Ok(built)
    }

    /// Activates the live generation. Returns true if the active generation changed.
    fn activate_live(&self, own: &[&Generation]) -> bool {
        let before = self.projections.active_number();
        match own.iter().find(|it| it.state == GenerationState::Live) {
            Some(live) => self.projections.activate(live.number),
            None => self.projections.deactivate("a generation is being built"),
        }
        before != self.projections.active_number()
    }

    /// Cancels tasks to hand their generations over to the preferred worker. Returns the generations that this process
    /// may acquire.
    fn plan_claims(&mut self, context: &ClaimContext, own: &[&Generation]) -> Vec<Claim> {
        let (worker, runs_projectors, now) = (context.worker, context.runs_projectors, Instant::now());
        let preferred = context.preferences.preferred(self.projections.tenant.as_str());
        let has_live = own.iter().any(|it| it.state == GenerationState::Live);
        let mut claims = Vec::new();
        for it in own {
            let number = it.number;
            // The process that requested a rebuild beside a live generation runs it. Processes without projectors
            // only build the first generation of an empty ledger.
            let wanted = match it.state {
                GenerationState::Live => runs_projectors,
                GenerationState::Retired => runs_projectors && !it.expired,
                GenerationState::Building => !has_live,
            };
            if let Some(task) = self.tasks.get(&number) {
                let is_cooling_down =
                    |id| self.unresponsive.is_some_and(|(worker, until)| worker == id && now < until);
                let hands_over = preferred.is_some_and(|id| id != worker.id && !is_cooling_down(id));
                if !wanted || (hands_over && it.state == GenerationState::Live) {
                    // The lease is released when the task has ended.
                    task.cancel.cancel();
                }
                continue;
            }
            if !wanted || self.stopped.contains_key(&number) || now < self.eligibility.retry_at {
                continue;
            }
            if it.owned && !it.mine {
                self.free_since.remove(&number);
                if runs_projectors && it.state == GenerationState::Live {
                    self.projections.status.send_replace(Some(ProjectorStatus::Standby));
                }
                continue;
            }
            let free_since = *self.free_since.entry(number).or_insert(now);
            let instead_of = preferred.filter(|preferred| *preferred != worker.id);
            if instead_of.is_some() && now - free_since < TAKEOVER_DELAY {
                continue;
            }
            if it.state == GenerationState::Building && now < self.rebuild_at {
                continue;
            }
            claims.push(Claim { number, state: it.state, instead_of });
        }
        claims
    }

    /// Acquires generations and starts their tasks. `head` is the end of the journal; `None` if it could not be read.
    async fn claim(
        &mut self,
        connection: &mut PgConnection,
        context: &ClaimContext,
        claims: Vec<Claim>,
        head: Option<Position>,
    ) -> Result<(), Error> {
        let Some(head) = head else {
            self.eligibility.record_unreadable_journal(Instant::now());
            return Ok(());
        };
        if self.may_become_eligible() {
            self.eligibility.ineligible_until = None;
        }
        for claim in claims {
            if !context.runs_projectors && head != Position::START {
                continue;
            }
            let tenant = self.projections.tenant.as_str();
            if context.worker.acquire(connection, tenant, claim.number, claim.state).await? {
                self.free_since.remove(&claim.number);
                self.unresponsive = claim.instead_of.map(|id| (id, Instant::now() + HANDOVER_COOLDOWN));
                self.start_task(claim.number, claim.state, context);
            }
        }
        Ok(())
    }

    fn start_task(&mut self, number: i32, state: GenerationState, context: &ClaimContext) {
        let cancel = CancellationToken::new();
        let task_ended = Arc::clone(&context.task_ended);
        let (handle, healthy_at);
        if state == GenerationState::Building {
            let (projections, journal) = (&self.projections, self.journal.clone());
            let rebuilder =
                Rebuilder::new(projections, number, journal, Origin::Stream, context.worker, cancel.clone());
            healthy_at = watch::Sender::new(Instant::now());
            let cancelled = cancel.clone();
            handle = tokio::spawn(async move {
                let built = tokio::select! {
                    built = rebuilder.run(RebuildMode::Switch) => built,
                    () = cancelled.cancelled() => Err(StopReason::Cancelled.into()),
                };
                task_ended.notify_one();
                match built {
                    Ok(_) => TaskOutcome::Built,
                    Err(RebuildFailure::Stopped(stopped)) => TaskOutcome::Stopped(stopped),
                    Err(failure) => TaskOutcome::NotBuilt(failure.to_string()),
                }
            });
        } else {
            let generation = GenerationHandle::new(&self.projections, number);
            healthy_at = generation.healthy_at.clone();
            let projector = Projector::new(generation, self.journal.clone());
            let cancelled = cancel.clone();
            handle = tokio::spawn(async move {
                let stopped = projector.run(cancelled).await;
                task_ended.notify_one();
                stopped.map_or_else(|| TaskOutcome::GaveUp(Instant::now()), TaskOutcome::Stopped)
            });
        }
        self.tasks.insert(number, Task { handle, cancel, started: Instant::now(), healthy_at });
    }
}
