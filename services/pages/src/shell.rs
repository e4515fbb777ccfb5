//! Commands to copy.

/// Returns an argument of a command as a POSIX shell reads it: quoted if it has other than plain characters.
pub(crate) fn argument(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns the command that requests a path of the API.
pub(crate) fn curl(path: &str) -> String {
    format!(
        "curl -H \"Authorization: Bearer $RELEASE_LEDGER_TOKEN\" \"$RELEASE_LEDGER_URL\"{}",
        argument(path)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_argument_is_unchanged() {
        assert_eq!(argument("back-1"), "back-1");
    }

    #[test]
    fn any_other_argument_is_quoted() {
        assert_eq!(argument(""), "''");
        assert_eq!(argument("$(id)"), "'$(id)'");
        assert_eq!(argument("it's"), r"'it'\''s'");
        assert_eq!(argument("--force"), "'--force'");
    }

    #[test]
    fn a_query_is_quoted() {
        assert!(curl("/v1/rollbacks?a=1&b=2").ends_with(" \"$RELEASE_LEDGER_URL\"'/v1/rollbacks?a=1&b=2'"));
    }
}
