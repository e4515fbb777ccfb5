//! Event history: the bytes of every entry, with the columns that queries filter by.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Deref;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ledger_codec::cloudevents::{Envelope, content_of};
use ledger_domain::event::{Counts, Payload};
use ledger_domain::{
    Anomaly, EnvironmentName, IdentityKey, Kind, Position, ServiceName, ShortText, TargetName,
};
use ledger_journal::Entry;
use ledger_tlog::Hash;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo};
use sqlx::{Encode, PgConnection, Postgres, QueryBuilder, Type};
use uuid::Uuid;

use crate::bulk_insert::insert_row;
use crate::postgres::{Error, SNAPSHOT, bigint, parsed, position};
use crate::sql::{expanded_sql, sql};
use crate::tables::event_details::{EventDetails, EventNames, artifact_key, push_details, push_name};
use crate::{Projections, Snapshot};

/// Unique index that allows only one effective entry per identity.
pub(crate) const IDENTITY_INDEX: &str = "events_identity";

/// Size limit of a page, in bytes of entries: the entry that reaches it is the last of the page.
pub const PAGE_BYTES: usize = 8 << 20;

/// Number of check results that are read at a time for their counts, which bounds the memory for their bytes.
const CHECKS_PAGE: usize = 100;

/// Entry of the event history, as the projector stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEntry {
    /// Position of the entry.
    pub position: Position,
    /// Time at which the journal stored the entry.
    pub recorded_at: DateTime<Utc>,
    /// Time at which the event occurred, by the emitter's clock.
    pub occurred_at: DateTime<Utc>,
    /// Kind of the event.
    pub kind: Kind,
    /// Position of the earlier entry with the same identity, if any. A repeated entry has no effect.
    pub repeats: Option<Position>,
    /// Anomalies that were judged when the entry was recorded, sorted.
    pub recorded_anomalies: Vec<String>,
    /// Names that this event is the first to use: `environment`, `service`, `target`.
    pub first_of: Vec<String>,
    /// Version that the lane runs from this event on, if the event changed the live release.
    pub went_live: Option<String>,
    /// Target of the event, if the event concerns a lane.
    pub target: Option<String>,
    /// Candidate targets, if the event names no target and the service has several.
    pub targets: Vec<String>,
    /// Leaf hash in the Merkle tree.
    pub leaf_hash: Hash,
    /// Bytes of the entry, as stored in the stream.
    pub bytes: Bytes,
}

/// Entry of the event history, with what is derived about it when it is queried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Entry.
    pub entry: RecordedEntry,
    /// All anomalies, sorted: those of the entry, and `during_freeze` and `straddles_change`, which queries judge by what
    /// is known when they run.
    pub anomalies: Vec<String>,
    /// Position at which the release that goes live by this event last went live before, if the lane ran another in
    /// between: by what ran when, as known when queried, so a late report counts at its time.
    pub returns_to: Option<Position>,
    /// Position of the correction of this event, if any. From that position on, this event has no effect.
    pub corrected_by: Option<Position>,
}

impl From<RecordedEntry> for EventRow {
    /// Returns the row of an entry about which nothing is derived.
    fn from(entry: RecordedEntry) -> Self {
        Self { anomalies: entry.recorded_anomalies.clone(), returns_to: None, corrected_by: None, entry }
    }
}

impl Deref for EventRow {
    type Target = RecordedEntry;

    fn deref(&self) -> &RecordedEntry {
        &self.entry
    }
}

/// Filter for events: an event has to meet every given condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Environment of the event.
    pub environment: Option<EnvironmentName>,
    /// Service of the event.
    pub service: Option<ServiceName>,
    /// Kinds of event; empty: any kind.
    pub kinds: Vec<Kind>,
    /// Identity of the event.
    pub identity: Option<IdentityKey>,
    /// Correlation of the event; see [`Envelope::correlation`].
    pub correlation: Option<ShortText>,
    /// Causation of the event; see [`Envelope::causation`].
    pub causation: Option<ShortText>,
    /// Positions of the event; empty: any position.
    pub positions: Vec<Position>,
    /// Conditions of questions by people.
    pub details: EventDetails,
}

