//! Counts of what a request does, for the access log and for the log of reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use ledger_domain::{Position, Principal, TenantName};
use ledger_projections::{ReadRecord, Reader};
use uuid::Uuid;

/// Statement of the log of reads about a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestSummary {
    pub(crate) id: String,
    pub(crate) route: String,
    pub(crate) query: String,
}

/// Entries of the history that an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shown {
    entries: u64,
    /// The lowest and the highest position.
    span: Option<(Position, Position)>,
}

impl Shown {
    /// Returns the entries at these positions, which may be in any order.
    pub(crate) fn at(positions: impl IntoIterator<Item = Position>) -> Self {
        let one = |position| Self { entries: 1, span: Some((position, position)) };
        positions.into_iter().map(one).fold(Self::default(), Self::and)
    }

    pub(crate) const fn entries(self) -> u64 {
        self.entries
    }

    /// Returns the highest position.
    pub(crate) fn last(self) -> Option<Position> {
        self.span.map(|(_, last)| last)
    }

    fn and(self, other: Self) -> Self {
        let span = match (self.span, other.span) {
            (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
            (span, other) => span.or(other),
        };
        Self { entries: self.entries.saturating_add(other.entries), span }
    }
}

/// Read of the history.
#[derive(Debug)]
struct HistoryRead {
    id: Uuid,
    began_at: DateTime<Utc>,
    reader: Arc<Principal>,
    is_export: bool,
    shown: Shown,
}

/// Statistics of a request, and its read of the history: an extension of every request. Handlers add to them.
#[derive(Debug, Default)]
pub(crate) struct RequestStats {
    request: RequestSummary,
    tenant: OnceLock<TenantName>,
    received: AtomicU64,
    recorded: AtomicU64,
    read: AtomicU64,
    /// `None` for requests that read no history, and for those without an authenticated sender.
    history: Mutex<Option<HistoryRead>>,
}

impl RequestStats {
    pub(crate) fn new(request: RequestSummary) -> Self {
        Self { request, ..Self::default() }
    }

    pub(crate) fn set_tenant(&self, tenant: &TenantName) {
        self.tenant.get_or_init(|| tenant.clone());
    }

    /// Returns the tenant of the request; `None` before it is known, and for requests about no tenant.
    pub(crate) fn tenant(&self) -> Option<&TenantName> {
        self.tenant.get()
    }

    /// Adds events that the client sent.
    pub(crate) fn add_received(&self, events: usize) {
        self.received.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Adds entries that the request appended.
    pub(crate) fn add_recorded(&self, entries: usize) {
        self.recorded.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Adds what the answer shows beside entries of the history, such as lanes of a manifest.
    pub(crate) fn add_reads(&self, entries: usize) {
        self.read.fetch_add(entries as u64, Ordering::Relaxed);
    }

    /// Begins a read of the history by an authenticated sender.
    #[expect(clippy::disallowed_methods, reason = "generates the id of a read, which is no event")]
    pub(crate) fn begin_read(&self, reader: Arc<Principal>, is_export: bool, began_at: DateTime<Utc>) {
        let read = HistoryRead { id: Uuid::now_v7(), began_at, reader, is_export, shown: Shown::default() };
        *self.history.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
    }

    /// Adds entries of the history that the answer shows.
    pub(crate) fn add_entries(&self, shown: Shown) {
        self.read.fetch_add(shown.entries, Ordering::Relaxed);
        if let Some(read) = &mut *self.history.lock().unwrap_or_else(PoisonError::into_inner) {
            read.shown = read.shown.and(shown);
        }
    }

    /// Returns the record of a read that has shown these further entries, and is not at its end; `None` if the request
    /// began none.
    pub(crate) fn begun_read(&self, further: Shown) -> Option<ReadRecord> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let read = history.as_ref()?;
        let Shown { entries, span } = read.shown.and(further);
        Some(ReadRecord {
            id: read.id,
            began_at: read.began_at,
            ended_at: None,
            tenant: self.tenant().map(ToString::to_string).unwrap_or_default(),
            reader: Reader {
                kind: read.reader.kind.name().to_owned(),
                issuer: read.reader.issuer.to_string(),
                subject: read.reader.subject.to_string(),
                name: read.reader.name.to_string(),
            },
            request_id: self.request.id.clone(),
            route: self.request.route.clone(),
            query: self.request.query.clone(),
            is_export: read.is_export,
            status: None,
            entries,
            span,
        })
    }

    /// Returns the record of a read at its end; `None` if the request began none.
    pub(crate) fn ended_read(&self, status: Option<u16>, ended_at: DateTime<Utc>) -> Option<ReadRecord> {
        let record = self.begun_read(Shown::default())?;
        Some(ReadRecord { status, ended_at: Some(ended_at), ..record })
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(positions: &[u64]) -> Shown {
        Shown::at(positions.iter().copied().map(Position::new))
    }

    #[test]
    fn the_span_has_the_lowest_and_the_highest_position_in_any_order() {
        assert_eq!(shown(&[]), Shown::default());
        assert_eq!(shown(&[7, 3, 5]).span, Some((Position::new(3), Position::new(7))));

        let both = shown(&[7, 3]).and(shown(&[9])).and(shown(&[]));

        assert_eq!((both.entries, both.last()), (3, Some(Position::new(9))));
    }

    #[test]
    fn a_request_without_an_authenticated_sender_has_no_record_and_counts_its_entries() {
        let stats = RequestStats::default();

        stats.add_entries(shown(&[1, 2]));

        assert_eq!(stats.reads(), 2);
        assert_eq!(stats.ended_read(Some(200), DateTime::UNIX_EPOCH), None);
    }
}
