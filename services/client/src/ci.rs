//! Metadata that a CI provides about its run in environment variables: run id, commit, page, actor and project.
//!
//! Invariants: a value of a CI that is not valid in an event is ignored: an odd variable of a CI fails no
//! deploy. `RELEASE_LEDGER_ACTOR` is a setting of this program, and an error if it is invalid.

mod providers;

use std::collections::BTreeMap;

use ledger_codec::cloudevents::check_secrets;
use ledger_domain::ShortText;
use ledger_domain::event::Actor;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use self::providers::PROVIDERS;
use super::actor;
use super::invalid::invalid;
use crate::environment;

/// The variable that names the actor, instead of the CI's variables.
const ACTOR: &str = "RELEASE_LEDGER_ACTOR";

/// Names that a CI gives instead of a person if a trigger started the run: those of Jenkins and of Azure Pipelines.
const TRIGGERS: [&str; 7] = [
    "timer",
    "scmChange",
    "branchIndexing",
    "remoteRequest",
    "genericWebhook",
    "Microsoft.VisualStudio.Services.TFS",
    "Microsoft.VisualStudio.Services.ReleaseManagement",
];

/// ASCII characters that a URI does not contain, except for `%`.
const NOT_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The flag that turns off the CI's variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct CiFlags {
    /// Ignore the CI's variables
    #[arg(long)]
    no_ci: bool,
}

impl CiFlags {
    /// Returns the metadata of the CI's run, with the actor of `RELEASE_LEDGER_ACTOR` if that is set.
    ///
    /// # Errors
    /// `RELEASE_LEDGER_ACTOR` is not an actor.
    pub(super) fn context(&self) -> anyhow::Result<CiContext> {
        self.context_of(&environment::variables())
    }

    /// Returns the metadata without what differs between two runs of a CI, or two users: the project of the CI, and the
    /// actor of `RELEASE_LEDGER_ACTOR`.
    ///
    /// # Errors
    /// `RELEASE_LEDGER_ACTOR` is not an actor.
    pub(super) fn constant_context(&self) -> anyhow::Result<CiContext> {
        self.constant_context_of(&environment::variables())
    }

    fn constant_context_of(&self, variables: &BTreeMap<String, String>) -> anyhow::Result<CiContext> {
        let source = self.context_of(variables)?.source;
        Ok(CiContext { actor: named_actor(variables)?, source, ..CiContext::default() })
    }

    fn context_of(&self, variables: &BTreeMap<String, String>) -> anyhow::Result<CiContext> {
        let detected = if self.no_ci { CiContext::default() } else { detect(variables) };
        let named = named_actor(variables)?;
        Ok(CiContext { actor: named.or(detected.actor), ..detected })
    }
}

/// Metadata of the CI's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CiContext {
    pub(super) deployment: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) pipeline: Option<String>,
    pub(super) actor: Option<Actor>,
    /// The CI's project, as the source of events.
    pub(super) source: Option<String>,
    /// The run that all jobs of a pipeline share, as the correlation of events.
    pub(super) correlation: Option<String>,
}

/// Returns the actor of `RELEASE_LEDGER_ACTOR`; none if it is unset or empty.
fn named_actor(variables: &BTreeMap<String, String>) -> anyhow::Result<Option<Actor>> {
    let named = variables.get(ACTOR).filter(|text| !text.is_empty());
    named
        .map(|text| actor::parse(text))
        .transpose()
        .map_err(|error| invalid(format!("invalid {ACTOR}: {error}")))
}

/// Detects the CI by its variables and returns the metadata of its run; empty if no CI is detected.
fn detect(variables: &BTreeMap<String, String>) -> CiContext {
    let Some(provider) = PROVIDERS
        .iter()
        .find(|provider| variables.get(provider.marker).is_some_and(|value| !value.is_empty()))
    else {
        return CiContext::default();
    };
    let first = |templates: &[&str]| templates.iter().find_map(|template| fill(template, variables));
    let first_uri = |templates: &[&str]| templates.iter().find_map(|template| fill_uri(template, variables));
    let is_any = |conditions: &[(&str, &str)]| {
        conditions.iter().any(|(name, value)| variables.get(*name).is_some_and(|set| set == value))
    };
    let (is_scheduled, has_commit) = (is_any(provider.scheduled), !is_any(provider.without_commit));
    let person = first(provider.person).filter(|name| !is_scheduled && is_person(name));
    let actor = match person {
        Some(name) => actor("person", &name),
        None => first(provider.workload).and_then(|name| actor("workload", &name)),
    };
    CiContext {
        deployment: first(provider.deployment),
        commit: first(provider.commit).filter(|commit| has_commit && is_commit(commit)),
        pipeline: first_uri(provider.pipeline),
        actor,
        source: first_uri(provider.source),
        correlation: first_uri(provider.correlation),
    }
}

/// Fills a template; none if a variable is not set or the text is not valid in an event.
fn fill(template: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(variables.get(name).filter(|value| !value.is_empty())?);
        rest = after;
    }
    text.push_str(rest);
    is_valid(&text).then_some(text)
}

/// Fills the template of a URI-reference, and encodes what a URI does not contain, such as the space in a name.
fn fill_uri(template: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let uri = utf8_percent_encode(&fill(template, variables)?, NOT_IN_URI).to_string();
    let is_escape = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let is_uri =
        uri.split('%').skip(1).all(is_escape) && !uri.contains(['[', ']']) && uri.matches('#').count() <= 1;
    (is_uri && is_valid(&uri)).then_some(uri)
}

/// Returns true if a new event may contain the text.
fn is_valid(text: &str) -> bool {
    ShortText::parse(text).is_ok() && check_secrets(json!({ "value": text }).to_string().as_bytes()).is_ok()
}

fn actor(kind: &str, name: &str) -> Option<Actor> {
    Some(Actor { kind: ShortText::parse(kind).ok()?, name: ShortText::parse(name).ok()? })
}

/// Returns false for bots, and for triggers such as Drone's `@cron`.
fn is_person(name: &str) -> bool {
    !name.ends_with("[bot]") && !name.starts_with('@') && !TRIGGERS.contains(&name)
}

/// Returns true if the text is a commit hash: Buildkite sets HEAD before it has resolved the commit.
fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
