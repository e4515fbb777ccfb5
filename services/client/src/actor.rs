//! Actors as texts: `ada`, `workload:ci`.

use ledger_domain::event::Actor;
use ledger_domain::{ShortText, TextError};
use serde_json::{Value, json};

/// Parses `TYPE:NAME`, or the name of a person.
pub(super) fn parse(text: &str) -> Result<Actor, TextError> {
    let (kind, name) = text.split_once(':').unwrap_or(("person", text));
    Ok(Actor { kind: ShortText::parse(kind)?, name: ShortText::parse(name)? })
}

/// Returns the actor as a member of an event.
pub(super) fn body(actor: &Actor) -> Value {
    json!({"type": actor.kind.as_str(), "name": actor.name.as_str()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_without_a_type_is_a_person() {
        let render = |text| parse(text).map(|actor| format!("{} {}", actor.kind, actor.name));
        assert_eq!(render("ada"), Ok("person ada".to_owned()));
        assert_eq!(render("workload:ci:1"), Ok("workload ci:1".to_owned()));
        assert_eq!(render("person:"), Err(TextError::Empty));
    }
}
