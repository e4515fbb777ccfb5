//! Words of the responses in the OpenAPI document. The bodies state them as text, so that clients can show a word of a
//! later version.

use serde_json::{Value, json};

/// Words of a member: the component, the member, and the words that this version states.
const WORDS: [(&str, &str, &[&str]); 11] = [
    ("DeliveryBody", "status", &["recorded", "ignored", "quarantined"]),
    ("DeployFrequencyBody", "by", &["day", "week", "month"]),
    ("FindingBody", "rule", &["retired", "freeze", "rollback", "revoked", "held", "promotion", "approvals"]),
    ("PlanIssueBody", "severity", &["warning", "overridable", "fatal"]),
    ("PointBody", "status", &["empty", "candidate", "known_good", "bad"]),
    ("PrincipalBody", "kind", &["person", "workload", "local"]),
    ("QuarantinedBody", "state", &["waiting", "retried", "discarded"]),
    ("RequestedRollbackBody", "status", &["recorded", "duplicate"]),
    ("StepBody", "action", &["redeploy", "add", "remove", "switch"]),
    ("TenantBody", "status", &["settings", "created", "retired"]),
    ("TokenBody", "kind", &["person", "workload", "local"]),
];

/// Adds the words to the members that state them.
pub(crate) fn add_words(document: &mut Value) {
    for (component, member, words) in WORDS {
        let pointer = format!("/components/schemas/{component}/properties/{member}");
        if let Some(schema) = document.pointer_mut(&pointer).and_then(Value::as_object_mut) {
            schema.insert("enum".to_owned(), json!(words));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_with_words_lists_them() {
        let document = crate::document();
        for (component, member, words) in WORDS {
            let schema = &document["components"]["schemas"][component]["properties"][member];
            assert_eq!(schema["type"], "string", "{component} {member}");
            assert_eq!(schema["enum"], json!(words), "{component} {member}");
        }
    }
}