/// Order and start of a page of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageStart {
    /// Ascending, after a position.
    After(Position),
    /// Descending, before a position; `None`: from the last event. Only events after the second position.
    Before(Option<Position>, Position),
}

/// Columns of an entry by which a filter selects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySummary {
    /// Position of the entry.
    pub position: Position,
    /// Kind of the event.
    pub kind: Kind,
    /// Environment of the event.
    pub environment: Option<String>,
    /// Service of the event.
    pub service: Option<String>,
    /// Leaf hash in the Merkle tree.
    pub leaf_hash: Hash,
}

/// Entry of an identity in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEntry {
    /// Position of the entry with this identity.
    pub position: Position,
    /// Content that its client sent; see [`content_of`].
    pub content: Bytes,
}

#[derive(sqlx::FromRow)]
struct Row {
    projections_position: i64,
    position: Option<i64>,
    recorded_at: Option<DateTime<Utc>>,
    occurred_at: Option<DateTime<Utc>>,
    kind: Option<String>,
    repeats: Option<i64>,
    anomalies: Option<String>,
    first_of: Option<String>,
    went_live: Option<String>,
    target: Option<String>,
    targets: Option<String>,
    leaf_hash: Option<Vec<u8>>,
    bytes: Option<Vec<u8>>,
}

impl Projections {
    /// Returns a page of events after a position, ordered by position, and the position of the projections. The page
    /// has at most `limit` events and ends with the event that reaches [`PAGE_BYTES`].
    ///
    /// # Errors
    /// The database query fails.
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Position,
        limit: u32,
    ) -> Result<(Position, Vec<EventRow>), Error> {
        self.events_within(filter, after, limit, PAGE_BYTES).await
    }

    /// Returns a page like [`Self::events`], which ends with the event that reaches `bytes`, at least 1. A page with
    /// fewer than `limit` events and fewer than `bytes` bytes has all events up to the position of the projections.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn events_within(
        &self,
        filter: &EventFilter,
        after: Position,
        limit: u32,
        bytes: usize,
    ) -> Result<(Position, Vec<EventRow>), Error> {
        self.page(filter, PageStart::After(after), limit, bytes).await
    }

    /// Returns a page of events and the position of the projections, as [`events`](Self::events) does, in either order.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn event_page(
        &self,
        filter: &EventFilter,
        start: PageStart,
        limit: u32,
    ) -> Result<(Position, Vec<EventRow>), Error> {
        self.page(filter, start, limit, PAGE_BYTES).await
    }

    async fn page(
        &self,
        filter: &EventFilter,
        start: PageStart,
        limit: u32,
        bytes: usize,
    ) -> Result<(Position, Vec<EventRow>), Error> {
        let mut transaction = self.pool()?.begin_with(SNAPSHOT).await?;
        let (at, entries) = recorded_page(&mut transaction, filter, start, limit, bytes).await?;
        let rows = annotate(&mut transaction, entries).await?;
        transaction.commit().await?;
        Ok((at, rows))
    }

    /// Returns a page like [`Self::events`], without what is derived about the entries when they are queried. It takes a
    /// small part of the time.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn recorded_entries(
        &self,
        filter: &EventFilter,
        after: Position,
        limit: u32,
    ) -> Result<(Position, Vec<RecordedEntry>), Error> {
        let mut connection = self.pool()?.acquire().await?;
        recorded_page(&mut connection, filter, PageStart::After(after), limit, PAGE_BYTES).await
    }

    /// Returns summaries of up to `limit` entries after a position, ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn entry_summaries(&self, after: Position, limit: u32) -> Result<Vec<EntrySummary>, Error> {
        type Row = (i64, String, Option<String>, Option<String>, Vec<u8>);
        let query = sqlx::query_as(sql!("events/summaries")).bind(bigint(after)).bind(i64::from(limit));
        let rows: Vec<Row> = query.fetch_all(&self.pool()?).await?;
        rows.into_iter()
            .map(|(at, kind, environment, service, hash)| {
                let kind = parsed("events", at, || Kind::parse_name(&kind))?;
                let leaf_hash = leaf_hash(at, &hash)?;
                Ok(EntrySummary { position: position(at), kind, environment, service, leaf_hash })
            })
            .collect()
    }

    /// Returns up to `limit` failed checks after a position, ordered by position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn failed_checks(
        &self,
        after: Position,
        limit: u32,
    ) -> Result<Vec<(Position, Envelope)>, Error> {
        let query = sqlx::query_as(sql!("events/failed_checks")).bind(bigint(after)).bind(i64::from(limit));
        let rows: Vec<(i64, Vec<u8>)> = query.fetch_all(&self.pool()?).await?;
        rows.into_iter().map(parse_envelope).collect()
    }

    /// Returns true if the stream has lost the entry at a position.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn is_gap(&self, at: Position) -> Result<bool, Error> {
        let found = sqlx::query(sql!("gaps/is_gap")).bind(bigint(at));
        Ok(found.fetch_optional(&self.pool()?).await?.is_some())
    }

    /// Returns the locations of those identities that the history has.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn find_entries(
        &self,
        keys: &[IdentityKey],
    ) -> Result<HashMap<IdentityKey, KnownEntry>, Error> {
        let mut connection = self.pool()?.acquire().await?;
        look_up(&mut connection, keys).await
    }
}

