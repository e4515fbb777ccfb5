//! Case counts of checks, as text beside their results.

use ledger_api_types::CountsBody;

/// Returns a text with the case counts in parentheses, if there are any.
pub(super) fn with_counts(text: &str, counts: Option<CountsBody>) -> String {
    counts.map_or_else(|| text.to_owned(), |counts| format!("{text} ({counts})"))
}

/// Returns the case counts that are not zero, as the cell of a column whose name says that they are cases.
pub(super) fn nonzero_counts(counts: CountsBody) -> String {
    let parts = [(counts.passed, "passed"), (counts.failed, "failed"), (counts.skipped, "skipped")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_leaves_out_the_counts_that_are_zero() {
        let cell = |passed, failed, skipped| nonzero_counts(CountsBody { passed, failed, skipped });
        assert_eq!(cell(11, 2, 0), "11 passed, 2 failed");
        assert_eq!(cell(36, 0, 3), "36 passed, 3 skipped");
        assert_eq!(cell(0, 0, 0), "none");
    }
}
