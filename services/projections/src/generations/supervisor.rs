//! What keeps a process's projections: which generation answers, who folds into each, what is built and what is dropped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ledger_domain::Position;
use ledger_journal::SharedJournal;
use metrics::gauge;
use sqlx::PgConnection;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::Projections;
use crate::generations::continuity::ContinuityMonitor;
use crate::generations::rebuilder::{Failure, Origin, RebuildMode, Rebuilder};
use crate::generations::registry::{Generation, Member, State, next_number};
use crate::generations::watcher::{LOOK_AGAIN, PATIENCE};
use crate::key::key;
use crate::postgres::{Database, Error};
use crate::projector::pipeline::{GenerationHandle, close};
use crate::projector::{Projector, Status, Stopped};

/// How often a process says that it is there, and folds what it folds.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether something can be dropped.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);
/// How long that may take.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long somebody is waited for who reads what is dropped.
const DROP_LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a process leaves to others what is theirs by preference.
const TAKEOVER_DELAY: Duration = Duration::from_secs(2);
/// How long the journal may take to say where it ends.
const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a process does not try again what it could not fold.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// How long a process does not offer itself to a tenant that it could not fold for: at first, and at most.
const INELIGIBLE_BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// How long nothing is handed over to a process that did not take what was its to take.
const HANDOVER_COOLDOWN: Duration = Duration::from_secs(10);
/// How long a projector has to run before what went wrong is forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How long to wait after a filling failed.
const BUILD_RETRY_DELAY: Duration = Duration::from_secs(2);

/// How projections are kept.
#[derive(Debug, Clone, Copy)]
pub struct SupervisorConfig {
    /// The process, by a name that no other has.
    pub member: Uuid,
    /// Whether it folds, or only asks.
    pub folds: bool,
    /// How long projections that were replaced are kept for those who have not heard of it yet.
    pub grace: Duration,
    /// How long projections of an older form are kept after the last program that knows it was seen.
    pub keep_older: Duration,
}

/// Keeps the projections of a process's tenants.
///
/// Each generation of a tenant's projections has one owner, the process that folds into it. Tenants are spread over
/// the processes that fold: each has one that it prefers, by a hash of both names, and that one takes it when
/// nobody has it, or the one that has it hands it over.
///
/// A turn asks the registry about all tenants at once, and their journals side by side: nobody waits for another one's,
/// and leases are renewed in time whatever does not answer.
pub struct ProjectionSupervisor {
    keeping: SupervisorConfig,
    me: Member,
    ledgers: BTreeMap<String, TenantProjection>,
    /// Until it looks for itself.
    recogniser: Option<ContinuityMonitor>,
    connection: Option<PgConnection>,
    /// Whether the registry's tables were there.
    migrated: bool,
    /// What was last told of why the registry cannot be asked: it is looked at often, and told once.
    warned: Option<String>,
    said: Option<Instant>,
    cleaned: Instant,
    /// What is dropped now.
    cleaning: Option<AbortOnDropHandle<()>>,
    /// Told when something that this process folds or fills has ended.
    ended: Arc<Notify>,
    /// Told when other projections answer.
    others: Arc<Notify>,
}

/// One tenant's projections.
struct TenantProjection {
    projections: Projections,
    journal: SharedJournal,
    tasks: HashMap<i32, Task>,
    /// Generations that need a person, as far as this process is concerned.
    stopped: HashMap<i32, Stopped>,
    /// Whether one of them is needed.
    has_fatal_error: bool,
    /// The process that did not take what was its to take, and until when nothing is handed over to it.
    absent: Option<(Uuid, Instant)>,
    /// Since when a generation is free that others are to take first.
    free_since: HashMap<i32, Instant>,
    build_again: Instant,
    eligibility: Eligibility,
}

/// Whether a process can fold for a tenant, as it found out when it tried.
struct Eligibility {
    /// It does not try before.
    retry_at: Instant,
    /// It does not offer itself before, and leaves the tenant to others: none hands over to it, only to see it fail.
    ineligible_until: Option<Instant>,
    backoff: Duration,
}