impl Snapshot {
    /// Returns the case counts of the check results at these positions. Leaves out entries that are no check results or
    /// state no counts.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn check_counts(&mut self, positions: &[Position]) -> Result<HashMap<Position, Counts>, Error> {
        let mut counts = HashMap::new();
        for page in positions.chunks(CHECKS_PAGE) {
            let page: Vec<i64> = page.iter().copied().map(bigint).collect();
            let query = sqlx::query_as(sql!("events/checks")).bind(page);
            let rows: Vec<(i64, Vec<u8>)> = query.fetch_all(self.connection()).await?;
            for row in rows {
                let (position, envelope) = parse_envelope(row)?;
                if let Payload::ValidationPassed(it) | Payload::ValidationFailed(it) =
                    &envelope.event().payload
                {
                    counts.extend(it.counts.map(|counts| (position, counts)));
                }
            }
        }
        Ok(counts)
    }

    /// Returns the entries of these kinds after `after`, up to and including `up_to`, ordered by position: those of
    /// these environments and those of none. Leaves out repeated entries.
    ///
    /// # Errors
    /// The database query fails.
    pub async fn entries(
        &mut self,
        environments: &[&EnvironmentName],
        kinds: &[Kind],
        after: Position,
        up_to: Position,
    ) -> Result<Vec<(Position, Envelope)>, Error> {
        let names: Vec<&str> = environments.iter().map(|environment| environment.as_str()).collect();
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let query = sqlx::query_as(sql!("events/entries"))
            .bind(bigint(after))
            .bind(bigint(up_to))
            .bind(names)
            .bind(kinds);
        let rows: Vec<(i64, Vec<u8>)> = query.fetch_all(self.connection()).await?;
        rows.into_iter().map(parse_envelope).collect()
    }
}

/// Parses the bytes of an entry.
pub(crate) fn parse_envelope((at, bytes): (i64, Vec<u8>)) -> Result<(Position, Envelope), Error> {
    Ok((position(at), parsed("events", at, || Envelope::stored(bytes.into()))?))
}

impl Row {
    fn entry(self) -> Result<Option<RecordedEntry>, Error> {
        let (Some(at), Some(recorded_at), Some(kind), Some(hash), Some(bytes)) =
            (self.position, self.recorded_at, self.kind, self.leaf_hash, self.bytes)
        else {
            return Ok(None);
        };
        Ok(Some(RecordedEntry {
            position: position(at),
            recorded_at,
            occurred_at: self.occurred_at.unwrap_or(recorded_at),
            kind: parsed("events", at, || Kind::parse_name(&kind))?,
            repeats: self.repeats.map(position),
            recorded_anomalies: {
                let mut anomalies = split_list(self.anomalies.as_deref());
                anomalies.sort_unstable();
                anomalies
            },
            first_of: split_list(self.first_of.as_deref()),
            went_live: self.went_live,
            target: self.target,
            targets: split_list(self.targets.as_deref()),
            leaf_hash: leaf_hash(at, &hash)?,
            bytes: bytes.into(),
        }))
    }
}

