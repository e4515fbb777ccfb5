//! People as actors, and the rule by which two actors are the same person.
//!
//! Decision 0015, section 2, is the specification.

use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

use crate::ShortText;
use crate::event::Actor;

/// A person's name as a comparison key: equal for names that differ only in case, in the composition of their
/// characters, or in white space at the ends. Not for display.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonName(Box<str>);

impl PersonName {
    /// Returns the key of a name: trimmed, case folded, in normalization form C.
    #[must_use]
    pub fn of(name: &ShortText) -> Self {
        // Case folding is defined on decomposed text, and its result need not be normalized.
        let decomposed: String = name.as_str().trim().nfd().collect();
        let folded = UniCase::unicode(decomposed).to_folded_case();
        Self(folded.nfc().collect::<String>().into())
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Actor {
    /// Returns true if the actor is of the type `person`. Other types, which emitters choose freely, are not people.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.kind.as_str() == "person"
    }

    /// Returns true if both actors are people with the same name.
    #[must_use]
    pub fn is_same_person(&self, other: &Self) -> bool {
        self.is_person() && other.is_person() && PersonName::of(&self.name) == PersonName::of(&other.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn actor(kind: &str, name: &str) -> Actor {
        Actor { kind: ShortText::parse(kind).expect("a kind"), name: ShortText::parse(name).expect("a name") }
    }

    fn key(name: &str) -> PersonName {
        PersonName::of(&ShortText::parse(name).expect("a name"))
    }

    #[test]
    fn rule_15_names_that_differ_in_case_or_composition_are_the_same_person() {
        for (one, other) in [
            ("ada", "Ada"),
            ("ADA@EXAMPLE.COM", "ada@example.com"),
            ("Jose\u{301}", "JOS\u{c9}"),
            ("Stra\u{df}e", "STRASSE"),
            (
                "\u{3c3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c2}",
                "\u{3a3}\u{38a}\u{3a3}\u{3a5}\u{3a6}\u{39f}\u{3a3}",
            ),
            ("\u{212b}ngstr\u{f6}m", "a\u{30a}ngstro\u{308}m"),
        ] {
            assert!(actor("person", one).is_same_person(&actor("person", other)), "{one} {other}");
        }
        assert!(!actor("person", "ada").is_same_person(&actor("person", "grace")));
    }

    #[test]
    fn rule_15_only_actors_of_the_type_person_are_people() {
        for kind in ["workload", "admin", "Person", "people"] {
            assert!(!actor(kind, "ada").is_person(), "{kind}");
            assert!(!actor(kind, "ada").is_same_person(&actor("person", "ada")), "{kind}");
        }
        assert!(actor("person", "ada").is_person());
    }

    proptest! {
        #[test]
        fn the_key_of_a_key_is_the_key_itself(
            name in "[a-zA-Z\u{c0}-\u{24f}\u{300}-\u{345}\u{391}-\u{3c9}\u{1e00}-\u{1eff}]{1,12}",
        ) {
            let once = key(&name);
            prop_assert_eq!(&key(once.as_str()), &once);
            prop_assert_eq!(key(&name.nfc().collect::<String>()), key(&name.nfd().collect::<String>()));
        }
    }
}
