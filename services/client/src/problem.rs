//! Problems of the service, `application/problem+json`, printed as one line.

use std::fmt::Write as _;

use ledger_api_types::ProblemBody;
use ledger_domain::escape_line;

/// Describes a problem as `title: detail`, or `type: detail` if it has no title, and the pointers into the event that
/// the detail does not name. It is one line without control characters.
pub(super) fn describe(problem: &ProblemBody) -> String {
    let ProblemBody { kind, title, detail, errors, .. } = problem;
    let mut text = if title.is_empty() { kind.clone() } else { title.clone() };
    if !detail.is_empty() {
        let _ = write!(text, ": {detail}");
    }
    let pointers = errors.iter().filter_map(|error| error.pointer.as_deref());
    for pointer in pointers.filter(|pointer| !detail.contains(pointer)) {
        let _ = write!(text, " (at {pointer})");
    }
    escape_line(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        describe(&serde_json::from_str(json).expect("a problem"))
    }

    #[test]
    fn a_problem_is_one_line_with_its_pointer() {
        assert_eq!(
            text(r#"{"type":"x","title":"There is nothing here","status":404}"#),
            "There is nothing here"
        );
        assert_eq!(
            text(
                r#"{"title":"Bad","detail":"/data/service: is required","errors":[{"pointer":"/data/service","detail":"is required"}]}"#
            ),
            "Bad: /data/service: is required"
        );
        assert_eq!(
            text(
                r#"{"title":"Bad","detail":"wrong","errors":[{"pointer":"/id","detail":"x"},{"parameter":"p","detail":"y"}]}"#
            ),
            "Bad: wrong (at /id)"
        );
        assert_eq!(text(r#"{"type":"urn:x:gone","detail":"it was deleted"}"#), "urn:x:gone: it was deleted");
        let hostile = r#"{"title":"No\nerror: all is well","detail":"\u001b[2J\u202e"}"#;
        assert_eq!(text(hostile), "No\\nerror: all is well: \\u{1b}[2J\\u{202e}");
    }
}
