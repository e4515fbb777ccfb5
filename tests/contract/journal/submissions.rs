//! Submissions for tests: each number is an identity.

use bytes::Bytes;
use ledger_domain::event::{Removal, Revoked};
use ledger_domain::{
    Artifact, EnvironmentName, EventId, Fact, Identity, LaneRef, ServiceName, Source, TargetName, TenantName,
};
use ledger_journal::{Scope, Subject, Submission};

/// Submissions of one lane, with these numbers.
pub(super) fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<Submission> {
    numbers.into_iter().map(|number| of_service("production", "web", number)).collect()
}

/// One submission of that lane.
pub(super) fn one(number: u64) -> Submission {
    of_service("production", "web", number)
}

/// One of a service in an environment.
pub(super) fn of_service(environment: &str, service: &str, number: u64) -> Submission {
    let lane = LaneRef {
        environment: self::environment(environment),
        service: self::service(service),
        target: Some(TargetName::default()),
    };
    of_fact(&Fact::DeployRemoved(Removal { lane, slot: None, deployment: None, rollback_id: None }), number)
}

/// One of an environment and of no service.
pub(super) fn of_environment(environment: &str, number: u64) -> Submission {
    of_fact(&Fact::EnvironmentRetired(self::environment(environment)), number)
}

/// One of no environment.
pub(super) fn of_nothing(number: u64) -> Submission {
    let digest = "1".repeat(64);
    let artifact = Artifact::parse(&format!("pkg:oci/web@sha256:{digest}")).expect("an artifact");
    of_fact(&Fact::ArtifactRevoked(Revoked { artifact, advisory: None, deleted: false }), number)
}

fn of_fact(fact: &Fact, number: u64) -> Submission {
    let source = Source::parse("urn:release-ledger:test").expect("a source");
    let id = EventId::parse(&number.to_string()).expect("an id");
    Submission {
        subject: Subject::of(&TenantName::default(), fact),
        key: Identity { source, id }.key(),
        bytes: Bytes::from(format!("event {number}")),
    }
}

/// The same identity with other content.
pub(super) fn altered(submission: &Submission) -> Submission {
    with_bytes(submission, [submission.bytes.as_ref(), b", altered"].concat())
}

/// The same identity with this content.
pub(super) fn with_bytes(submission: &Submission, bytes: impl Into<Bytes>) -> Submission {
    Submission { bytes: bytes.into(), ..submission.clone() }
}

pub(super) fn in_environment(name: &str) -> Scope {
    Scope::Environment(environment(name))
}

pub(super) fn in_service(environment: &str, service: &str) -> Scope {
    Scope::Service(self::environment(environment), self::service(service))
}

fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).expect("a name")
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).expect("a name")
}
