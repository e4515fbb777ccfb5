//! The kinds of events, version 1.

use std::fmt;

/// A group of kinds that share their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Where a version came from.
    Artifact,
    /// What a lane runs.
    Deploy,
    /// Which slot of a lane is live.
    Traffic,
    /// What checked it.
    Validation,
    /// How it is undone.
    Rollback,
    /// A person's word on a release point.
    ReleasePoint,
    /// An environment's policy, what was seen in it, its end.
    Environment,
    /// A gate's human part.
    Approval,
    /// No deploys for a while.
    Freeze,
}

/// No event of version 1 has this type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no event type {0:?} is known; types are io.releaseledger.<family>.<verb>.v1, such as io.releaseledger.deploy.succeeded.v1"
)]
pub struct UnknownKind(pub String);

macro_rules! kinds {
    ($($kind:ident = $family:ident $prefix:literal $verb:literal, $doc:literal;)+) => {
        /// What kind of event something is: a family and a verb.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $kind,)+
        }

        impl Kind {
            /// Every kind, family by family.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The family.
            #[must_use]
            pub const fn family(self) -> Family {
                match self { $(Self::$kind => Family::$family,)+ }
            }

            /// `deploy.succeeded`: the kind's short name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => concat!($prefix, ".", $verb),)+ }
            }

            /// `io.releaseledger.deploy.succeeded.v1`: the CloudEvents type.
            #[must_use]
            pub const fn event_type(self) -> &'static str {
                match self { $(Self::$kind => concat!("io.releaseledger.", $prefix, ".", $verb, ".v1"),)+ }
            }

            /// The kind with this CloudEvents type.
            ///
            /// # Errors
            /// There is none.
            pub fn parse_type(text: &str) -> Result<Self, UnknownKind> {
                match text {
                    $(concat!("io.releaseledger.", $prefix, ".", $verb, ".v1") => Ok(Self::$kind),)+
                    _ => Err(UnknownKind(text.chars().take(128).collect())),
                }
            }

            /// The kind with this short name.
            ///
            /// # Errors
            /// There is none.
            pub fn parse_name(text: &str) -> Result<Self, UnknownKind> {
                match text {
                    $(concat!($prefix, ".", $verb) => Ok(Self::$kind),)+
                    _ => Err(UnknownKind(text.chars().take(128).collect())),
                }
            }
        }
    };
}

kinds! {
    ArtifactBuilt = Artifact "artifact" "built", "A version was built.";
    ArtifactRevoked = Artifact "artifact" "revoked", "An artifact must not be used.";
    ArtifactReinstated = Artifact "artifact" "reinstated", "A revocation is withdrawn.";
    DeployStarted = Deploy "deploy" "started", "A deploy began.";
    DeploySucceeded = Deploy "deploy" "succeeded", "A release now stands in the lane, or in one of its slots.";
    DeployFailed = Deploy "deploy" "failed", "A deploy did not come to its end.";
    DeployRemoved = Deploy "deploy" "removed", "Nothing stands in the lane, or in one of its slots, any more.";
    TrafficSwitched = Traffic "traffic" "switched", "Another slot of the lane is live: the blue-green cut-over.";
    ValidationStarted = Validation "validation" "started", "A check began.";
    ValidationPassed = Validation "validation" "passed", "A check passed.";
    ValidationFailed = Validation "validation" "failed", "A check failed.";
    RollbackRequested = Rollback "rollback" "requested", "Somebody wants an environment back at a point.";
    RollbackStarted = Rollback "rollback" "started", "A rollback's execution began.";
    RollbackSucceeded = Rollback "rollback" "succeeded", "The environment is at the point.";
    RollbackFailed = Rollback "rollback" "failed", "The environment is not at the point.";
    RollbackCancelled = Rollback "rollback" "cancelled", "The rollback was called off.";
    RollbackDeclined = Rollback "rollback" "declined", "The rollback controller asked for no rollback, and why.";
    ReleasePointMarked = ReleasePoint "release_point" "marked", "A person calls a point known good, or bad.";
    ReleasePointRevoked = ReleasePoint "release_point" "revoked", "A person takes a mark back.";
    EnvironmentDeclared = Environment "environment" "declared", "An environment's policy.";
    EnvironmentObserved = Environment "environment" "observed", "What was really seen running.";
    EnvironmentRetired = Environment "environment" "retired", "The environment's end.";
    ApprovalGranted = Approval "approval" "granted", "A person allows it.";
    ApprovalRejected = Approval "approval" "rejected", "A person does not allow it.";
    FreezeStarted = Freeze "freeze" "started", "No deploys from now on.";
    FreezeLifted = Freeze "freeze" "lifted", "Deploys are allowed again.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_both_its_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse_name(kind.name()), Ok(*kind));
            assert_eq!(Kind::parse_type(kind.event_type()), Ok(*kind));
        }
    }
}
