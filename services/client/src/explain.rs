//! `release-ledger events types` and `explain`: the types of events and their members, from the published schemas.

use ledger_api_types::{COMMON_EVENT_SCHEMA as COMMON, EVENT_SCHEMAS as SCHEMAS};
use ledger_domain::Kind;
use serde_json::Value;

use super::history::short_kind;
use super::invalid::invalid;
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, column};

/// Deepest chain of references in a schema.
const MAX_REFERENCES: usize = 8;

/// Show what events there are
#[derive(Debug, clap::Subcommand)]
pub enum Events {
    /// List the types of events
    Types(Types),
}

/// The command `events types`.
#[derive(Debug, clap::Args)]
pub struct Types {
    #[command(flatten)]
    output: OutputArgs,
}

/// Show the members of a type of event, and an example
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The type, such as `deploy.succeeded`; `deploy` lists the types of a family
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Events {
    /// Runs the command.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Types(types) => types.run(),
        }
    }
}

impl Types {
    fn run(self) -> anyhow::Result<()> {
        print_types(self.output, |_| true)
    }
}

/// Prints the types with the selected names.
fn print_types(output: OutputArgs, is_selected: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let selected = SCHEMAS.iter().filter(|(name, _)| is_selected(name));
    let schemas = selected.map(|(name, text)| anyhow::Ok((*name, serde_json::from_str(text)?)));
    let schemas: Vec<(&str, Value)> = schemas.collect::<anyhow::Result<_>>()?;
    let names: Vec<&str> = schemas.iter().map(|(name, _)| *name).collect();
    let json = serde_json::to_vec(&names)?;
    output.print(&json, || Ok(types_report(&schemas)))
}

fn types_report(schemas: &[(&str, Value)]) -> Report {
    let description = |schema: &Value| schema["description"].as_str().unwrap_or_default().to_owned();
    let rows = schemas.iter().map(|(name, schema)| [(*name).into(), Cell::Text(description(schema))]);
    let table = Table::new([column("type", 0), column("meaning", 0)]).with_rows(rows);
    Report::default().with_table(table)
}

impl Explain {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no such type, or stdout cannot be written.
    pub fn run(self) -> anyhow::Result<()> {
        let name = short_kind(&self.kind);
        let Some((_, text)) = SCHEMAS.iter().find(|(known, _)| *known == name) else {
            let kinds = Kind::selected_by(name).map_err(|error| invalid(error.to_string()))?;
            return print_types(self.output, |known| kinds.iter().any(|kind| kind.name() == known));
        };
        let schema: Value = serde_json::from_str(text)?;
        let common: Value = serde_json::from_str(COMMON)?;
        self.output.print(text.as_bytes(), || Ok(report(&common, &schema)))
    }
}

fn report(common: &Value, schema: &Value) -> Report {
    let mut rows: Vec<[Cell; 4]> = Vec::new();
    for variant in variants(common, &schema["properties"]["data"]) {
        let required = variant["required"].as_array();
        for (name, member) in variant["properties"].as_object().into_iter().flatten() {
            let is_required = required.is_some_and(|names| names.iter().any(|required| required == name));
            let row = row(common, name, member, is_required);
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    let columns = [column("member", 0), column("required", 0), column("form", 2), column("meaning", 0)];
    let kind = schema["properties"]["type"]["const"].as_str().unwrap_or_default();
    let example = &schema["examples"][0];
    Report::default()
        .with_line(format!("{kind}\n{}", schema["description"].as_str().unwrap_or_default()))
        .with_table(Table::new(columns).with_rows(rows))
        .with_line("example:")
        .with_verbatim(format!("{example:#}"))
}

fn row(common: &Value, name: &str, member: &Value, is_required: bool) -> [Cell; 4] {
    let resolved = resolve(common, member);
    let meaning = member["description"].as_str().or_else(|| resolved["description"].as_str());
    let form = match (&resolved["enum"], &resolved["type"]) {
        (Value::Array(words), _) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        (_, Value::String(form)) => form.clone(),
        (_, Value::Array(forms)) => forms.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    };
    [name.into(), is_required.then_some("yes").into(), form.into(), meaning.unwrap_or_default().into()]
}

/// Returns the schemas of data: several if an event has one of several forms.
fn variants<'s>(common: &'s Value, data: &'s Value) -> Vec<&'s Value> {
    let data = resolve(common, data);
    match data["oneOf"].as_array() {
        Some(variants) => variants.iter().map(|variant| resolve(common, variant)).collect(),
        None => vec![data],
    }
}

/// Follows the references of a schema to the shared definitions.
fn resolve<'s>(common: &'s Value, schema: &'s Value) -> &'s Value {
    let mut schema = schema;
    for _ in 0..MAX_REFERENCES {
        let pointer = schema["$ref"].as_str().and_then(|reference| reference.split_once('#'));
        match pointer.and_then(|(_, pointer)| common.pointer(pointer)) {
            Some(found) => schema = found,
            None => break,
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_schema_with_described_members_and_an_example() {
        let common: Value = serde_json::from_str(COMMON).expect("JSON");
        for kind in Kind::ALL {
            let found = SCHEMAS.iter().find(|(name, _)| *name == kind.name());
            let (_, text) = found.unwrap_or_else(|| panic!("{} has no schema", kind.name()));
            let schema: Value = serde_json::from_str(text).expect("JSON");
            let report = report(&common, &schema);
            // The example stays as written, so that it can be copied.
            if format!("{:#}", schema["examples"][0]).lines().all(|line| line.len() <= 80) {
                report.check_fits();
            }
            let text = report.to_string();
            assert!(text.starts_with(kind.event_type()), "{text}");
            for part in ["member", "meaning", "example:", "\"specversion\": \"1.0\""] {
                assert!(text.contains(part), "{}: no {part} in {text}", kind.name());
            }
        }
        assert_eq!(SCHEMAS.len(), Kind::ALL.len());
    }

    #[test]
    fn the_types_fit_into_a_terminal() {
        let schemas = SCHEMAS.iter().map(|(name, text)| (*name, serde_json::from_str(text).expect("JSON")));
        let schemas: Vec<(&str, Value)> = schemas.collect();
        types_report(&schemas).check_fits();
    }

    #[test]
    fn a_required_member_is_shown_with_its_meaning() {
        let common: Value = serde_json::from_str(COMMON).expect("JSON");
        let (_, text) = SCHEMAS.iter().find(|(name, _)| *name == "deploy.succeeded").expect("a schema");
        let table = report(&common, &serde_json::from_str(text).expect("JSON")).to_string();
        let line = table.lines().find(|line| line.starts_with("slot ")).expect("a slot");
        assert!(line.contains("traffic is switched") && !line.contains("yes"), "{line}");
        assert!(table.lines().any(|line| line.starts_with("service ") && line.contains("yes")), "{table}");
    }
}
