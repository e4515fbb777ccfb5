//! The XML form of JUnit, which most test runners write.

use ledger_domain::event::Counts;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Maximum depth of elements.
const MAX_DEPTH: usize = 256;

/// The outcome of a case, by the elements in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// Counts the elements `testcase`: failed with a `failure` or an `error`, else skipped with `skipped`, else passed.
///
/// # Errors
/// The text is not XML, or not of this form.
pub(super) fn count(text: &str) -> Result<Counts, String> {
    let malformed = |detail: String| format!("is not JUnit XML: {detail}");
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut counter = Counter::default();
    loop {
        match reader.read_event().map_err(|error| malformed(error.to_string()))? {
            Event::Start(element) => counter.open(&element).map_err(malformed)?,
            Event::Empty(element) => {
                counter.open(&element).map_err(malformed)?;
                counter.close();
            }
            Event::End(_) => counter.close(),
            Event::Eof => break,
            _ => {}
        }
    }
    match (counter.has_root, counter.depth) {
        (false, _) => Err(malformed("it has no element".to_owned())),
        (true, 0) => Ok(counter.counts),
        (true, _) => Err(malformed("it ends within an element".to_owned())),
    }
}

/// Returns the outcome that an element in a case stands for.
fn outcome_of(name: &[u8]) -> Outcome {
    match name {
        b"failure" | b"error" => Outcome::Failed,
        b"skipped" => Outcome::Skipped,
        _ => Outcome::Passed,
    }
}

/// The state of counting.
#[derive(Debug, Default)]
struct Counter {
    counts: Counts,
    depth: usize,
    has_root: bool,
    /// The case that is open: its depth, and its outcome so far.
    case: Option<(usize, Outcome)>,
}

impl Counter {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let name = element.local_name();
        let name: &[u8] = name.as_ref();
        if self.depth == 0 {
            if self.has_root || !matches!(name, b"testsuites" | b"testsuite") {
                return Err("its root is not testsuites or testsuite".to_owned());
            }
            self.has_root = true;
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("its elements nest deeper than {MAX_DEPTH}"));
        }
        let depth = self.depth;
        if let Some((case, outcome)) = &mut self.case {
            if *case + 1 == depth {
                *outcome = (*outcome).max(outcome_of(name));
            }
        } else if name == b"testcase" {
            self.case = Some((depth, Outcome::Passed));
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some((depth, outcome)) = self.case
            && depth == self.depth
        {
            match outcome {
                Outcome::Passed => self.counts.passed += 1,
                Outcome::Skipped => self.counts.skipped += 1,
                Outcome::Failed => self.counts.failed += 1,
            }
            self.case = None;
        }
        self.depth = self.depth.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_counted_once_by_its_worst_element() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites tests="6"><!-- <testcase/> -->
              <testsuite name="a &gt; b">
                <properties><property name="x" value="&quot;"/></properties>
                <testcase name="passes"/>
                <testcase name="prints"><system-out><![CDATA[<failure/>]]></system-out></testcase>
                <testcase name="fails"><failure message="1 > 2">a<b/></failure></testcase>
                <testcase name="breaks"><error/><skipped/></testcase>
              </testsuite>
              <testsuite name="nested"><testsuite><testcase name="skips"><skipped/></testcase></testsuite>
                <testcase name="flaky"><flakyFailure/><system-err/></testcase></testsuite>
            </testsuites>"#;
        assert_eq!(count(text), Ok(Counts { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(count("<testsuite/>"), Ok(Counts::default()));
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "no XML",
            "<html><body>Bad gateway</body></html>",
            "<testsuite><testcase></testsuite>",
            "<testsuites><testsuite>",
            "<testsuite/><testsuite/>",
            "<testsuite><testcase name=",
        ] {
            let error = count(text).expect_err(text);
            assert!(error.starts_with("is not JUnit XML: "), "{error}");
        }
        let deep = format!("<testsuite>{}{}</testsuite>", "<a>".repeat(300), "</a>".repeat(300));
        assert!(count(&deep).expect_err("too deep").contains("nest deeper than 256"));
    }
}
