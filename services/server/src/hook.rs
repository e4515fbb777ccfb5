//! `release-ledger hook`: what a delivery of a webhook would record, without a service.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use ledger_adapters::hooks::{Request, Webhook, describe, translate};
use ledger_adapters::translation::{NativeEvent, NotUnderstood, Translation};
use ledger_client::{clock, printable, shown_json};
use serde_json::{Value, json};

use crate::config::{Config, Flags};

/// Try the settings of webhooks
#[derive(Debug, clap::Subcommand)]
pub enum HookCommand {
    /// Show what a delivery would record, without recording it
    ///
    /// Reads the settings of a webhook from the service's settings, and a payload of its tool from a file. Needs no
    /// service, and no secret: the signature is not verified.
    Test(Box<Test>),
}

impl HookCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The settings or a file cannot be read, or the payload cannot be understood.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Test(test) => test.run(),
        }
    }
}

/// The command `hook test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger hook test github-main payload.json --headers headers.txt --config ledger.toml

The file of headers has one header a line, such as X-GitHub-Event: deployment_status.")]
pub struct Test {
    /// The webhook's name in the settings
    #[arg(value_name = "NAME")]
    name: String,
    /// The payload, as the tool sends it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The delivery's headers, one a line
    #[arg(long, value_name = "FILE")]
    headers: Option<PathBuf>,
    /// The service's settings
    #[arg(long, value_name = "FILE", env = "RELEASE_LEDGER_CONFIG")]
    config: Option<PathBuf>,
    /// Print {"events":[…]}, with "ignored" or "not_understood" and the reason, if there is one
    #[arg(long)]
    json: bool,
}

impl Test {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::read(&Flags::of_file(self.config))?;
        let table = config.hooks.get(&self.name).with_context(|| {
            let names: Vec<&str> = config.hooks.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none; set --config".to_owned() } else { names.join(", ") };
            format!("the settings have no webhook {}; they have: {names}", self.name)
        })?;
        let webhook = Webhook::offline(table.settings().clone())
            .with_context(|| format!("invalid settings: hooks.{}", self.name))?;
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let body = read(&self.file)?;
        let headers = self.headers.as_ref().map(&read).transpose()?.unwrap_or_default();
        let headers = String::from_utf8_lossy(&headers).into_owned();
        let headers = headers.lines().filter_map(|line| line.split_once(':'));
        let request = Request::new(headers.map(|(name, value)| (name.trim(), value.trim())), &body);
        let translation = translate(&webhook, &request, clock::now());
        let lines = match self.json {
            true => vec![shown_json(to_json(&translation).to_string().as_bytes())],
            false => describe(&translation).iter().map(|line| printable(line)).collect(),
        };
        for line in lines {
            writeln!(std::io::stdout().lock(), "{line}")?;
        }
        ensure!(translation.is_ok(), "the payload cannot be understood");
        let is_partial = matches!(translation, Ok(Translation::Partial(_)));
        ensure!(!is_partial, "a part of the payload cannot be understood");
        Ok(())
    }
}

/// Returns the events of a translation, and the reason for what is not among them.
fn to_json(translation: &Result<Translation, NotUnderstood>) -> Value {
    let objects = |events: &[NativeEvent]| -> Value {
        events.iter().map(|event| Value::Object(event.0.clone())).collect()
    };
    match translation {
        Ok(Translation::Events(events)) => json!({"events": objects(events)}),
        Ok(Translation::Partial(part)) => {
            json!({"events": objects(&part.events), "not_understood": part.fault.to_string()})
        }
        Ok(Translation::Ignored(reason)) => json!({"events": [], "ignored": reason}),
        Err(fault) => json!({"events": [], "not_understood": fault.to_string()}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_translation_has_its_events_and_what_is_left() {
        let event = NativeEvent([("type".to_owned(), json!("x"))].into_iter().collect());
        let events = Ok(Translation::Events(vec![event]));
        assert_eq!(to_json(&events), json!({"events": [{"type": "x"}]}));
        let ignored = Ok(Translation::Ignored("a test".to_owned()));
        assert_eq!(to_json(&ignored), json!({"events": [], "ignored": "a test"}));
        let fault = Err(NotUnderstood::new("/a", "is missing"));
        assert_eq!(to_json(&fault), json!({"events": [], "not_understood": "/a: is missing"}));
    }
}
