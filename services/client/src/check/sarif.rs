//! SARIF 2.1.0, which static analysers and scanners write.

use std::collections::BTreeMap;

use ledger_domain::event::Counts;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Log {
    version: String,
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    tool: Tool,
    /// None if the tool did not run to its end.
    results: Option<Vec<Finding>>,
}

#[derive(Debug, Deserialize)]
struct Tool {
    driver: Component,
    #[serde(default)]
    extensions: Vec<Component>,
}

#[derive(Debug, Deserialize)]
struct Component {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    default_configuration: Option<Configuration>,
}

#[derive(Debug, Deserialize)]
struct Configuration {
    level: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    rule_id: Option<String>,
    kind: Option<String>,
    level: Option<String>,
    #[serde(default)]
    suppressions: Vec<Suppression>,
}

#[derive(Debug, Deserialize)]
struct Suppression {
    status: Option<String>,
}

/// Counts the findings: one of the level error is a failed case, any other a skipped one. A result of the kind `pass` is
/// a passed case, and so is a run of a tool without failed ones.
///
/// # Errors
/// The text is not SARIF, or a tool did not run to its end.
pub(super) fn count(text: &str) -> Result<Counts, String> {
    let log: Log = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("is not SARIF: {error}"))?;
    if !log.version.starts_with("2.") {
        return Err(format!("is SARIF {:?}; only versions 2 are supported", log.version));
    }
    let mut counts = Counts::default();
    for run in &log.runs {
        let Some(results) = &run.results else {
            return Err("is incomplete: a run has no results".to_owned());
        };
        let levels = levels(&run.tool);
        let failed_before = counts.failed;
        for finding in results {
            match finding.kind.as_deref() {
                Some("pass") => counts.passed += 1,
                None | Some("fail") if is_error(finding, &levels) => counts.failed += 1,
                _ => counts.skipped += 1,
            }
        }
        if counts.failed == failed_before {
            counts.passed += 1;
        }
    }
    Ok(counts)
}

/// Returns the levels of the rules that have one.
fn levels(tool: &Tool) -> BTreeMap<&str, &str> {
    let components = std::iter::once(&tool.driver).chain(&tool.extensions);
    let rules = components.flat_map(|component| &component.rules);
    rules
        .filter_map(|rule| Some((&*rule.id, rule.default_configuration.as_ref()?.level.as_deref()?)))
        .collect()
}

fn is_error(finding: &Finding, levels: &BTreeMap<&str, &str>) -> bool {
    let of_rule = || levels.get(finding.rule_id.as_deref()?).copied();
    let level = finding.level.as_deref().or_else(of_rule).unwrap_or("warning");
    let is_accepted =
        |suppression: &Suppression| suppression.status.as_deref().is_none_or(|status| status == "accepted");
    level == "error" && !finding.suppressions.iter().any(is_accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_by_their_level_or_that_of_their_rule() {
        let text = r#"{"version": "2.1.0", "runs": [
            {"tool": {"driver": {"name": "scan", "rules": [
                {"id": "leak", "defaultConfiguration": {"level": "error"}}, {"id": "style"}]}},
             "results": [
                {"ruleId": "leak", "message": {"text": "x"}},
                {"ruleId": "leak", "level": "note"},
                {"ruleId": "leak", "suppressions": [{"kind": "inSource"}]},
                {"ruleId": "leak", "suppressions": [{"kind": "external", "status": "rejected"}]},
                {"ruleId": "style"},
                {"ruleId": "other", "level": "error"},
                {"ruleId": "other", "kind": "pass", "level": "none"},
                {"ruleId": "other", "kind": "open", "level": "error"}]},
            {"tool": {"driver": {"name": "lint"}}, "results": []}]}"#;
        assert_eq!(count(text), Ok(Counts { passed: 2, failed: 3, skipped: 4 }));
    }

    #[test]
    fn other_and_incomplete_texts_are_rejected() {
        for (text, expected) in [
            ("", "is not SARIF: "),
            ("<html>Bad gateway</html>", "is not SARIF: "),
            ("{}", "is not SARIF: "),
            (r#"{"version": "1.0.0", "runs": []}"#, "is SARIF \"1.0.0\"; only versions 2 are supported"),
            (
                r#"{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "scan"}}}]}"#,
                "is incomplete: a run has no results",
            ),
        ] {
            let error = count(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
