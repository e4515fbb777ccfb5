//! The author of an event that a command composes: the actor, the source, and the page of the CI's run.

use ledger_domain::ShortText;
use ledger_domain::event::{Actor, Link};
use serde_json::{Map, Value, json};

use super::ci::{CiContext, CiFlags};
use super::invalid::InvalidArgument;
use super::{actor, identity};
use crate::environment;

/// The actor of a command.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ActorArgs {
    /// The actor, where the sender is not authenticated or is the user of `up`: a person's name, or TYPE:NAME such as
    /// workload:ci [default: RELEASE_LEDGER_ACTOR, the actor of the CI, or the user who runs the command]
    #[arg(long, alias = "actor", value_name = "NAME|TYPE:NAME", value_parser = actor::parse)]
    by: Option<Actor>,
    #[command(flatten)]
    ci: CiFlags,
}

/// The actor of an event, and where the event was composed.
#[derive(Debug, Clone)]
pub(super) struct Author {
    pub(super) actor: Actor,
    /// The source of the event: the CI's project, or this program.
    pub(super) source: String,
    /// The page of the CI's run.
    pub(super) links: Vec<Link>,
}

impl ActorArgs {
    /// Returns the author.
    ///
    /// # Errors
    /// Neither a flag, the CI nor the environment names the actor.
    pub(super) fn author(&self) -> anyhow::Result<Author> {
        self.author_with(environment::user())
    }

    fn author_with(&self, user: Option<String>) -> anyhow::Result<Author> {
        let CiContext { actor, source, pipeline, .. } = self.ci.context()?;
        let actor = match self.by.clone().or(actor) {
            Some(actor) => actor,
            None => {
                let missing =
                    || InvalidArgument::new("no actor given and no user in the environment; set --by");
                let user = user.ok_or_else(missing)?;
                actor::parse(&format!("person:{user}"))?
            }
        };
        let link = |href: String| Some(Link { rel: ShortText::parse("pipeline").ok()?, href: parse(&href)? });
        Ok(Author {
            actor,
            source: source.unwrap_or_else(|| identity::SOURCE.to_owned()),
            links: pipeline.and_then(link).into_iter().collect(),
        })
    }

    /// Returns the actor.
    ///
    /// # Errors
    /// Those of [`ActorArgs::author`].
    pub(super) fn actor(&self) -> anyhow::Result<Actor> {
        Ok(self.author()?.actor)
    }

    /// Returns the actor that executes a rollback; a workload if there is no user, as in an unattended job.
    ///
    /// # Errors
    /// Those of [`ActorArgs::author`], except for a missing actor.
    pub(super) fn executor(&self) -> anyhow::Result<Actor> {
        match self.by.clone().or(self.ci.context()?.actor) {
            Some(actor) => Ok(actor),
            None if environment::user().is_none() => Ok(actor::parse("workload:rollback-executor")?),
            None => self.actor(),
        }
    }
}

fn parse(text: &str) -> Option<ShortText> {
    ShortText::parse(text).ok()
}

impl Author {
    /// Adds the members that describe the author to the data of an event.
    pub(super) fn add_to(&self, data: &mut Map<String, Value>) {
        data.insert("actor".to_owned(), actor::body(&self.actor));
        if !self.links.is_empty() {
            let link = |link: &Link| json!({"rel": link.rel.as_str(), "href": link.href.as_str()});
            data.insert("links".to_owned(), self.links.iter().map(link).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_names_the_actor_with_or_without_a_user() {
        let author = |by: Option<&str>, user: Option<&str>| {
            let by = by.map(|text| actor::parse(text).expect("an actor"));
            let arguments = ActorArgs { by, ci: CiFlags::default() };
            let author = arguments.author_with(user.map(str::to_owned)).map_err(|error| error.to_string());
            author.map(|Author { actor, .. }| format!("{}:{}", actor.kind, actor.name))
        };
        assert_eq!(author(Some("workload:ci"), Some("ada")), Ok("workload:ci".to_owned()));
        assert_eq!(author(Some("grace"), None), Ok("person:grace".to_owned()));
    }

    #[test]
    fn the_data_of_an_event_has_the_actor_and_the_page() {
        let link = Link { rel: parse("pipeline").expect("text"), href: parse("https://ci/1").expect("text") };
        let actor = actor::parse("ada").expect("an actor");
        let author = Author { actor, source: "s".to_owned(), links: vec![link] };
        let mut data = Map::new();
        author.add_to(&mut data);
        let expected = json!({
            "actor": {"type": "person", "name": "ada"},
            "links": [{"rel": "pipeline", "href": "https://ci/1"}],
        });
        assert_eq!(Value::Object(data), expected);
    }
}