/// Splits a column that holds a comma-separated list.
fn split_list(text: Option<&str>) -> Vec<String> {
    text.into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect()
}

pub(crate) fn leaf_hash(at: i64, bytes: &[u8]) -> Result<Hash, Error> {
    parsed("events", at, || <[u8; 32]>::try_from(bytes).map(Hash::from))
}

/// Reads a page of entries and the position of the projections.
async fn recorded_page(
    connection: &mut PgConnection,
    filter: &EventFilter,
    start: PageStart,
    limit: u32,
    bytes: usize,
) -> Result<(Position, Vec<RecordedEntry>), Error> {
    let mut query = page_query(filter, start, limit, bytes);
    // How rare a target or an actor is decides which index is the best: such a query is planned with its values.
    let is_persistent = filter.details == EventDetails::default();
    let query = query.build_query_as().persistent(is_persistent);
    let rows: Vec<Row> = query.fetch_all(connection).await?;
    let at = rows.first().map_or(Position::START, |row| position(row.projections_position));
    let entries = rows.into_iter().filter_map(|row| row.entry().transpose());
    Ok((at, entries.collect::<Result<_, _>>()?))
}

/// Adds what is derived about entries when they are queried, as known now. Each statement gets only the entries that it
/// may concern, and does not run without any: planning one takes longer than reading a page.
async fn annotate(
    connection: &mut PgConnection,
    entries: Vec<RecordedEntry>,
) -> Result<Vec<EventRow>, Error> {
    let mut rows: Vec<EventRow> = entries.into_iter().map(EventRow::from).collect();
    let of = |rows: &[EventRow], concerns: fn(&EventRow) -> bool| -> Vec<i64> {
        rows.iter().filter(|row| concerns(row)).map(|row| bigint(row.position)).collect()
    };
    let (changes, checks, all) = (of(&rows, is_change), of(&rows, is_check_result), of(&rows, |_| true));
    let live = of(&rows, |row| row.went_live.is_some());
    let returns = positions(connection, expanded_sql!("events/returns"), live).await?;
    let corrected = positions(connection, sql!("corrections/first_of_events"), all).await?;
    let frozen = flagged(connection, sql!("events/frozen"), changes, None).await?;
    let now = Some(i64::MAX);
    let straddling = flagged(connection, expanded_sql!("events/straddling_checks"), checks, now).await?;
    for row in &mut rows {
        let at = bigint(row.position);
        row.returns_to = returns.get(&at).copied().map(position);
        row.corrected_by = corrected.get(&at).copied().map(position);
        let judged = [(&frozen, "during_freeze"), (&straddling, "straddles_change")];
        let judged = judged.into_iter().filter(|(found, _)| found.contains(&at));
        row.anomalies.extend(judged.map(|(_, anomaly)| anomaly.to_owned()));
        row.anomalies.sort_unstable();
    }
    Ok(rows)
}

/// Returns true if an event changes what a lane runs, so that a freeze concerns it.
const fn is_change(row: &EventRow) -> bool {
    matches!(row.entry.kind, Kind::DeploySucceeded | Kind::DeployRemoved | Kind::TrafficSwitched)
}

const fn is_check_result(row: &EventRow) -> bool {
    matches!(row.entry.kind, Kind::ValidationPassed | Kind::ValidationFailed)
}

/// Runs a statement that selects a position for some of these events.
async fn positions(
    connection: &mut PgConnection,
    statement: &'static str,
    of: Vec<i64>,
) -> Result<HashMap<i64, i64>, Error> {
    if of.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, i64)> = sqlx::query_as(statement).bind(of).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Runs a statement that selects some of these events, as known at a position if it depends on one.
