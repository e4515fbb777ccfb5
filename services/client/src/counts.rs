//! Case counts of checks, as text beside their results.

use ledger_api_types::CountsBody;

/// Returns a text with the case counts in parentheses, if there are any.
pub(super) fn with_counts(text: &str, counts: Option<CountsBody>) -> String {
    counts.map_or_else(|| text.to_owned(), |counts| format!("{text} ({counts})"))
}
