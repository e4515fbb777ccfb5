//! Authenticated senders of events.
//!
//! An event states an actor, which its emitter chooses freely. The service adds the principal that it authenticated. An
//! event with a principal was caused by that principal; what the emitter stated is kept beside it as the claimed actor.

use std::collections::BTreeMap;
use std::fmt;

use crate::ShortText;
use crate::event::Actor;

/// Type of an authenticated sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// A person.
    Person,
    /// A pipeline or another program.
    Workload,
    /// The user of the machine on which a private ledger runs. It may state any actor.
    Local,
}

impl PrincipalKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Person, Self::Workload, Self::Local];

    /// Returns the word for the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Workload => "workload",
            Self::Local => "local",
        }
    }

    /// Returns the kind with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == word)
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An authenticated sender. The issuer and the subject identify it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// Type of the sender.
    pub kind: PrincipalKind,
    /// Authority that authenticated it: the URL of an OpenID Connect issuer, [`Principal::TOKENS`] for an API token,
    /// [`Principal::PROXY`] for a proxy, [`Principal::HOOKS`] for a webhook, or [`Principal::KAFKA`] or
    /// [`Principal::NATS`] for a publisher of a broker.
    pub issuer: ShortText,
    /// Identifier that the issuer never gives to another sender: the `sub` claim, or the id of the API token.
    pub subject: ShortText,
    /// Name of the sender as an actor.
    pub name: ShortText,
    /// Selected claims of the issuer about the sender, such as the repository and the workflow.
    pub claims: BTreeMap<Box<str>, ShortText>,
}

impl Principal {
    /// Issuer of the principals that API tokens authenticate.
    pub const TOKENS: &str = "release-ledger";
    /// Issuer of the principals that a proxy in front of the service authenticates.
    pub const PROXY: &str = "proxy";
    /// Issuer of the principals of webhooks: their subject is the name of the webhook.
    pub const HOOKS: &str = "hook";
    /// Issuer of the principals whose messages arrive from Kafka: their subject is the name of the route in the settings.
    pub const KAFKA: &str = "release-ledger:kafka";
    /// Issuer of the principals whose messages arrive from NATS: their subject is the part of the subject that the
    /// permissions of the NATS user allow.
    pub const NATS: &str = "release-ledger:nats";
    /// Issuers that the service itself speaks for. No issuer of tokens may have such a name.
    pub const RESERVED: [&str; 5] = [Self::TOKENS, Self::PROXY, Self::HOOKS, Self::KAFKA, Self::NATS];

    /// Returns true for a principal that only reports what happened, and needs no grant for it: a webhook, or a publisher
    /// of a broker.
    #[must_use]
    pub fn is_reporter(&self) -> bool {
        [Self::HOOKS, Self::KAFKA, Self::NATS].contains(&self.issuer.as_str())
    }

    /// Returns the actor of an event that this principal sends and that states `claimed`.
    ///
    /// It is the principal itself, and not what the event states. Only [`PrincipalKind::Local`] may state an actor: the user
    /// of a private ledger could write its database as well.
    #[must_use]
    pub fn actor(&self, claimed: Option<&Actor>) -> Actor {
        let kind = match (self.kind, claimed) {
            (PrincipalKind::Local, Some(claimed)) => return claimed.clone(),
            (PrincipalKind::Local | PrincipalKind::Person, _) => "person",
            (PrincipalKind::Workload, _) => "workload",
        };
        Actor { kind: ShortText::parse(kind).expect("a word is a valid text"), name: self.name.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> ShortText {
        ShortText::parse(text).expect("a text")
    }

    fn principal(kind: PrincipalKind) -> Principal {
        let (issuer, subject, name) = (text("https://issuer.example"), text("7"), text("grace"));
        Principal { kind, issuer, subject, name, claims: BTreeMap::new() }
    }

    fn ada() -> Actor {
        Actor { kind: text("person"), name: text("ada") }
    }

    #[test]
    fn a_person_or_workload_is_the_actor_of_its_events_whatever_they_state() {
        for (kind, word) in [(PrincipalKind::Person, "person"), (PrincipalKind::Workload, "workload")] {
            for claimed in [None, Some(&ada())] {
                let actor = principal(kind).actor(claimed);
                assert_eq!((actor.kind.as_str(), actor.name.as_str()), (word, "grace"));
            }
        }
    }

    #[test]
    fn only_the_local_user_states_an_actor() {
        assert_eq!(principal(PrincipalKind::Local).actor(Some(&ada())), ada());
        let unstated = principal(PrincipalKind::Local).actor(None);
        assert_eq!((unstated.kind.as_str(), unstated.name.as_str()), ("person", "grace"));
    }

    #[test]
    fn webhooks_and_publishers_of_brokers_are_reporters() {
        let is_reporter = |issuer: &str| {
            let principal = Principal { issuer: text(issuer), ..principal(PrincipalKind::Workload) };
            principal.is_reporter()
        };
        let reserved: Vec<&str> =
            Principal::RESERVED.into_iter().filter(|issuer| is_reporter(issuer)).collect();
        assert_eq!(reserved, [Principal::HOOKS, Principal::KAFKA, Principal::NATS]);
        assert!(!is_reporter("https://issuer.example"));
    }

    #[test]
    fn each_kind_has_a_word_of_its_own() {
        for kind in PrincipalKind::ALL {
            assert_eq!(PrincipalKind::named(kind.name()), Some(kind));
        }
        assert_eq!(PrincipalKind::named("robot"), None);
    }
}