async fn flagged(
    connection: &mut PgConnection,
    statement: &'static str,
    of: Vec<i64>,
    known_at: Option<i64>,
) -> Result<HashSet<i64>, Error> {
    if of.is_empty() {
        return Ok(HashSet::new());
    }
    let query = sqlx::query_scalar(statement).bind(of);
    let query = known_at.into_iter().fold(query, |query, known_at| query.bind(known_at));
    let rows: Vec<i64> = query.fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Builds the query for a page of events. The statement has only the conditions that the filter gives, so that Postgres
/// can use the index for each.
fn page_query(filter: &EventFilter, start: PageStart, limit: u32, bytes: usize) -> QueryBuilder<Postgres> {
    let (after, before, order) = match start {
        PageStart::After(after) => (after, None, "position"),
        PageStart::Before(before, after) => (after, before, "position DESC"),
    };
    let mut query = QueryBuilder::new(
        "SELECT p.position AS projections_position, e.position, e.recorded_at, e.occurred_at, e.kind, e.repeats,
            e.anomalies, e.first_of, e.went_live, e.target, e.targets, e.leaf_hash, e.bytes
        FROM projection p LEFT JOIN LATERAL (
            SELECT * FROM (
                SELECT *, sum(octet_length(bytes)) OVER (ORDER BY ",
    );
    query.push(order).push(
        ") - octet_length(bytes) AS bytes_before
                FROM (SELECT * FROM events WHERE position > ",
    );
    query.push_bind(bigint(after));
    if let Some(before) = before {
        query.push(" AND position < ").push_bind(bigint(before));
    }
    push_conditions(&mut query, filter);
    push_details(&mut query, &filter.details);
    query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(i64::from(limit));
    query.push(") asked) page WHERE bytes_before < ").push_bind(i64::try_from(bytes).unwrap_or(i64::MAX));
    query.push(") e ON true ORDER BY e.").push(order);
    query
}

fn push_conditions(query: &mut QueryBuilder<Postgres>, filter: &EventFilter) {
    if let Some(environment) = &filter.environment {
        push_name(query, "environment", environment.as_str());
    }
    if let Some(service) = &filter.service {
        push_name(query, "service", service.as_str());
    }
    if let [kind] = &filter.kinds[..] {
        push_name(query, "kind", kind.name());
    } else if !filter.kinds.is_empty() {
        let names: Vec<&str> = filter.kinds.iter().map(|kind| kind.name()).collect();
        query.push(" AND hashtext(kind) IN (");
        for (index, name) in names.iter().enumerate() {
            query.push(if index == 0 { "hashtext(" } else { ", hashtext(" }).push_bind(*name).push(")");
        }
        query.push(") AND kind = ANY(").push_bind(names).push(")");
    }
    if let Some(identity) = filter.identity {
        query.push(" AND identity = ").push_bind(identity.0);
        query.push(" AND repeats IS NULL");
    }
    if let Some(correlation) = &filter.correlation {
        query.push(" AND correlation = ").push_bind(correlation.to_string());
    }
    if let Some(causation) = &filter.causation {
        query.push(" AND causation = ").push_bind(causation.to_string());
    }
    if let [position] = &filter.positions[..] {
        query.push(" AND position = ").push_bind(bigint(*position));
    } else if !filter.positions.is_empty() {
        let positions: Vec<i64> = filter.positions.iter().copied().map(bigint).collect();
        query.push(" AND position = ANY(").push_bind(positions).push(")");
    }
}

pub(crate) async fn look_up(
    connection: &mut PgConnection,
    keys: &[IdentityKey],
) -> Result<HashMap<IdentityKey, KnownEntry>, Error> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    let rows: Vec<(Uuid, i64, Vec<u8>)> =
        sqlx::query_as(sql!("events/find_identities")).bind(keys).fetch_all(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(key, at, bytes)| {
            let content = content_of(&Bytes::from(bytes));
            (IdentityKey(key), KnownEntry { position: position(at), content })
        })
        .collect())
}

/// Returns up to `limit` identities of effective entries after one, in their order; `None`: the first ones.
pub(crate) async fn identity_page(
    connection: &mut PgConnection,
    after: Option<IdentityKey>,
    limit: u32,
) -> Result<Vec<IdentityKey>, Error> {
    // No digest is nil.
    let after = after.map_or_else(Uuid::nil, |key| key.0);
    let query = sqlx::query_scalar(sql!("events/identity_page")).bind(after).bind(i64::from(limit));
    let keys: Vec<Uuid> = query.fetch_all(connection).await?;
    Ok(keys.into_iter().map(IdentityKey).collect())
}

/// Column value that holds the bytes of an entry without copying them before they are encoded.
pub(crate) struct EntryBytes(pub(crate) Bytes);

impl Type<Postgres> for EntryBytes {
    fn type_info() -> PgTypeInfo {
        <[u8] as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for EntryBytes {
    fn array_type_info() -> PgTypeInfo {
        <[&[u8]] as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for EntryBytes {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <&[u8] as Encode<'_, Postgres>>::encode_by_ref(&self.0.as_ref(), buffer)
    }
}

/// Annotations of an event, as determined when it was recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventAnnotations {
    pub(crate) anomalies: BTreeSet<Anomaly>,
    /// The kinds of names that it introduced: environment, service, target.
    pub(crate) first_of: Vec<&'static str>,
    /// The version that its lane runs from here on, if the event changed that.
    pub(crate) went_live: Option<ShortText>,
    /// The target of its lane, if it concerns a lane.
    pub(crate) target: Option<TargetName>,
    /// The candidate targets, if the service has several and the event names none.
    pub(crate) targets: Vec<TargetName>,
}

insert_row! {
    /// Row of `gaps`.
    pub(crate) struct GapInsert => "gaps" {
        position: i64,
    }
}

impl GapInsert {
    pub(crate) fn new(at: Position) -> Self {
        Self { position: bigint(at) }
    }
}

// INSERT instead of COPY: COPY sends two messages in a row, and the second waits 40 ms where TCP delays small segments.
insert_row! {
    /// Row of `events`.
    pub(crate) struct EventInsert => "events" {
        position: i64,
        recorded_at: DateTime<Utc>,
        occurred_at: DateTime<Utc>,
        identity: Uuid,
        kind: &'static str,
        environment: Option<String>,
        service: Option<String>,
        target: Option<String>,
        repeats: Option<i64>,
        anomalies: Option<String>,
        first_of: Option<String>,
        went_live: Option<String>,
        targets: Option<String>,
        correlation: Option<String>,
        causation: Option<String>,
        actor: Option<String>,
        commit: Option<String>,
        artifact: Option<Uuid>,
        artifact_key: Option<String>,
        package_key: Option<String>,
        leaf_hash: [u8; Hash::LENGTH],
        bytes: EntryBytes,
    }
}

impl EventInsert {
    pub(crate) fn new(
        entry: &Entry,
        envelope: &Envelope,
        key: IdentityKey,
        leaf_hash: &Hash,
        repeats: Option<Position>,
        outcome: &EventAnnotations,
    ) -> Self {
        let joined = |names: Vec<&str>| (!names.is_empty()).then(|| names.join(","));
        let payload = &envelope.event().payload;
        let target = outcome.target.as_ref().or_else(|| payload.target());
        let EventNames { actor, commit, artifact, package_key } = EventNames::of(envelope);
        Self {
            position: bigint(entry.position),
            recorded_at: entry.recorded_at,
            occurred_at: envelope.occurred_at(),
            identity: key.0,
            kind: payload.kind().name(),
            environment: payload.environment().map(ToString::to_string),
            service: payload.service().map(ToString::to_string),
            target: target.map(ToString::to_string),
            repeats: repeats.map(bigint),
            anomalies: joined(outcome.anomalies.iter().map(|anomaly| anomaly.name()).collect()),
            first_of: joined(outcome.first_of.clone()),
            went_live: outcome.went_live.as_ref().map(ToString::to_string),
            targets: joined(outcome.targets.iter().map(|target| target.as_str()).collect()),
            correlation: envelope.correlation().map(str::to_owned),
            causation: envelope.causation().map(str::to_owned),
            actor,
            commit,
            artifact: artifact.as_deref().map(artifact_key),
            artifact_key: artifact.filter(|_| payload.kind() == Kind::ArtifactBuilt),
            package_key,
            leaf_hash: *leaf_hash.as_bytes(),
            bytes: EntryBytes(entry.bytes.clone()),
        }
    }
}
