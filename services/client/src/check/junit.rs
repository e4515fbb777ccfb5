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

/// Counts the elements `testcase`: failed with a `failure` or an `error`, else skipped with `skipped` or if they did not
/// run, else passed. Failures and errors that a suite states beyond its failed cases, such as those of its set-up, are
/// failed cases, too.
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

/// Returns the outcome that the attributes of a case stand for: those of a case that did not run, or a passed one.
fn outcome_by_attributes(case: &BytesStart<'_>) -> Result<Outcome, String> {
    let is_one_of = |name, values: &[&str]| {
        attribute(case, name).map(|value| value.is_some_and(|value| values.contains(&&*value)))
    };
    let is_skipped = is_one_of("status", &["notrun", "disabled", "skipped"])?
        || is_one_of("result", &["skipped", "suppressed"])?;
    Ok(if is_skipped { Outcome::Skipped } else { Outcome::Passed })
}

/// Returns the number of failures and errors that a suite states.
fn stated_failures(suite: &BytesStart<'_>) -> Result<u64, String> {
    let mut sum = 0;
    for name in ["failures", "errors"] {
        let Some(text) = attribute(suite, name)? else { continue };
        let number: u32 =
            text.trim().parse().map_err(|_| format!("its attribute {name} is no number: {text:?}"))?;
        sum += u64::from(number);
    }
    Ok(sum)
}

/// Returns the value of an attribute, if the element has it.
fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let found = element.try_get_attribute(name).map_err(|error| error.to_string())?;
    Ok(found.map(|attribute| String::from_utf8_lossy(&attribute.value).into_owned()))
}

/// A suite that is open.
#[derive(Debug)]
struct Suite {
    depth: usize,
    /// The number of failures and errors that it states.
    stated: u64,
    /// The number of failed cases before it.
    failed_before: u64,
}

/// The state of counting.
#[derive(Debug, Default)]
struct Counter {
    counts: Counts,
    depth: usize,
    has_root: bool,
    /// The case that is open: its depth, and its outcome so far.
    case: Option<(usize, Outcome)>,
    /// The suites that are open, the innermost last.
    suites: Vec<Suite>,
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
            self.case = Some((depth, outcome_by_attributes(element)?));
        } else if matches!(name, b"testsuites" | b"testsuite") {
            let (stated, failed_before) = (stated_failures(element)?, self.counts.failed);
            self.suites.push(Suite { depth, stated, failed_before });
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
        if let Some(Suite { stated, failed_before, .. }) =
            self.suites.pop_if(|suite| suite.depth == self.depth)
        {
            self.counts.failed = self.counts.failed.max(failed_before + stated);
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
    fn failures_of_a_suite_that_no_case_explains_are_failed_cases() {
        let text = r#"<testsuites failures="1" errors="2">
              <testsuite failures="1" errors="1"><testcase><failure/></testcase><testcase/></testsuite>
              <testsuite failures="0" errors="1"><system-err>no database</system-err></testsuite>
            </testsuites>"#;
        assert_eq!(count(text), Ok(Counts { passed: 1, failed: 3, skipped: 0 }));
        let explained = r#"<testsuite failures="1"><testcase><failure/></testcase></testsuite>"#;
        assert_eq!(count(explained), Ok(Counts { passed: 0, failed: 1, skipped: 0 }));
        let outermost = r#"<testsuites errors="4"><testsuite errors="1"/></testsuites>"#;
        assert_eq!(count(outermost), Ok(Counts { passed: 0, failed: 4, skipped: 0 }));
        for text in [r#"<testsuite failures="-1"/>"#, r#"<testsuite errors="99999999999"/>"#] {
            assert!(count(text).expect_err(text).contains("is no number"), "{text}");
        }
    }

    #[test]
    fn a_case_that_did_not_run_is_skipped() {
        let text = r#"<testsuite><testcase status="notrun" result="suppressed"/><testcase status="disabled"/>
            <testcase status="run" result="skipped"/><testcase status="run" result="completed"/>
            <testcase status="notrun"><failure/></testcase></testsuite>"#;
        assert_eq!(count(text), Ok(Counts { passed: 1, failed: 1, skipped: 3 }));
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