/// What is done with a generation that this process owns.
struct Task {
    handle: JoinHandle<Outcome>,
    cancel: CancellationToken,
    began: Instant,
    /// When it last got on with the tables.
    well: watch::Sender<Instant>,
}

enum Outcome {
    Stopped(Stopped),
    /// Something that may pass has kept it from folding for long, up to this moment.
    GaveUp(Instant),
    Built,
    NotBuilt(String),
}

impl ProjectionSupervisor {
    /// A keeper of some tenants' projections, all in one database.
    #[must_use]
    pub fn new(keeping: SupervisorConfig, ledgers: Vec<(Projections, SharedJournal)>) -> Self {
        let version =
            ledgers.first().map_or(0, |(projections, _)| projections.database().schema_version.version);
        let others = Arc::new(Notify::new());
        let recogniser = ContinuityMonitor::new(ledgers.clone(), Arc::clone(&others));
        let now = Instant::now();
        let kept = |(projections, journal): (Projections, SharedJournal)| {
            if keeping.folds {
                projections.status.send_replace(Some(Status::Starting));
            }
            let (tasks, stopped, free_since) = (HashMap::new(), HashMap::new(), HashMap::new());
            let tenant = projections.tenant.to_string();
            let (build_again, eligibility) = (now, Eligibility::new(now));
            let (has_fatal_error, absent) = (false, None);
            let kept = TenantProjection {
                projections,
                journal,
                tasks,
                stopped,
                has_fatal_error,
                absent,
                free_since,
                build_again,
                eligibility,
            };
            (tenant, kept)
        };
        Self {
            keeping,
            me: Member { id: keeping.member, version },
            ledgers: ledgers.into_iter().map(kept).collect(),
            recogniser: Some(recogniser),
            connection: None,
            migrated: false,
            warned: None,
            said: None,
            cleaned: now,
            cleaning: None,
            ended: Arc::new(Notify::new()),
            others,
        }
    }

    /// Looks until projections that can answer do, or something has to be waited for.
    pub async fn look(&mut self) {
        self.look_once().await;
        if let Some(recogniser) = &mut self.recogniser {
            recogniser.look().await;
        }
    }

    async fn look_once(&mut self) {
        let looked = tokio::time::timeout(PATIENCE, async {
            while self.turn().await? {}
            Ok::<_, Error>(())
        });
        let reason = match looked.await {
            Ok(Ok(())) => {
                if self.warned.take().is_some() {
                    info!("the registry of projections can be asked again");
                }
                return;
            }
            Ok(Err(error)) => {
                // It may have lost its tables: the database was restored, or is another one.
                self.migrated &= !error.is_without_table();
                error.told()
            }
            Err(_) => format!("the database does not answer within {PATIENCE:?}"),
        };
        self.connection = None;
        if self.warned.as_ref() != Some(&reason) {
            warn!(reason, "the registry of projections cannot be asked");
            self.warned = Some(reason.clone());
        }
        for kept in self.ledgers.values() {
            if !kept.projections.is_ready() {
                kept.projections.answer_not(&reason);
            }
        }
    }

