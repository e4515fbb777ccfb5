//! The Test Anything Protocol, versions 12 to 14.

use ledger_domain::event::Counts;

/// Counts the test points: `ok` passes and `not ok` fails; one with `# SKIP` is skipped, as is a failing one with
/// `# TODO`. Subtests, which are indented, are part of the test point that follows them.
///
/// # Errors
/// The text has no plan, bails out, or has another number of test points than planned.
pub(super) fn count(text: &str) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let mut plan = None;
    for line in text.lines() {
        if let Some(reason) = line.strip_prefix("Bail out!") {
            return Err(format!("is incomplete: it bails out:{reason}").trim_end_matches(':').to_owned());
        }
        if let Some(planned) = planned(line) {
            if plan.is_some_and(|plan| plan != planned) {
                return Err("is not TAP: it has two plans".to_owned());
            }
            plan = Some(planned);
        } else if let Some(rest) = point(line, "not ok") {
            match directive(rest) {
                Some("SKIP" | "TODO") => counts.skipped += 1,
                _ => counts.failed += 1,
            }
        } else if let Some(rest) = point(line, "ok") {
            match directive(rest) {
                Some("SKIP") => counts.skipped += 1,
                _ => counts.passed += 1,
            }
        }
    }
    let points = counts.passed + counts.failed + counts.skipped;
    match plan {
        None => Err("is not TAP: it has no plan such as 1..3".to_owned()),
        Some(planned) if planned != points => {
            Err(format!("is incomplete: {planned} test points are planned, and it has {points}"))
        }
        Some(_) => Ok(counts),
    }
}

/// Returns the number of test points of a plan: `1..3`, `1..0 # SKIP no database`.
fn planned(line: &str) -> Option<u64> {
    let number = line.strip_prefix("1..")?;
    number.split(|c: char| c == '#' || c.is_whitespace()).next()?.parse().ok()
}

/// Returns what follows the status of a test point.
fn point<'a>(line: &'a str, status: &str) -> Option<&'a str> {
    line.strip_prefix(status).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Returns the directive of a test point, if it has a known one. An escaped `#` belongs to the description.
fn directive(rest: &str) -> Option<&'static str> {
    let (at, _) = rest.match_indices('#').rfind(|(at, _)| !rest[..*at].ends_with('\\'))?;
    let word = rest[at + 1..].trim_start();
    ["SKIP", "TODO"]
        .into_iter()
        .find(|name| word.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_points_are_counted_with_their_directives() {
        let text = "TAP version 14\n1..6\nok 1 - starts\n    not ok 1 - a subtest\n    1..1\nnot ok 2 - stops\n\
            # a comment\nok 3 # SKIP no database\nnot ok 4 # todo later\nok\nok 6 - number \\# SKIP\n  ---\n  ...\n";
        assert_eq!(count(text), Ok(Counts { passed: 3, failed: 1, skipped: 2 }));
        assert_eq!(count("ok 1\r\nnot ok 2\r\n1..2\r\n"), Ok(Counts { passed: 1, failed: 1, skipped: 0 }));
        assert_eq!(count("1..0 # SKIP nothing to test\n"), Ok(Counts::default()));
    }

    #[test]
    fn other_and_incomplete_texts_are_rejected() {
        for (text, expected) in [
            ("", "is not TAP: it has no plan such as 1..3"),
            ("<html>Bad gateway</html>", "is not TAP: it has no plan such as 1..3"),
            ("1..2\nok 1\n", "is incomplete: 2 test points are planned, and it has 1"),
            ("1..2\n1..3\n", "is not TAP: it has two plans"),
            ("1..2\nok 1\nBail out! No disk.\n", "is incomplete: it bails out: No disk."),
            ("1..2\nBail out!\n", "is incomplete: it bails out"),
        ] {
            assert_eq!(count(text), Err(expected.to_owned()), "{text}");
        }
    }
}
