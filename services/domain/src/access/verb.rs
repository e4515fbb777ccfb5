//! Verbs: the actions that grants allow.

use std::fmt;

use crate::event::Payload;
use crate::{Family, Kind};

/// A kind of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read the history, states, points and plans.
    Read,
    /// Report builds of artifacts.
    EmitArtifact,
    /// Report deploys.
    EmitDeploy,
    /// Report traffic switches.
    EmitTraffic,
    /// Report checks.
    EmitValidation,
    /// Report what an environment really runs.
    EmitEnvironment,
    /// Report incidents.
    EmitIncident,
    /// Report activities, which have no effect.
    EmitActivity,
    /// Ask the gate.
    Gate,
    /// Approve or reject rollbacks and deploys.
    Approve,
    /// Mark release points, and revoke or reinstate artifacts.
    Mark,
    /// Request and execute rollbacks.
    Rollback,
    /// Declare and retire environments.
    Declare,
    /// Start and lift freezes.
    Freeze,
    /// Export the history: read more of it than a page. Needed only if the settings of the service say so.
    Export,
    /// Handle messages of other tools that could not be understood.
    Hooks,
    /// Manage subscriptions: where the entries of the whole tenant are delivered.
    Subscribe,
    /// Manage tokens and grants.
    Admin,
}

/// A word is not a verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown verb {0:?}; use {list}, emit for all of emit:, or * for all", list = Verb::list())]
pub struct UnknownVerb(String);

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 18] = [
        Self::Read,
        Self::EmitArtifact,
        Self::EmitDeploy,
        Self::EmitTraffic,
        Self::EmitValidation,
        Self::EmitEnvironment,
        Self::EmitIncident,
        Self::EmitActivity,
        Self::Gate,
        Self::Approve,
        Self::Mark,
        Self::Rollback,
        Self::Declare,
        Self::Freeze,
        Self::Export,
        Self::Hooks,
        Self::Subscribe,
        Self::Admin,
    ];

    /// Returns the word for the verb: `read`, `emit:deploy`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::EmitArtifact => "emit:artifact",
            Self::EmitDeploy => "emit:deploy",
            Self::EmitTraffic => "emit:traffic",
            Self::EmitValidation => "emit:validation",
            Self::EmitEnvironment => "emit:environment",
            Self::EmitIncident => "emit:incident",
            Self::EmitActivity => "emit:activity",
            Self::Gate => "gate",
            Self::Approve => "approve",
            Self::Mark => "mark",
            Self::Rollback => "rollback",
            Self::Declare => "declare",
            Self::Freeze => "freeze",
            Self::Export => "export",
            Self::Hooks => "hooks",
            Self::Subscribe => "subscribe",
            Self::Admin => "admin",
        }
    }

    fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Returns the verb that the sender of an event needs.
    #[must_use]
    pub fn of_event(payload: &Payload) -> Self {
        match payload.kind() {
            Kind::ArtifactBuilt => Self::EmitArtifact,
            // A revocation is a judgement like a mark: it stops every later deploy of the artifact.
            Kind::ArtifactRevoked | Kind::ArtifactReinstated => Self::Mark,
            Kind::EnvironmentObserved => Self::EmitEnvironment,
            kind => match kind.family() {
                Family::Artifact => Self::EmitArtifact,
                Family::Deploy => Self::EmitDeploy,
                Family::Traffic => Self::EmitTraffic,
                Family::Validation => Self::EmitValidation,
                Family::Rollback => Self::Rollback,
                Family::ReleasePoint => Self::Mark,
                Family::Environment => Self::Declare,
                Family::Approval => Self::Approve,
                Family::Freeze => Self::Freeze,
                Family::Incident => Self::EmitIncident,
                Family::Activity => Self::EmitActivity,
                Family::Subscription => Self::Subscribe,
                Family::Token | Family::Grant | Family::Tenant => Self::Admin,
            },
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One verb, or several: `read`, `emit` (every `emit:`), `*` (every verb).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerbSet {
    /// One verb.
    One(Verb),
    /// Every `emit:`.
    Emit,
    /// Every verb.
    All,
}

impl VerbSet {
    /// Parses a verb, `emit` or `*`.
    ///
    /// # Errors
    /// The word is none of these.
    pub fn parse(word: &str) -> Result<Self, UnknownVerb> {
        match word {
            "*" => Ok(Self::All),
            "emit" => Ok(Self::Emit),
            _ => {
                let verb = Verb::ALL.into_iter().find(|verb| verb.name() == word);
                verb.map(Self::One).ok_or_else(|| UnknownVerb(word.chars().take(64).collect()))
            }
        }
    }

    /// Returns true if the set contains a verb.
    #[must_use]
    pub fn contains(self, verb: Verb) -> bool {
        match self {
            Self::One(one) => one == verb,
            Self::Emit => verb.name().starts_with("emit:"),
            Self::All => true,
        }
    }
}

impl fmt::Display for VerbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(verb) => verb.fmt(f),
            Self::Emit => f.write_str("emit"),
            Self::All => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_parses_from_its_word() {
        for verb in Verb::ALL {
            assert_eq!(VerbSet::parse(verb.name()), Ok(VerbSet::One(verb)));
        }
        for (word, set) in [("emit", VerbSet::Emit), ("*", VerbSet::All)] {
            assert_eq!(VerbSet::parse(word), Ok(set));
            assert_eq!(set.to_string(), word);
        }
        for wrong in ["", "Read", "emit:", "emit:*", "write", "**"] {
            let error = VerbSet::parse(wrong).expect_err(wrong).to_string();
            assert!(error.contains("emit:deploy"), "{error}");
        }
    }

    #[test]
    fn emit_contains_the_reports_and_no_command() {
        let contained = Verb::ALL.into_iter().filter(|verb| VerbSet::Emit.contains(*verb));
        assert_eq!(
            contained.collect::<Vec<_>>(),
            [
                Verb::EmitArtifact,
                Verb::EmitDeploy,
                Verb::EmitTraffic,
                Verb::EmitValidation,
                Verb::EmitEnvironment,
                Verb::EmitIncident,
                Verb::EmitActivity
            ]
        );
    }
}
