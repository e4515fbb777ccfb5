//! Runs a property on an input, and says how to repeat a failure.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::choices::Choices;

/// Checks that an input has a property.
///
/// # Panics
/// The input does not have it, or the parser panics. The message has the bytes of the input.
pub(crate) fn check(target: &str, bytes: &[u8], property: fn(&mut Choices<'_>)) {
    let Err(cause) = catch_unwind(AssertUnwindSafe(|| property(&mut Choices::new(bytes)))) else { return };
    let cause = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    panic!("{cause}\nto repeat: ops/fuzz --hex {hex} {target}");
}
