//! Revocations of artifacts: which of them are in force.
//!
//! The latest event by moment decides: a reinstatement cancels the revocations before it. Artifacts are compared by
//! identity.
//!
//! Decision 0015, section 5, is the specification.

use crate::plan_issue::RevokedArtifact;
use crate::{Artifact, ServiceName};

/// A revocation or a reinstatement of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevocationEvent {
    /// The artifact is revoked.
    Revoked(RevokedArtifact),
    /// The artifact is reinstated.
    Reinstated(Artifact),
}

impl RevocationEvent {
    /// Returns the artifact, as the event spells it.
    #[must_use]
    pub const fn artifact(&self) -> &Artifact {
        match self {
            Self::Revoked(revoked) => &revoked.artifact,
            Self::Reinstated(artifact) => artifact,
        }
    }
}

/// Returns the revocation in force for an artifact: the first since its last reinstatement. It counts as deleted if any
/// revocation since then does. The events are ordered by moment; those of other artifacts have no effect.
#[must_use]
pub fn in_force<'e>(
    artifact: &Artifact,
    events: impl IntoIterator<Item = &'e RevocationEvent>,
) -> Option<RevokedArtifact> {
    let mut in_force: Option<RevokedArtifact> = None;
    for event in events.into_iter().filter(|event| event.artifact().is_same(artifact)) {
        match event {
            RevocationEvent::Reinstated(_) => in_force = None,
            RevocationEvent::Revoked(revoked) => {
                in_force.get_or_insert_with(|| revoked.clone()).deleted |= revoked.deleted;
            }
        }
    }
    in_force
}

/// Returns the revocations in force for artifacts that are named like a service, ordered by position. Each has the
/// spelling with the name: another spelling of the same artifact may have been revoked first. The events are ordered by
/// moment.
#[must_use]
pub fn in_force_for_service(service: &ServiceName, events: &[RevocationEvent]) -> Vec<RevokedArtifact> {
    let mut found: Vec<RevokedArtifact> = Vec::new();
    for event in events {
        let RevocationEvent::Revoked(RevokedArtifact { artifact: named, .. }) = event else { continue };
        let is_new = named.name().as_deref() == Some(service.as_str())
            && !found.iter().any(|found| found.artifact.is_same(named));
        if is_new {
            let revoked = in_force(named, events);
            found.extend(revoked.map(|revoked| RevokedArtifact { artifact: named.clone(), ..revoked }));
        }
    }
    found.sort_by_key(|revoked| revoked.position);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

    fn artifact(text: &str) -> Artifact {
        Artifact::parse(text).expect("an artifact")
    }

    fn revoked(text: &str, position: u64, deleted: bool) -> RevokedArtifact {
        RevokedArtifact { artifact: artifact(text), deleted, position: Position::new(position) }
    }

    fn revocation(text: &str, position: u64) -> RevocationEvent {
        RevocationEvent::Revoked(revoked(text, position, false))
    }

    fn spelled_with_name() -> String {
        format!("registry.example/web@{DIGEST}")
    }

    #[test]
    fn the_first_revocation_since_the_last_reinstatement_is_in_force() {
        let reinstated = RevocationEvent::Reinstated(artifact(DIGEST));
        let events =
            [revocation(DIGEST, 1), reinstated.clone(), revocation(DIGEST, 3), revocation(DIGEST, 4)];
        assert_eq!(in_force(&artifact(DIGEST), &events), Some(revoked(DIGEST, 3, false)));
        assert_eq!(in_force(&artifact(DIGEST), &events[..2]), None);
        assert_eq!(in_force(&artifact("pkg:cargo/web@1"), &events), None);
    }

    #[test]
    fn an_artifact_counts_as_deleted_if_any_revocation_in_force_says_so() {
        let events = [revocation(DIGEST, 1), RevocationEvent::Revoked(revoked(DIGEST, 2, true))];
        assert_eq!(in_force(&artifact(DIGEST), &events), Some(revoked(DIGEST, 1, true)));
    }

    #[test]
    fn a_revocation_applies_to_every_spelling_of_the_artifact() {
        let events = [revocation(DIGEST, 1)];
        assert_eq!(in_force(&artifact(&spelled_with_name()), &events), Some(revoked(DIGEST, 1, false)));
    }

    #[test]
    fn a_service_has_the_revocations_of_artifacts_with_its_name() {
        let service = ServiceName::parse("web").expect("a service");
        let named = spelled_with_name();
        let events = [revocation(DIGEST, 1), revocation(&named, 2)];
        assert_eq!(in_force_for_service(&service, &events), [revoked(&named, 1, false)]);
        assert_eq!(in_force_for_service(&service, &events[..1]), []);
        let reinstated = [&events[..], &[RevocationEvent::Reinstated(artifact(DIGEST))]].concat();
        assert_eq!(in_force_for_service(&service, &reinstated), []);
    }
}
