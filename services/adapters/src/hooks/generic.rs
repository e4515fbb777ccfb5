//! Deliveries of the kind `generic`, by the rules of their mapping.

use serde_json::{Map, Value, json};

use super::context::Context;
use super::draft::Draft;
use super::mapping::{EventTemplate, Mapping, Template};
use crate::translation::{NotUnderstood, Translation};

/// Translates a delivery by the first rule whose conditions hold.
pub(super) fn translate(
    context: Context<'_>,
    mapping: &Mapping,
    body: &Value,
) -> Result<Translation, NotUnderstood> {
    let Some((index, rule)) = mapping.rules.iter().enumerate().find(|(_, rule)| rule.holds(body)) else {
        return Ok(Translation::Ignored("no rule of the mapping matches".to_owned()));
    };
    match (&rule.ignore, &rule.event) {
        (None, Some(event)) => {
            EventRule { context, template: event, source: &mapping.source, index }.translate(body)
        }
        (reason, _) => {
            Ok(Translation::Ignored(format!("rules[{index}]: {}", reason.as_deref().unwrap_or("ignored"))))
        }
    }
}

/// A rule that makes an event.
struct EventRule<'r> {
    context: Context<'r>,
    template: &'r EventTemplate,
    source: &'r str,
    /// Number of the rule, from 0.
    index: usize,
}

impl EventRule<'_> {
    fn translate(&self, body: &Value) -> Result<Translation, NotUnderstood> {
        let id = self.required("id", &self.template.id, body)?;
        let at = self.required("time", &self.template.time, body)?;
        let at = self.context.parse_time(&at).map_err(|fault| self.fault(format!("time {fault}")))?;
        let at = at.ok_or_else(|| self.fault("time is missing"))?;
        let mut data = Map::new();
        for (name, template) in &self.template.data {
            if let Some(value) = template.value(body)? {
                data.insert(name.clone(), value);
            }
        }
        let foreign = data.get("environment").and_then(Value::as_str);
        if (foreign.is_some() || self.needs_environment(&data))
            && let Some(ignored) = self.context.ignored(foreign)
        {
            return Ok(ignored);
        }
        self.name_lane(&mut data)?;
        let correlation = self.template.correlation.as_ref().map(|template| template.text(body));
        let correlation = correlation.transpose()?.flatten();
        let draft = Draft::new(&self.template.kind, &self.context.source(self.source), &id, at)
            .with_correlation(correlation.as_deref());
        let draft = data.into_iter().fold(draft, |draft, (name, value)| draft.with(&name, value));
        Ok(Translation::Events(vec![draft.build()]))
    }

    fn required(&self, name: &str, template: &Template, body: &Value) -> Result<String, NotUnderstood> {
        template.text(body)?.ok_or_else(|| self.fault(format!("the delivery has no value for {name}")))
    }

    fn fault(&self, detail: impl std::fmt::Display) -> NotUnderstood {
        NotUnderstood::new("", format!("rules[{}]: {detail}", self.index))
    }

    /// Returns true if an event of the kind has an environment, so that the default is that of a delivery without one.
    fn needs_environment(&self, data: &Map<String, Value>) -> bool {
        !(data.contains_key("artifact") || self.template.kind == "activity.reported")
    }

    /// Replaces the names of the lane by those of the ledger, and adds the defaults where an event of the kind needs them.
    fn name_lane(&self, data: &mut Map<String, Value>) -> Result<(), NotUnderstood> {
        let names = &self.context.webhook.names;
        let kind = self.template.kind.as_str();
        let is_of_lane = kind.starts_with("deploy.") || kind == "traffic.switched";
        for (name, is_needed) in
            [("environment", self.needs_environment(data)), ("service", is_of_lane), ("target", is_of_lane)]
        {
            let foreign = match data.get(name) {
                None if !is_needed => continue,
                None => None,
                Some(Value::String(foreign)) => Some(foreign.clone()),
                Some(_) => return Err(self.fault(format!("{name} must be a text"))),
            };
            let foreign = foreign.as_deref();
            let named = match name {
                "environment" => {
                    names.optional_environment(foreign).map(|name| name.map(|name| json!(name.as_str())))
                }
                "service" => {
                    names.optional_service(foreign).map(|name| name.map(|name| json!(name.as_str())))
                }
                _ => names.target(foreign).map(|name| name.map(|name| json!(name.as_str()))),
            };
            match named.map_err(|error| self.fault(error))? {
                Some(named) => drop(data.insert(name.to_owned(), named)),
                None => drop(data.remove(name)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
