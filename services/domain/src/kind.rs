//! The kinds of events, version 1.

use std::fmt;

use super::misspelt::nearest;

/// A group of kinds with the same data format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Builds and revocations of artifacts.
    Artifact,
    /// Deploys to lanes, and removals.
    Deploy,
    /// Traffic switches between the slots of a lane.
    Traffic,
    /// Checks and their results.
    Validation,
    /// Rollbacks.
    Rollback,
    /// Marks on release points.
    ReleasePoint,
    /// Declaration, observation and retirement of environments.
    Environment,
    /// Approvals and rejections by people.
    Approval,
    /// Freezes: periods without deploys.
    Freeze,
    /// Incidents.
    Incident,
    /// Activities: what happened on the way of a release, without effect.
    Activity,
    /// Subscriptions: outgoing webhooks.
    Subscription,
    /// API tokens.
    Token,
    /// Grants: who may do what.
    Grant,
    /// Tenants, which are created and retired while the service runs.
    Tenant,
}

/// The error for a text that is not an event type of version 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type {0:?}{meant}", meant = meant(.0))]
pub struct UnknownKind(pub String);

/// Returns the end of the error: the type that was probably meant, or the form of all types.
fn meant(text: &str) -> String {
    let name = text.strip_prefix("io.releaseledger.").unwrap_or(text);
    let name = name.strip_suffix(".v1").unwrap_or(name);
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    match nearest(name, &names) {
        Some(near) => format!("; did you mean {near}? `release-ledger events types` lists them"),
        None => ": use io.releaseledger.<family>.<verb>.v1, such as io.releaseledger.deploy.succeeded.v1; \
                 `release-ledger events types` lists them"
            .to_owned(),
    }
}

macro_rules! kinds {
    ($($kind:ident = $family:ident $prefix:literal $verb:literal, $doc:literal;)+) => {
        /// The kind of an event: a family and a verb.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $kind,)+
        }

        impl Kind {
            /// All kinds, grouped by family.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns the family.
            #[must_use]
            pub const fn family(self) -> Family {
                match self { $(Self::$kind => Family::$family,)+ }
            }

            /// Returns the short name: `deploy.succeeded`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => concat!($prefix, ".", $verb),)+ }
            }

            /// Returns the CloudEvents type: `io.releaseledger.deploy.succeeded.v1`.
            #[must_use]
            pub const fn event_type(self) -> &'static str {
                match self { $(Self::$kind => concat!("io.releaseledger.", $prefix, ".", $verb, ".v1"),)+ }
            }

            /// Returns the kind with this CloudEvents type.
            ///
            /// # Errors
            /// No kind has this type.
            pub fn parse_type(text: &str) -> Result<Self, UnknownKind> {
                match text {
                    $(concat!("io.releaseledger.", $prefix, ".", $verb, ".v1") => Ok(Self::$kind),)+
                    _ => Err(UnknownKind(text.chars().take(128).collect())),
                }
            }

            /// Returns the kind with this short name.
            ///
            /// # Errors
            /// No kind has this name.
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
    ArtifactBuilt = Artifact "artifact" "built", "An artifact was built.";
    ArtifactRevoked = Artifact "artifact" "revoked", "An artifact was revoked: it must not be used any more.";
    ArtifactReinstated = Artifact "artifact" "reinstated", "A revocation was withdrawn.";
    DeployStarted = Deploy "deploy" "started", "A deploy started.";
    DeploySucceeded = Deploy "deploy" "succeeded", "A deploy to a lane or a slot succeeded.";
    DeployFailed = Deploy "deploy" "failed", "A deploy failed.";
    DeployRemoved = Deploy "deploy" "removed", "The lane, or one of its slots, was emptied.";
    TrafficSwitched = Traffic "traffic" "switched", "Traffic was switched to another slot.";
    ValidationStarted = Validation "validation" "started", "A check started.";
    ValidationPassed = Validation "validation" "passed", "A check passed.";
    ValidationFailed = Validation "validation" "failed", "A check failed.";
    RollbackRequested = Rollback "rollback" "requested", "A rollback was requested.";
    RollbackStarted = Rollback "rollback" "started", "The execution of a rollback started.";
    RollbackSucceeded = Rollback "rollback" "succeeded", "A rollback succeeded.";
    RollbackFailed = Rollback "rollback" "failed", "A rollback failed.";
    RollbackCancelled = Rollback "rollback" "cancelled", "A rollback was cancelled.";
    RollbackDeclined = Rollback "rollback" "declined", "The controller declined to request a rollback.";
    ReleasePointMarked = ReleasePoint "release_point" "marked", "A person marked a point as good or bad.";
    ReleasePointRevoked = ReleasePoint "release_point" "revoked", "A person revoked the marks on a point.";
    EnvironmentDeclared = Environment "environment" "declared", "An environment's policy was declared.";
    EnvironmentObserved = Environment "environment" "observed", "An observer reported what runs.";
    EnvironmentRetired = Environment "environment" "retired", "An environment was retired.";
    ApprovalGranted = Approval "approval" "granted", "A person approved a rollback or a deploy.";
    ApprovalRejected = Approval "approval" "rejected", "A person rejected a rollback or a deploy.";
    FreezeStarted = Freeze "freeze" "started", "A freeze started.";
    FreezeLifted = Freeze "freeze" "lifted", "A freeze was lifted.";
    IncidentOpened = Incident "incident" "opened", "An incident was opened.";
    IncidentResolved = Incident "incident" "resolved", "An incident was resolved.";
    ActivityReported = Activity "activity" "reported", "Something happened that has no effect on lanes.";
    SubscriptionCreated = Subscription "subscription" "created", "A subscription was created or changed.";
    SubscriptionRemoved = Subscription "subscription" "removed", "A subscription was removed.";
    SubscriptionDisabled = Subscription "subscription" "disabled", "The service gave up the deliveries.";
    TokenCreated = Token "token" "created", "An API token was created.";
    TokenRotated = Token "token" "rotated", "The secret of an API token was replaced.";
    TokenRevoked = Token "token" "revoked", "An API token was revoked.";
    GrantAdded = Grant "grant" "added", "A grant was added.";
    GrantRemoved = Grant "grant" "removed", "A grant was removed.";
    TenantCreated = Tenant "tenant" "created", "A tenant was created.";
    TenantRetired = Tenant "tenant" "retired", "A tenant was retired.";
}

