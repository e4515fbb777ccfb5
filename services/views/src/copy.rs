//! Rows in Postgres' binary COPY format
//! (<https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format").

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Rows of one table, being gathered.
pub(crate) struct CopyRows {
    bytes: Vec<u8>,
    rows: usize,
}

/// Microseconds from 1970 to 2000, where Postgres begins to count.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl CopyRows {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(64 * 1024);
        bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
        bytes.extend_from_slice(&[0; 8]); // flags, and the length of the header's extension
        Self { bytes, rows: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Begins a row of so many columns, which must all follow in order.
    pub(crate) fn row(&mut self, columns: i16) -> &mut Self {
        self.rows += 1;
        self.bytes.extend_from_slice(&columns.to_be_bytes());
        self
    }

    pub(crate) fn bytea(&mut self, value: &[u8]) -> &mut Self {
        // A column holds at most an event, which is far below 2 GiB.
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytea(value.as_bytes())
    }

    pub(crate) fn maybe_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    pub(crate) fn bigint(&mut self, value: i64) -> &mut Self {
        self.bytea(&value.to_be_bytes())
    }

    pub(crate) fn maybe_bigint(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.bigint(value),
            None => self.null(),
        }
    }

    pub(crate) fn integer(&mut self, value: i32) -> &mut Self {
        self.bytea(&value.to_be_bytes())
    }

    pub(crate) fn boolean(&mut self, value: bool) -> &mut Self {
        self.bytea(&[u8::from(value)])
    }

    pub(crate) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.bytea(value.as_bytes())
    }

    pub(crate) fn timestamptz(&mut self, value: DateTime<Utc>) -> &mut Self {
        self.bigint(value.timestamp_micros() - POSTGRES_EPOCH)
    }

    /// The rows, ended, as COPY takes them.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        self.bytes
    }
}
