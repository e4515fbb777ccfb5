//! An entry as the followers of a ledger receive it: a server-sent event, in the format of each follower.

use std::borrow::Cow;
use std::sync::OnceLock;

use bytes::Bytes;
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{EnvironmentName, IdentityKey, Position, ServiceName, ShortText};
use ledger_projections::{EventFilter, EventNames, EventRow};

use crate::entry::{cdevent, entry_body};

/// Format of the data of an event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// The entry, as in the history.
    #[default]
    Ledger,
    /// The event as a CDEvent.
    CdEvents,
}

/// Entries that a follower receives, and their format.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// Conditions, all of which an entry has to meet.
    pub(crate) filter: EventFilter,
    /// Leave out entries that repeat an earlier one.
    pub(crate) only_first: bool,
    pub(crate) format: Format,
}

/// An entry of the history, which all followers share. It is serialized once in each format that a follower wants.
#[derive(Debug)]
pub(crate) struct FeedEntry {
    row: EventRow,
    environment: Option<EnvironmentName>,
    service: Option<ServiceName>,
    identity: Option<IdentityKey>,
    correlation: Option<String>,
    causation: Option<String>,
    names: EventNames,
    ledger: OnceLock<Bytes>,
    cdevents: OnceLock<Bytes>,
}

impl FeedEntry {
    pub(crate) fn new(row: EventRow) -> Self {
        let envelope = Envelope::stored(row.bytes.clone()).ok();
        let payload = envelope.as_ref().map(|envelope| &envelope.event().payload);
        Self {
            environment: payload.and_then(|payload| payload.environment().cloned()),
            service: payload.and_then(|payload| payload.service().cloned()),
            identity: envelope.as_ref().map(|envelope| envelope.identity().key()),
            correlation: envelope.as_ref().and_then(Envelope::correlation).map(str::to_owned),
            causation: envelope.as_ref().and_then(Envelope::causation).map(str::to_owned),
            names: envelope.as_ref().map(EventNames::of).unwrap_or_default(),
            ledger: OnceLock::new(),
            cdevents: OnceLock::new(),
            row,
        }
    }

    pub(crate) const fn position(&self) -> Position {
        self.row.entry.position
    }

    /// Returns the size of the stored entry in bytes. Serialized, it takes about as much again in each format.
    pub(crate) fn size(&self) -> usize {
        self.row.bytes.len()
    }

    /// Returns the entry as a server-sent event.
    pub(crate) fn event(&self, format: Format) -> Bytes {
        let serialized = match format {
            Format::Ledger => &self.ledger,
            Format::CdEvents => &self.cdevents,
        };
        serialized.get_or_init(|| server_sent_event(&self.row, format)).clone()
    }
}

impl Selection {
    /// Returns true if a follower receives the entry: the conditions are those of
    /// [`Projections::events`](ledger_projections::Projections::events).
    pub(crate) fn includes(&self, entry: &FeedEntry) -> bool {
        let EventFilter { environment, service, kinds, identity, correlation, causation, positions, details } =
            &self.filter;
        let is = |wanted: Option<&ShortText>, stated: Option<&str>| {
            wanted.is_none_or(|wanted| stated == Some(wanted.as_str()))
        };
        self.includes_row(&entry.row)
            && (environment.is_none() || entry.environment == *environment)
            && (service.is_none() || entry.service == *service)
            && (kinds.is_empty() || kinds.contains(&entry.row.kind))
            && (identity.is_none() || (entry.identity == *identity && entry.row.repeats.is_none()))
            && is(correlation.as_ref(), entry.correlation.as_deref())
            && is(causation.as_ref(), entry.causation.as_deref())
            && (positions.is_empty() || positions.contains(&entry.row.position))
            && details.includes(entry.row.target.as_deref(), entry.row.occurred_at, &entry.names)
    }

    /// Returns true if a follower receives a row that meets the conditions.
    pub(crate) const fn includes_row(&self, row: &EventRow) -> bool {
        !self.only_first || row.entry.repeats.is_none()
    }
}

/// Returns an entry as a server-sent event. An entry that cannot be serialized becomes a comment, so that it does not
/// end the stream.
pub(crate) fn server_sent_event(row: &EventRow, format: Format) -> Bytes {
    let json = match format {
        Format::Ledger => entry_body(row.clone()).ok().and_then(|entry| serde_json::to_string(&entry).ok()),
        Format::CdEvents => cdevent(row).ok().map(|event| event.to_string()),
    };
    let (position, kind) = (row.position, row.kind);
    match json {
        Some(data) => frame(Some(position), kind.name(), &data),
        None => format!(": cannot serialize the entry at position {position}\n\n").into(),
    }
}

