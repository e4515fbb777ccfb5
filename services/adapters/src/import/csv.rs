//! Tables of releases in CSV, with a header row.
//!
//! A [`Mapping`] says which column, or which constant, is which part of an event. The outcome of a row is never assumed:
//! it is mapped, or a constant.

mod mapping;
mod row;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

pub use mapping::{Mapping, MappingError, Member, TimeFormat};

use self::mapping::Columns;
use super::imported::{Collector, Imported};
use crate::translation::NotUnderstood;

/// Translates a table. A time after `latest` is a problem: the ledger accepts no event from the future.
///
/// # Errors
/// The header row cannot be read, or does not have the columns of the mapping.
pub fn read(file: &str, mapping: &Mapping, latest: DateTime<Utc>) -> Result<Imported, MappingError> {
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(mapping.delimiter)
        .trim(::csv::Trim::All)
        .from_reader(file.as_bytes());
    let headers = reader.headers().map_err(|error| MappingError::Header(error.to_string()))?;
    let headers: Vec<_> = headers.iter().map(str::to_owned).collect();
    let columns = mapping.columns(&headers)?;
    let mut collector = Collector::default();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let number = record.position().map_or(0, ::csv::Position::line);
                let fields = fields(&record, &columns, mapping);
                let translation = row::translate(&fields, mapping, latest);
                collector.add(number, translation.map_err(|fault| named(fault, &headers, &columns)));
            }
            Err(error) => {
                let number = error.position().map_or(0, ::csv::Position::line);
                collector.problem(number, unreadable(&error));
            }
        }
    }
    Ok(collector.finish())
}

/// Returns the parts of a row: the fields that are not empty, and the constants for the others.
fn fields<'r>(
    record: &'r ::csv::StringRecord,
    columns: &Columns,
    mapping: &'r Mapping,
) -> BTreeMap<Member, &'r str> {
    let mut fields: BTreeMap<_, _> =
        mapping.constants.iter().map(|(member, value)| (*member, value.as_str())).collect();
    for (member, index) in columns {
        match record.get(*index).map(str::trim).filter(|field| !field.is_empty()) {
            Some(field) => {
                fields.insert(*member, field);
            }
            None => {}
        }
    }
    fields
}

/// Returns a fault with the name of the column in place of that of the member.
fn named(fault: NotUnderstood, headers: &[String], columns: &Columns) -> NotUnderstood {
    let column = columns.iter().find(|(member, _)| member.name() == fault.pointer);
    let name = column.and_then(|(_, index)| headers.get(*index));
    match name {
        Some(name) => NotUnderstood::new(format!("column {name:?}"), fault.detail),
        None => fault,
    }
}

fn unreadable(error: &::csv::Error) -> String {
    match error.kind() {
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} fields, and the header row {expected_len}")
        }
        _ => format!("the row cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests;