    /// Keeps the projections until the token is cancelled; then what this process folds is folded to the end of its
    /// batch, and left to others.
    pub async fn run(mut self, cancelled: CancellationToken) {
        let recogniser = self.recogniser.take().map(ContinuityMonitor::run);
        let _recognising = recogniser.map(|running| AbortOnDropHandle::new(tokio::spawn(running)));
        loop {
            self.look_once().await;
            tokio::select! {
                () = cancelled.cancelled() => break,
                () = self.ended.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
        for kept in self.ledgers.values_mut() {
            for task in kept.tasks.values() {
                task.cancel.cancel();
            }
        }
        for (tenant, kept) in &mut self.ledgers {
            for (number, task) in std::mem::take(&mut kept.tasks) {
                if let Err(error) = task.handle.await {
                    warn!(tenant, %error, "a projector did not end well");
                }
                if let Some(connection) = &mut self.connection {
                    // Unsaid, it is found out when the connection is gone.
                    let _ = self.me.release(connection, tenant, number).await;
                }
            }
        }
    }

    /// Does what is to be done now; says whether there is more already.
    async fn turn(&mut self) -> Result<bool, Error> {
        let Some(kept) = self.ledgers.values().next() else { return Ok(false) };
        let database = kept.projections.database().clone();
        if !self.migrated {
            database.migrate_registry().await?;
            self.migrated = true;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                self.said = None;
                self.connection.insert(database.connect().await?)
            }
        };
        if self.said.is_none_or(|said| said.elapsed() >= HEARTBEAT_INTERVAL) {
            Self::heartbeat(connection, self.me, self.keeping.folds, &mut self.ledgers).await?;
            self.said = Some(Instant::now());
        }
        let tenants: Vec<String> = self.ledgers.keys().cloned().collect();
        let generations = self.me.look(connection, &tenants, self.keeping.grace).await?;
        let members = self.me.members(connection).await?;
        let mut of_tenant: HashMap<&str, Vec<&Generation>> = HashMap::new();
        for generation in &generations {
            of_tenant.entry(&generation.tenant).or_default().push(generation);
        }
        let nothing = Vec::new();
        let own_of = |tenant: &String| of_tenant.get(tenant.as_str()).unwrap_or(&nothing);
        let (mut again, mut stale) = (false, HashSet::new());
        for (tenant, kept) in &mut self.ledgers {
            let own = own_of(tenant);
            if kept.collect_finished(connection, self.me, self.keeping.folds, own).await? {
                // What was read of it is older than that.
                again = true;
                stale.insert(tenant.clone());
                continue;
            }
            if kept.answer(own) {
                self.others.notify_one();
            }
            if own.iter().all(|it| it.state == State::Retired) {
                let number = next_number(own.iter().copied());
                again |= self.me.begin(connection, &kept.projections.tenant, number).await?;
            }
        }
        let (me, folds, ended) = (self.me, self.keeping.folds, &self.ended);
        let preferences = Preferences::of(&members);
        let sharing = Sharing { me, folds, preferences, ended: Arc::clone(ended) };
        let mut wanting = Vec::new();
        for (tenant, kept) in self.ledgers.iter_mut().filter(|(tenant, _)| !stale.contains(*tenant)) {
            let wanted = kept.share(&sharing, own_of(tenant));
            if !wanted.is_empty() || kept.may_become_eligible() {
                wanting.push(async move {
                    let head = tokio::time::timeout(HEAD_TIMEOUT, kept.journal.head()).await;
                    let head = head.ok().and_then(Result::ok).map(|head| head.position);
                    (kept, wanted, head)
                });
            }
        }
        for (kept, wanted, head) in futures::future::join_all(wanting).await {
            kept.take(connection, &sharing, wanted, head).await?;
        }
        let idle = self.cleaning.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if idle && self.cleaned.elapsed() >= CLEANUP_INTERVAL {
            self.cleaned = Instant::now();
            let expired = generations.into_iter().filter(|it| it.expired);
            let expired: Vec<_> = expired.map(|it| (it.tenant, self.me.version, it.number)).collect();
            let cleaning = clean(database, self.me, self.keeping.keep_older, tenants, expired);
            self.cleaning = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                match tokio::time::timeout(CLEANUP_TIMEOUT, cleaning).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        warn!(error = error.told(), "projections that nobody needs are not dropped yet");
                    }
                    Err(_) => {
                        warn!("projections that nobody needs are not dropped within {CLEANUP_TIMEOUT:?}")
                    }
                }
            })));
        }
        Ok(again)
    }

    /// Says that this process is there, for whom it would fold, and what it folds; ends what it does not own any
    /// more.
    async fn heartbeat(
        connection: &mut PgConnection,
        me: Member,
        folds: bool,
        ledgers: &mut BTreeMap<String, TenantProjection>,
    ) -> Result<(), Error> {
        let fit: Vec<String> = ledgers
            .iter_mut()
            .filter_map(|(tenant, kept)| kept.is_eligible().then(|| tenant.clone()))
            .collect();
        me.see(connection, folds, &fit).await?;
        let folded: Vec<(String, i32)> = ledgers
            .iter()
            .flat_map(|(tenant, kept)| kept.tasks.keys().map(|number| (tenant.clone(), *number)))
            .collect();
        let owned: HashSet<(String, i32)> = me.renew(connection, &folded).await?.into_iter().collect();
        for of in folded.into_iter().filter(|of| !owned.contains(of)) {
            if let Some(task) = ledgers.get(&of.0).and_then(|kept| kept.tasks.get(&of.1)) {
                task.cancel.cancel();
            }
        }
        Ok(())
    }
}

