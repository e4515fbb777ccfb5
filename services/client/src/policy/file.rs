//! Policies in files, and their differences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use ledger_codec::cloudevents::{Reason, parse_policy};
use serde_json::{Map, Value};

use crate::bounded::read_text;
use crate::compose::member_name;

/// A file with a policy.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PolicyFile {
    /// The file with the policy as JSON; - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl PolicyFile {
    /// Reads the policy and checks it.
    ///
    /// # Errors
    /// The file cannot be read, or contains no valid policy.
    pub(super) fn read(&self) -> anyhow::Result<Map<String, Value>> {
        let name = self.name();
        let text = if self.is_stdin() { read_text(io::stdin().lock()) } else { open(&self.file) };
        let text = text.with_context(|| format!("FILE: cannot read {name}"))?;
        parse(&text).map_err(|fault| anyhow!("FILE: {name}: {fault}"))
    }

    /// Returns the name for messages.
    pub(super) fn name(&self) -> String {
        if self.is_stdin() { "stdin".to_owned() } else { self.file.display().to_string() }
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }
}

fn open(path: &Path) -> io::Result<String> {
    File::open(path).and_then(read_text)
}

/// Parses the text of a policy, and checks it as the ledger does.
///
/// # Errors
/// Returns the fault with the member's path, such as `automatic_rollback.checks.0`.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    parse_policy(text.as_bytes()).map_err(|reason| describe(&reason))?;
    serde_json::from_str(text).map_err(|error| format!("is not a JSON object: {error}"))
}

fn describe(reason: &Reason) -> String {
    match reason {
        Reason::Value { pointer, detail } => match (member_name(pointer).as_str(), detail.as_str()) {
            ("", detail) => detail.to_owned(),
            (member, "is required") => format!("{member} is missing"),
            (member, detail) => format!("{member} {detail}"),
        },
        other => other.to_string().replacen("the event ", "", 1),
    }
}

/// Returns the members that differ: each with its path, and its values in both policies.
pub(super) fn differences(from: &Map<String, Value>, to: &Map<String, Value>) -> Vec<String> {
    let (from, to) = (members(from), members(to));
    let names: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    let line = |name: &String| match (from.get(name), to.get(name)) {
        (Some(from), Some(to)) if from == to => None,
        (Some(from), Some(to)) => Some(format!("{name}: {from} -> {to}")),
        (Some(from), None) => Some(format!("{name}: {from} -> none")),
        (None, Some(to)) => Some(format!("{name}: none -> {to}")),
        (None, None) => None,
    };
    names.into_iter().filter_map(line).collect()
}

/// Returns the values that are not objects, by their path. Lists are compared as a whole.
fn members(policy: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (name, value) in policy {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                let inner = members(inner).into_iter();
                found.extend(inner.map(|(member, value)| (format!("{name}.{member}"), value)));
            }
            value => drop(found.insert(name.clone(), value.clone())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Map<String, Value> {
        parse(text).expect("a policy")
    }

    #[test]
    fn a_fault_names_the_member() {
        for (text, expected) in [
            (r#"{"approvals":-1}"#, "approvals must be "),
            (r#"{"approvels":1}"#, "approvels is not a known member"),
            (r#"{"automatic_rollback":{}}"#, "automatic_rollback.at_most_a_day is missing"),
            (r#"{"target_order":["a b"]}"#, "target_order.0 "),
            ("[]", "must be an object"),
            ("{", ""),
        ] {
            let fault = parse(text).expect_err(text);
            assert!(fault.starts_with(expected) && !fault.contains('/'), "{text}: {fault}");
        }
    }

    #[test]
    fn the_members_that_differ_are_listed() {
        let from = policy(r#"{"approvals":1,"promotion":{"from":["dev"]},"soak_seconds":60}"#);
        let to = policy(r#"{"approvals":2,"promotion":{"from":["dev"]},"required_validations":["e2e"]}"#);
        assert_eq!(
            differences(&from, &to),
            ["approvals: 1 -> 2", "required_validations: none -> [\"e2e\"]", "soak_seconds: 60 -> none"]
        );
        assert_eq!(differences(&from, &from), [""; 0]);
    }
}