impl Kind {
    /// Returns the kinds that a name selects: the kind with this short name or CloudEvents type, or all kinds of a family
    /// (`deploy`).
    ///
    /// # Errors
    /// No kind and no family has this name.
    pub fn selected_by(name: &str) -> Result<Vec<Self>, UnknownKind> {
        let is_member = |kind: &Self| kind.name().split('.').next() == Some(name);
        let family: Vec<Self> = Self::ALL.iter().copied().filter(is_member).collect();
        if !family.is_empty() {
            return Ok(family);
        }
        Self::parse_name(name).or_else(|_| Self::parse_type(name)).map(|kind| vec![kind])
    }
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
    fn every_kind_parses_from_its_short_name_and_its_type() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse_name(kind.name()), Ok(*kind));
            assert_eq!(Kind::parse_type(kind.event_type()), Ok(*kind));
        }
    }

    #[test]
    fn the_name_of_a_family_selects_all_its_kinds() {
        let one = Ok(vec![Kind::TrafficSwitched]);
        for name in ["traffic", "traffic.switched", "io.releaseledger.traffic.switched.v1"] {
            assert_eq!(Kind::selected_by(name), one, "{name}");
        }
        let deploys = Kind::selected_by("deploy").expect("a family");
        assert!(deploys.len() > 3 && deploys.iter().all(|kind| kind.family() == Family::Deploy));
        for wrong in ["", "deplo", "deploy.", "io.releaseledger.deploy.v1"] {
            assert!(Kind::selected_by(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_type_is_an_error_with_the_one_that_was_meant() {
        for wrong in ["deploy.succeded", "deploys.succeeded", "io.releaseledger.deploy.suceeded.v1"] {
            let error = Kind::parse_name(wrong).expect_err(wrong).to_string();
            assert!(error.contains("did you mean deploy.succeeded?"), "{error}");
        }
        let error = Kind::parse_name("xyzzy").expect_err("unknown").to_string();
        assert!(error.contains("use io.releaseledger.<family>"), "{error}");
    }
}