/// Drops what nobody needs: generations whose grace is over, and those of older forms that no program knows.
async fn clean(
    database: Database,
    me: Member,
    keep_older: Duration,
    tenants: Vec<String>,
    mut unneeded: Vec<(String, i32, i32)>,
) -> Result<(), Error> {
    let mut connection = database.connect().await?;
    Member::forget_absent(&mut connection, keep_older).await?;
    unneeded.extend(me.outdated(&mut connection, &tenants, keep_older).await?);
    for (tenant, version, number) in unneeded {
        match me.drop(&mut connection, (&tenant, version, number), DROP_LOCK_TIMEOUT).await {
            Ok(true) => info!(tenant, version, number, "projections that nobody needs are dropped"),
            // Another process was first.
            Ok(false) => {}
            Err(error) if error.is_lock_timeout() => {
                info!(tenant, version, number, "projections that nobody needs are still in use");
            }
            Err(error) => return Err(error),
        }
    }
    close(connection).await;
    Ok(())
}

/// How what is to be folded is shared.
struct Sharing {
    me: Member,
    folds: bool,
    preferences: Preferences,
    ended: Arc<Notify>,
}

/// A generation that a process would fold into.
struct Wanted {
    number: i32,
    state: State,
    /// The process that was to take it, and did not.
    instead_of: Option<Uuid>,
}

impl Eligibility {
    const fn new(now: Instant) -> Self {
        Self { retry_at: now, ineligible_until: None, backoff: INELIGIBLE_BACKOFF.0 }
    }

    /// It could not fold, and cannot say that this has passed.
    fn failed(&mut self, at: Instant) {
        self.unreadable(at);
        self.ineligible_until = Some(at + self.backoff);
        self.backoff = (self.backoff * 2).min(INELIGIBLE_BACKOFF.1);
    }

    /// Its journal could not be read, which it can find out.
    fn unreadable(&mut self, at: Instant) {
        self.retry_at = at + RETRY_DELAY;
        self.ineligible_until = self.ineligible_until.max(Some(at + INELIGIBLE_BACKOFF.0));
    }
}

impl TenantProjection {
    /// Whether this process offers itself to the tenant: whoever folds for it hands over to one that does.
    fn is_eligible(&mut self) -> bool {
        let proven = |task: &Task| {
            task.began.elapsed() > HEALTHY_AFTER && task.well.borrow().elapsed() < HEARTBEAT_INTERVAL * 5
        };
        if self.tasks.values().any(proven) {
            self.eligibility.backoff = INELIGIBLE_BACKOFF.0;
        }
        let ending = self.tasks.values().any(|task| task.cancel.is_cancelled());
        !self.has_fatal_error && !ending && self.eligibility.ineligible_until.is_none()
    }

    /// Whether nothing but its journal may keep it from that.
    fn may_become_eligible(&self) -> bool {
        self.eligibility.ineligible_until.is_some_and(|until| until <= Instant::now())
    }

