//! Actors as flags: `ada`, `workload:ci`.

use anyhow::Context as _;
use ledger_domain::event::Actor;
use ledger_domain::{ShortText, TextError};
use serde_json::{Value, json};

use crate::environment;

/// The actor of a command.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ActorArgs {
    /// The actor, where the sender is not authenticated or is the user of `up`: a person's name, or TYPE:NAME such as
    /// workload:ci [default: the user who runs the command]
    #[arg(long, value_name = "NAME|TYPE:NAME", value_parser = parse)]
    by: Option<Actor>,
}

impl ActorArgs {
    pub(super) fn actor(&self) -> anyhow::Result<Actor> {
        if let Some(actor) = &self.by {
            return Ok(actor.clone());
        }
        let user = environment::user().context("no actor given and no user in the environment; set --by")?;
        Ok(parse(&format!("person:{user}"))?)
    }

    /// Returns the actor that executes a rollback; a workload if there is no user, as in an unattended job.
    pub(super) fn executor(&self) -> anyhow::Result<Actor> {
        match (&self.by, environment::user()) {
            (None, None) => Ok(parse("workload:rollback-executor")?),
            _ => self.actor(),
        }
    }
}

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
