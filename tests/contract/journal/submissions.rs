//! Submissions for tests: each number is one identity.

use bytes::Bytes;
use ledger_domain::event::{Removal, Revoked};
use ledger_domain::{
    Artifact, EnvironmentName, EventId, Identity, LaneRef, Payload, ServiceName, Source, TargetName,
    TenantName,
};
use ledger_journal::{NewEntry, Subject, SubjectFilter};

/// Returns submissions with these numbers for one lane.
pub(super) fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<NewEntry> {
    numbers.into_iter().map(|number| of_service("production", "web", number)).collect()
}

/// Returns one submission for the same lane.
pub(super) fn one(number: u64) -> NewEntry {
    of_service("production", "web", number)
}

/// Returns a submission for a service in an environment.
pub(super) fn of_service(environment: &str, service: &str, number: u64) -> NewEntry {
    let lane = LaneRef {
        environment: self::environment(environment),
        service: self::service(service),
        target: Some(TargetName::default()),
    };
    of_payload(
        &Payload::DeployRemoved(Removal { lane, slot: None, deployment: None, rollback_id: None }),
        number,
    )
}

/// Returns a submission for an environment without a service.
pub(super) fn of_environment(environment: &str, number: u64) -> NewEntry {
    of_payload(&Payload::EnvironmentRetired(self::environment(environment)), number)
}

/// Returns a submission without an environment.
pub(super) fn without_environment(number: u64) -> NewEntry {
    let digest = "1".repeat(64);
    let artifact = Artifact::parse(&format!("pkg:oci/web@sha256:{digest}")).expect("an artifact");
    of_payload(&Payload::ArtifactRevoked(Revoked { artifact, advisory: None, deleted: false }), number)
}

fn of_payload(payload: &Payload, number: u64) -> NewEntry {
    let source = Source::parse("urn:release-ledger:test").expect("a source");
    let id = EventId::parse(&number.to_string()).expect("an id");
    NewEntry {
        subject: Subject::of(&TenantName::default(), payload),
        key: Identity { source, id }.key(),
        bytes: Bytes::from(format!("event {number}")),
    }
}

/// Returns a submission with the same identity and different content.
pub(super) fn altered(new_entry: &NewEntry) -> NewEntry {
    with_bytes(new_entry, [new_entry.bytes.as_ref(), b", altered"].concat())
}

/// Returns a submission with the same identity and this content.
pub(super) fn with_bytes(new_entry: &NewEntry, bytes: impl Into<Bytes>) -> NewEntry {
    NewEntry { bytes: bytes.into(), ..new_entry.clone() }
}

pub(super) fn in_environment(name: &str) -> SubjectFilter {
    SubjectFilter::Environment(environment(name))
}

pub(super) fn in_service(environment: &str, service: &str) -> SubjectFilter {
    SubjectFilter::Service(self::environment(environment), self::service(service))
}

fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).expect("a name")
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a name")
}