    /// Takes note of tasks that have ended, and leaves their generations to others; forgets what was known of
    /// generations that are no more. Says whether one was built.
    async fn collect_finished(
        &mut self,
        connection: &mut PgConnection,
        me: Member,
        folds: bool,
        own: &[&Generation],
    ) -> Result<bool, Error> {
        let mut built = false;
        let ended: Vec<i32> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.handle.is_finished())
            .map(|(number, _)| *number)
            .collect();
        for number in ended {
            let Some(task) = self.tasks.remove(&number) else { continue };
            let tenant = self.projections.tenant.to_string();
            // What was replaced may have been for good reason.
            let needed = own.iter().any(|it| it.number == number && it.state != State::Retired);
            match task.handle.await {
                Ok(Outcome::Built) => built = true,
                Ok(Outcome::Stopped(Stopped::Cancelled)) => {}
                Ok(Outcome::Stopped(stopped)) => {
                    if self.projections.answers_from().is_none_or(|answers| answers == number) {
                        self.projections.status.send_replace(Some(Status::Stopped(stopped.clone())));
                    }
                    self.stopped.insert(number, stopped);
                }
                // Where the database was away, this is learnt only now, and nobody could have folded meanwhile.
                Ok(Outcome::GaveUp(at)) if needed => self.eligibility.failed(at),
                Ok(Outcome::GaveUp(_)) => {}
                Ok(Outcome::NotBuilt(reason)) => {
                    warn!(tenant, number, reason, "new projections are not filled yet");
                    self.build_again = Instant::now() + BUILD_RETRY_DELAY;
                    // Not if another process was first.
                    let open = |it: &&&Generation| it.state == State::Building && (it.mine || !it.owned);
                    if own.iter().filter(|it| it.number == number).any(|it| open(&it)) {
                        self.eligibility.failed(Instant::now());
                    }
                }
                Err(error) => {
                    error!(tenant, number, %error, "a projector did not end well");
                    self.eligibility.failed(Instant::now());
                }
            }
            if !folds {
                // It only made the tables of a ledger that had nothing.
                self.projections.status.send_replace(None);
            }
            me.release(connection, &tenant, number).await?;
        }
        let of = |number: &i32| own.iter().find(|it| it.number == *number);
        // A journal that seemed to lack its end may have it again.
        let healed = |number: &i32| {
            self.projections.answers_from() == Some(*number) && self.projections.divergence().is_none()
        };
        self.stopped.retain(|number, stopped| {
            of(number).is_some() && !(matches!(stopped, Stopped::Diverged(_)) && healed(number))
        });
        self.free_since.retain(|number, _| of(number).is_some());
        self.has_fatal_error = self.stopped.keys().filter_map(of).any(|it| it.state != State::Retired);
        let stopped = f64::from(u32::from(self.has_fatal_error));
        gauge!("ledger_projector_stopped", "tenant" => self.projections.tenant.to_string()).set(stopped);
        Ok(built)
    }

    /// Lets the live generation answer; says whether another one did before.
    fn answer(&self, own: &[&Generation]) -> bool {
        let before = self.projections.answers_from();
        match own.iter().find(|it| it.state == State::Live) {
            Some(live) => self.projections.activate(live.number),
            None => self.projections.answer_not("they are being filled"),
        }
        before != self.projections.answers_from()
    }

    /// Hands over what is another's to fold; says what is this process's to take.
    fn share(&mut self, sharing: &Sharing, own: &[&Generation]) -> Vec<Wanted> {
        let (me, folds, now) = (sharing.me, sharing.folds, Instant::now());
        let preferred = sharing.preferences.of_tenant(self.projections.tenant.as_str());
        let has_live = own.iter().any(|it| it.state == State::Live);
        let mut all = Vec::new();
        for it in own {
            let number = it.number;
            // New projections beside live ones of the same form are filled by who asked for them. A process that folds
            // nothing makes those of a ledger that has nothing.
            let wanted = match it.state {
                State::Live => folds,
                State::Retired => folds && !it.expired,
                State::Building => !has_live,
            };
            if let Some(task) = self.tasks.get(&number) {
                let absent = |it| self.absent.is_some_and(|(member, until)| member == it && now < until);
                let hands_over = preferred.is_some_and(|it| it != me.id && !absent(it));
                if !wanted || (hands_over && it.state == State::Live) {
                    // It is released when the task has ended.
                    task.cancel.cancel();
                }
                continue;
            }
            if !wanted || self.stopped.contains_key(&number) || now < self.eligibility.retry_at {
                continue;
            }
            if it.owned && !it.mine {
                self.free_since.remove(&number);
                if folds && it.state == State::Live {
                    self.projections.status.send_replace(Some(Status::Standby));
                }
                continue;
            }
            let free_since = *self.free_since.entry(number).or_insert(now);
            let instead_of = preferred.filter(|preferred| *preferred != me.id);
            if instead_of.is_some() && now - free_since < TAKEOVER_DELAY {
                continue;
            }
            if it.state == State::Building && now < self.build_again {
                continue;
            }
            all.push(Wanted { number, state: it.state, instead_of });
        }
        all
    }

    /// Takes what is wanted, if the journal can be read; `head` is where it ends.
    async fn take(
        &mut self,
        connection: &mut PgConnection,
        sharing: &Sharing,
        all: Vec<Wanted>,
        head: Option<Position>,
    ) -> Result<(), Error> {
        let Some(head) = head else {
            self.eligibility.unreadable(Instant::now());
            return Ok(());
        };
        if self.may_become_eligible() {
            self.eligibility.ineligible_until = None;
        }
        for wanted in all {
            if !sharing.folds && head != Position::START {
                continue;
            }
            let tenant = self.projections.tenant.as_str();
            if sharing.me.acquire(connection, tenant, wanted.number, wanted.state).await? {
                self.free_since.remove(&wanted.number);
                self.absent = wanted.instead_of.map(|member| (member, Instant::now() + HANDOVER_COOLDOWN));
                self.begin(wanted.number, wanted.state, sharing);
            }
        }
        Ok(())
    }

    fn begin(&mut self, number: i32, state: State, sharing: &Sharing) {
        let cancel = CancellationToken::new();
        let ended = Arc::clone(&sharing.ended);
        let (handle, well);
        if state == State::Building {
            let (projections, journal) = (&self.projections, self.journal.clone());
            let builder =
                Rebuilder::new(projections, number, journal, Origin::Stream, sharing.me, cancel.clone());
            well = watch::Sender::new(Instant::now());
            let cancelled = cancel.clone();
            handle = tokio::spawn(async move {
                let built = tokio::select! {
                    built = builder.run(RebuildMode::Switch) => built,
                    () = cancelled.cancelled() => Err(Stopped::Cancelled.into()),
                };
                ended.notify_one();
                match built {
                    Ok(_) => Outcome::Built,
                    Err(Failure::Stopped(stopped)) => Outcome::Stopped(stopped),
                    Err(failure) => Outcome::NotBuilt(failure.to_string()),
                }
            });
        } else {
            let target = GenerationHandle::new(&self.projections, number);
            well = target.well.clone();
            let projector = Projector::new(target, self.journal.clone());
            let cancelled = cancel.clone();
            handle = tokio::spawn(async move {
                let stopped = projector.run(cancelled).await;
                ended.notify_one();
                stopped.map_or_else(|| Outcome::GaveUp(Instant::now()), Outcome::Stopped)
            });
        }
        self.tasks.insert(number, Task { handle, cancel, began: Instant::now(), well });
    }
}

/// Which process a tenant prefers of those that would fold for it.
struct Preferences {
    of_tenant: HashMap<String, Vec<Uuid>>,
}

impl Preferences {
    fn of(members: &[(Uuid, Vec<String>)]) -> Self {
        let mut of_tenant: HashMap<String, Vec<Uuid>> = HashMap::new();
        for (member, tenants) in members {
            for tenant in tenants {
                of_tenant.entry(tenant.clone()).or_default().push(*member);
            }
        }
        Self { of_tenant }
    }

    /// The one with the greatest hash of both names.
    fn of_tenant(&self, tenant: &str) -> Option<Uuid> {
        let members = self.of_tenant.get(tenant)?.iter().copied();
        members.max_by_key(|member| key("owner", &[tenant, &member.to_string()]))
    }
}
