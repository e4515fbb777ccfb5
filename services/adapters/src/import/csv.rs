//! Tables of releases in CSV, with a header row.
//!
//! A [`Mapping`] assigns a column, or a constant, to each part of an event. The outcome of a row is never
//! assumed: it is mapped, or a constant.

mod mapping;
mod row;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

pub use mapping::{Mapping, MappingError, Member, TimeFormat};

use self::mapping::Columns;
use super::imported::{Collector, Imported};
use super::records::Records;
use crate::translation::NotUnderstood;

/// Translates a table. A time after `latest` is a problem: the ledger accepts no event from the future.
///
/// # Errors
/// The header row cannot be read, or does not have the columns of the mapping.
pub fn read(file: &str, mapping: &Mapping, latest: DateTime<Utc>) -> Result<Imported, MappingError> {
    let mut records = Records::new(file, mapping.delimiter);
    let headers = records.headers().map_err(MappingError::Header)?;
    let columns = mapping.columns(&headers)?;
    let mut collector = Collector::default();
    while let Some((number, record)) = records.next() {
        match record {
            Ok(record) => {
                let fields = fields(record, &columns, mapping);
                let translation = row::translate(&fields, mapping, latest);
                collector.add(number, translation.map_err(|fault| named(fault, &headers, &columns)));
            }
            Err(detail) => collector.problem(number, detail),
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
        if let Some(field) = record.get(*index).map(str::trim).filter(|field| !field.is_empty()) {
            fields.insert(*member, field);
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

#[cfg(test)]
mod tests;
