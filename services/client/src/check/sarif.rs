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
    #[serde(default)]
    invocations: Vec<Invocation>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: Option<bool>,
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
    rule_index: Option<i64>,
    rule: Option<RuleReference>,
    kind: Option<String>,
    level: Option<String>,
    #[serde(default)]
    suppressions: Vec<Suppression>,
}

/// The rule of a finding: its id, its index in a component, or both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleReference {
    id: Option<String>,
    index: Option<i64>,
    tool_component: Option<ComponentReference>,
}

/// The extension that has the rule; without one, the driver has it.
#[derive(Debug, Deserialize)]
struct ComponentReference {
    index: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Suppression {
    status: Option<String>,
}

/// Counts the findings: one of the level error is a failed case, any other a skipped one. A result of the kind `pass` is
/// a passed case, and so is a run of a tool without failed ones.
///
/// # Errors
/// The text is not SARIF, or a tool did not run to its end or failed.
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
        if run.invocations.iter().any(|invocation| invocation.execution_successful == Some(false)) {
            return Err("is incomplete: a tool says that its execution failed".to_owned());
        }
        let rules = rules_by_id(&run.tool);
        let failed_before = counts.failed;
        for finding in results {
            match finding.kind.as_deref() {
                Some("pass") => counts.passed += 1,
                None | Some("fail") if is_error(finding, &run.tool, &rules) => counts.failed += 1,
                _ => counts.skipped += 1,
            }
        }
        if counts.failed == failed_before {
            counts.passed += 1;
        }
    }
    Ok(counts)
}

/// Returns the rules of all components by their ids.
fn rules_by_id(tool: &Tool) -> BTreeMap<&str, &Rule> {
    let components = std::iter::once(&tool.driver).chain(&tool.extensions);
    components.flat_map(|component| &component.rules).map(|rule| (&*rule.id, rule)).collect()
}

/// Returns the rule of a finding. The rule at the index must have the id, if both are given.
fn rule_of<'a>(finding: &Finding, tool: &'a Tool, by_id: &BTreeMap<&str, &'a Rule>) -> Option<&'a Rule> {
    let reference = finding.rule.as_ref();
    let id = finding.rule_id.as_deref().or_else(|| reference?.id.as_deref());
    let index = finding.rule_index.or_else(|| reference?.index);
    let component = match reference.and_then(|reference| reference.tool_component.as_ref()) {
        Some(extension) => element(&tool.extensions, extension.index),
        None => Some(&tool.driver),
    };
    let at_index = component.and_then(|component| element(&component.rules, index));
    at_index
        .filter(|rule| id.is_none_or(|id| is_within(id, &rule.id)))
        .or_else(|| ids(id?).find_map(|id| by_id.get(id).copied()))
}

/// Returns the element at an index; none for the index -1, which stands for none.
fn element<T>(elements: &[T], index: Option<i64>) -> Option<&T> {
    elements.get(usize::try_from(index?).ok()?)
}

/// Returns true if an id names the rule or a part of it, as `CA1000/1` does of `CA1000`.
fn is_within(id: &str, rule: &str) -> bool {
    id.strip_prefix(rule).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns an id, and those of which it is a part.
fn ids(id: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(id), |id| Some(id.rsplit_once('/')?.0))
}

fn is_error(finding: &Finding, tool: &Tool, by_id: &BTreeMap<&str, &Rule>) -> bool {
    let of_rule = || rule_of(finding, tool, by_id)?.default_configuration.as_ref()?.level.as_deref();
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
    fn the_rule_of_a_finding_is_found_by_its_index_or_its_id() {
        let count_of = |finding: &str| {
            count(&format!(
                r#"{{"version": "2.1.0", "runs": [{{
                    "tool": {{
                        "driver": {{"rules": [
                            {{"id": "style"}}, {{"id": "leak", "defaultConfiguration": {{"level": "error"}}}}]}},
                        "extensions": [{{"rules": [
                            {{"id": "race", "defaultConfiguration": {{"level": "error"}}}}]}}]
                    }},
                    "invocations": [{{"executionSuccessful": true}}],
                    "results": [{finding}]}}]}}"#
            ))
        };
        for finding in [
            r#"{"ruleIndex": 1}"#,
            r#"{"rule": {"index": 1}}"#,
            r#"{"rule": {"id": "race"}}"#,
            r#"{"ruleId": "leak/heap"}"#,
            r#"{"ruleId": "leak", "ruleIndex": -1}"#,
            r#"{"ruleId": "leak", "ruleIndex": 0}"#,
            r#"{"ruleId": "race", "rule": {"index": 0, "toolComponent": {"index": 0}}}"#,
        ] {
            assert_eq!(count_of(finding), Ok(Counts { passed: 0, failed: 1, skipped: 0 }), "{finding}");
        }
        for finding in [r#"{"ruleIndex": 0}"#, r#"{"ruleIndex": 7}"#, r#"{"ruleId": "leaks"}"#, "{}"] {
            assert_eq!(count_of(finding), Ok(Counts { passed: 1, failed: 0, skipped: 1 }), "{finding}");
        }
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
            (
                r#"{"version": "2.1.0", "runs": [{"tool": {"driver": {}}, "results": [],
                    "invocations": [{"executionSuccessful": true}, {"executionSuccessful": false}]}]}"#,
                "is incomplete: a tool says that its execution failed",
            ),
        ] {
            let error = count(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