/// Returns a server-sent event. The data is JSON.
pub(crate) fn frame(id: Option<Position>, name: &str, json: &str) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    // In JSON, line ends occur between values only. In an event, one would begin another field.
    let json = match json.contains(['\n', '\r']) {
        true => Cow::Owned(json.replace(['\n', '\r'], " ")),
        false => Cow::Borrowed(json),
    };
    format!("{id}event: {name}\ndata: {json}\n\n").into()
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::DateTime;
    use ledger_domain::Kind;
    use ledger_projections::RecordedEntry;

    use super::*;

    /// Returns a deploy of a service to production.
    pub(crate) fn row(position: u64, service: &str) -> EventRow {
        let bytes = format!(
            r#"{{"specversion":"1.0","datacontenttype":"application/json","id":"{position}","source":"urn:test",
            "type":"io.releaseledger.deploy.succeeded.v1","time":"2026-08-01T10:00:00Z","correlationid":"run-{position}",
            "causationid":"cause-{position}",
            "data":{{"environment":"production","service":"{service}","release":{{"version":"v1"}}}}}}"#
        );
        RecordedEntry {
            position: Position::new(position),
            recorded_at: DateTime::UNIX_EPOCH,
            occurred_at: DateTime::UNIX_EPOCH,
            kind: Kind::DeploySucceeded,
            repeats: None,
            recorded_anomalies: Vec::new(),
            first_of: Vec::new(),
            went_live: None,
            target: None,
            targets: Vec::new(),
            leaf_hash: [0; 32].into(),
            bytes: bytes.into(),
        }
        .into()
    }

    fn includes(entry: &FeedEntry, filter: EventFilter) -> bool {
        Selection { filter, ..Selection::default() }.includes(entry)
    }

    #[test]
    fn a_follower_receives_the_entries_that_meet_all_conditions() {
        let entry = FeedEntry::new(row(3, "web"));
        let environment = |name| EnvironmentName::parse(name).ok();
        let service = |name| ServiceName::parse(name).ok();
        let correlation = |text| ShortText::stored(text).ok();
        let any = EventFilter::default;

        assert!(includes(&entry, any()));
        assert!(includes(&entry, EventFilter { environment: environment("production"), ..any() }));
        assert!(!includes(&entry, EventFilter { environment: environment("staging"), ..any() }));
        assert!(includes(&entry, EventFilter { service: service("web"), ..any() }));
        assert!(!includes(&entry, EventFilter { service: service("api"), ..any() }));
        let kinds = vec![Kind::DeployFailed, Kind::DeploySucceeded];
        assert!(includes(&entry, EventFilter { kinds, ..any() }));
        assert!(!includes(&entry, EventFilter { kinds: vec![Kind::DeployFailed], ..any() }));
        assert!(includes(&entry, EventFilter { correlation: correlation("run-3"), ..any() }));
        assert!(!includes(&entry, EventFilter { correlation: correlation("run-4"), ..any() }));
        assert!(includes(&entry, EventFilter { causation: correlation("cause-3"), ..any() }));
        assert!(!includes(&entry, EventFilter { causation: correlation("run-3"), ..any() }));
        let both = EventFilter { environment: environment("production"), service: service("api"), ..any() };
        assert!(!includes(&entry, both));
    }

    #[test]
    fn a_follower_of_first_entries_receives_no_repeated_one() {
        let mut repeated = row(3, "web");
        repeated.entry.repeats = Some(Position::new(1));
        let repeated = FeedEntry::new(repeated);

        assert!(Selection::default().includes(&repeated));
        assert!(!Selection { only_first: true, ..Selection::default() }.includes(&repeated));
    }

    #[test]
    fn an_entry_is_serialized_once_in_each_format() {
        let entry = FeedEntry::new(row(3, "web"));

        let (first, second) = (entry.event(Format::Ledger), entry.event(Format::Ledger));
        let cdevent = entry.event(Format::CdEvents);

        assert_eq!(first.as_ptr(), second.as_ptr());
        let text = String::from_utf8_lossy(&first);
        assert!(text.starts_with("id: 3\nevent: deploy.succeeded\ndata: {\"position\":3,"), "{text}");
        let text = String::from_utf8_lossy(&cdevent);
        assert!(text.starts_with("id: 3\nevent: deploy.succeeded\ndata: {\"context\""), "{text}");
    }

    #[test]
    fn line_ends_in_stored_bytes_begin_no_other_field() {
        let event = FeedEntry::new(row(3, "web")).event(Format::Ledger);

        assert!(row(3, "web").bytes.contains(&b'\n'));
        assert_eq!(String::from_utf8_lossy(&event).lines().count(), 4, "id, event, data, and an empty line");
    }
}
