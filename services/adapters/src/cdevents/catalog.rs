//! The event types of the CDEvents specifications 0.3.0, 0.4.1, 0.5.1 and the draft of 0.6: their versions, and the
//! members of their content.

use super::schema::{Member, Rule, Spec, optional, required};
use crate::translation::NotUnderstood;

/// The prefix of the types of the specification.
const PREFIX: &str = "dev.cdevents.";

/// An event type of the specification.
#[derive(Debug)]
pub(super) struct EventType {
    /// The type of the subject, in the specification's spelling: `pipelineRun`.
    pub(super) subject: &'static str,
    /// The change of the subject: `finished`.
    pub(super) predicate: &'static str,
    /// The version of the type in each specification, in their order; empty where the type does not exist.
    versions: [&'static str; 4],
    /// The members of the content.
    pub(super) content: &'static [Member],
}

impl EventType {
    /// Returns the name without prefix and version: `pipelinerun.finished`.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.subject.to_ascii_lowercase(), self.predicate)
    }

    /// Returns the version of the type in a specification, if it has the type.
    pub(super) fn version(&self, spec: Spec) -> Option<&'static str> {
        Some(self.versions[spec as usize]).filter(|version| !version.is_empty())
    }

    /// Returns true for the types about tests, whose sources may be any text.
    pub(super) fn has_free_sources(&self) -> bool {
        self.subject.starts_with("test")
    }
}

/// Returns the event type of a specification with this full name: `dev.cdevents.service.deployed.0.3.0`.
pub(super) fn find(full_name: &str, spec: Spec, at: &str) -> Result<&'static EventType, NotUnderstood> {
    let invalid = |detail: String| NotUnderstood::new(at, detail);
    let parts: Vec<&str> = full_name.strip_prefix(PREFIX).unwrap_or_default().splitn(3, '.').collect();
    let [subject, predicate, version] = parts[..] else {
        return Err(invalid(format!("is not an event type of CDEvents; it starts with {PREFIX}")));
    };
    let is_named = |it: &&EventType| it.subject.to_ascii_lowercase() == subject && it.predicate == predicate;
    let known = TYPES.iter().find(is_named).and_then(|found| found.version(spec).map(|of| (found, of)));
    match known {
        Some((found, of)) if of == version => Ok(found),
        Some((found, of)) => {
            Err(invalid(format!("specification {spec} has {PREFIX}{}.{of}, not this version", found.name())))
        }
        None => Err(invalid(format!("is not an event type of specification {spec}"))),
    }
}

/// Returns the full name of an event type in a specification, if it has the type.
pub(super) fn full_name(name: &str, spec: Spec) -> Option<String> {
    let version = TYPES.iter().find(|it| it.name() == name)?.version(spec)?;
    Some(format!("{PREFIX}{name}.{version}"))
}

const SINCE_0_4: Spec = Spec::V0_4;
const SINCE_0_5: Spec = Spec::V0_5;
const UNTIL_0_4: Spec = Spec::V0_4;

const REFERENCE: Rule = Rule::Object(&[required("id", Rule::Text), optional("source", Rule::Reference)]);
const TEST_REFERENCE: Rule = Rule::Object(&[required("id", Rule::Text), optional("source", Rule::AnyText)]);

const ENVIRONMENT: Member = required("environment", REFERENCE);
const OPTIONAL_ENVIRONMENT: Member = optional("environment", REFERENCE);
const ARTIFACT_ID: Member = required("artifactId", Rule::Text);
const REPOSITORY: Member = optional("repository", REFERENCE);
const USER: Member = optional("user", Rule::Text);
const SBOM: Member = optional("sbom", Rule::Object(&[required("uri", Rule::Reference)])).since(SINCE_0_4);
const NAME: Member = optional("name", Rule::AnyText);
const REASON: Member = optional("reason", Rule::AnyText);
const OPTIONAL_URL: Member = optional("url", Rule::AnyText).until(UNTIL_0_4);
const OPTIONAL_URI: Member = optional("uri", Rule::Uri).since(SINCE_0_5);

const OUTCOMES: Rule = Rule::OneOf(&["success", "failure", "cancel", "error"]);
const OLD_OUTCOMES: Rule = Rule::OneOf(&["pass", "fail", "cancel", "error"]);
const TEST_OUTCOME: Member = required("outcome", OUTCOMES).since(SINCE_0_5);
const OLD_TEST_OUTCOME: Member = required("outcome", OLD_OUTCOMES).until(UNTIL_0_4);
const SEVERITY: Member = optional("severity", Rule::OneOf(&["low", "medium", "high", "critical"]));
const ERRORS: Member = optional("errors", Rule::AnyText);

const TRIGGER: Member = optional(
    "trigger",
    Rule::OpenObject(&[
        optional("type", Rule::OneOf(&["manual", "pipeline", "event", "schedule", "other"])),
        optional("uri", Rule::Uri),
    ]),
);
const TEST_SUITE_RUN: Member = optional("testSuiteRun", TEST_REFERENCE);
const TEST_SUITE: Member = optional(
    "testSuite",
    Rule::Object(&[
        required("id", Rule::Text),
        optional("version", Rule::AnyText),
        NAME,
        optional("uri", Rule::Uri),
    ]),
);
/// The test suite of a queued run, whose address was `url` at first.
const QUEUED_TEST_SUITE: Member = optional(
    "testSuite",
    Rule::Object(&[
        required("id", Rule::Text),
        optional("version", Rule::AnyText),
        NAME,
        optional("url", Rule::Uri).until(UNTIL_0_4),
        OPTIONAL_URI,
    ]),
);
const TEST_CASE_TYPES: Rule = Rule::OneOf(&[
    "performance",
    "functional",
    "unit",
    "security",
    "compliance",
    "integration",
    "e2e",
    "other",
]);
const TEST_CASE: Member = optional(
    "testCase",
    Rule::Object(&[
        required("id", Rule::Text),
        optional("version", Rule::AnyText),
        NAME,
        optional("type", TEST_CASE_TYPES),
        optional("uri", Rule::Uri),
    ]),
);

const APPROVAL_URLS: [Member; 2] =
    [required("approvalDetailsUrl", Rule::Text), required("resourceTargetUrl", Rule::Text)];
const RESPONDER: Member = required("responder", Rule::Uri);
const DECISION: Member = required(
    "decision",
    Rule::OneOf(&["escalated", "delegate", "deferred", "requestChanges", "approved", "rejected"]),
);
const APPROVAL_STATUS: Member =
    required("status", Rule::OneOf(&["approved", "rejected", "cancelled", "expired"]));

const INCIDENT: &[Member] = &[
    optional("description", Rule::AnyText),
    ENVIRONMENT,
    optional("service", REFERENCE),
    optional("artifactId", Rule::Text),
];
const REPORTED_INCIDENT: &[Member] = &[
    optional("description", Rule::AnyText),
    ENVIRONMENT,
    required("ticketURI", Rule::Uri),
    optional("service", REFERENCE),
    optional("artifactId", Rule::Text),
];
const CHANGE: &[Member] = &[REPOSITORY];
const CREATED_CHANGE: &[Member] = &[optional("description", Rule::Text).since(SINCE_0_4), REPOSITORY];
const DEPLOYED: &[Member] = &[ENVIRONMENT, ARTIFACT_ID];
const ENVIRONMENT_CONTENT: &[Member] = &[NAME, OPTIONAL_URL, OPTIONAL_URI];
const REPOSITORY_CONTENT: &[Member] = &[
    NAME,
    optional("owner", Rule::AnyText),
    OPTIONAL_URL,
    OPTIONAL_URI,
    optional("viewUrl", Rule::AnyText).until(UNTIL_0_4),
    optional("viewUrl", Rule::Uri).since(SINCE_0_5),
];
const CREATED_REPOSITORY: &[Member] = &[
    required("name", Rule::Text),
    optional("owner", Rule::AnyText),
    required("url", Rule::Text).until(UNTIL_0_4),
    required("uri", Rule::Uri).since(SINCE_0_5),
    optional("viewUrl", Rule::AnyText).until(UNTIL_0_4),
    optional("viewUrl", Rule::Uri).since(SINCE_0_5),
];
const PIPELINE_NAME: Member = optional("pipelineName", Rule::AnyText);
const TASK_RUN: &[Member] =
    &[optional("taskName", Rule::AnyText), OPTIONAL_URL, OPTIONAL_URI, optional("pipelineRun", REFERENCE)];
/// The outcome of a task was free text up to 0.5.1.
const FINISHED_TASK_RUN: &[Member] = &[
    optional("taskName", Rule::AnyText),
    OPTIONAL_URL,
    OPTIONAL_URI,
    optional("pipelineRun", REFERENCE),
    optional("outcome", Rule::AnyText).until(Spec::V0_5),
    optional("outcome", OUTCOMES).since(Spec::V0_6),
    ERRORS,
];
const TEST_CASE_RUN: &[Member] = &[TRIGGER, ENVIRONMENT, TEST_SUITE_RUN, TEST_CASE];
/// The members of a ticket that every ticket event has, and of which `created` requires two.
const TICKET: &[Member] = &[
    optional("summary", Rule::AnyText),
    optional("ticketType", Rule::AnyText),
    optional("group", Rule::AnyText),
    optional("creator", Rule::Text),
    optional("assignees", Rule::TextList),
    optional("priority", Rule::AnyText),
    optional("labels", Rule::TextList),
    optional("milestone", Rule::AnyText),
    required("uri", Rule::Reference),
    optional("updatedBy", Rule::AnyText),
];
const CREATED_TICKET: &[Member] = &[
    required("summary", Rule::AnyText),
    optional("ticketType", Rule::AnyText),
    optional("group", Rule::AnyText),
    required("creator", Rule::Text),
    optional("assignees", Rule::TextList),
    optional("priority", Rule::AnyText),
    optional("labels", Rule::TextList),
    optional("milestone", Rule::AnyText),
    required("uri", Rule::Reference),
];
const CLOSED_TICKET: &[Member] = &[
    optional("summary", Rule::AnyText),
    optional("ticketType", Rule::AnyText),
    optional("group", Rule::AnyText),
    optional("creator", Rule::Text),
    optional("assignees", Rule::TextList),
    optional("priority", Rule::AnyText),
    optional("labels", Rule::TextList),
    optional("milestone", Rule::AnyText),
    required("uri", Rule::Reference),
    required("resolution", Rule::Text),
    optional("updatedBy", Rule::AnyText),
];

/// The versions of most types that exist since 0.3.0.
const V1: [&str; 4] = ["0.1.1", "0.2.0", "0.3.0", "0.3.0"];
/// The versions of the types of version 0.1.0 in 0.3.0.
const V0: [&str; 4] = ["0.1.0", "0.2.0", "0.3.0", "0.3.0"];
/// The versions of the types of version 0.1.2 in 0.3.0.
const V2: [&str; 4] = ["0.1.2", "0.2.0", "0.3.0", "0.3.0"];
/// The versions of the types that exist since 0.4.1.
const NEW_IN_0_4: [&str; 4] = ["", "0.1.0", "0.2.0", "0.2.0"];
/// The versions of the types of the draft of 0.6.
const NEW_IN_0_6: [&str; 4] = ["", "", "", "0.1.0"];

const fn of(
    subject: &'static str,
    predicate: &'static str,
    versions: [&'static str; 4],
    content: &'static [Member],
) -> EventType {
    EventType { subject, predicate, versions, content }
}

/// Every event type of the four specifications.
pub(super) const TYPES: &[EventType] = &[
    of(
        "approval",
        "created",
        NEW_IN_0_6,
        &[APPROVAL_URLS[0], APPROVAL_URLS[1], required("requestor", Rule::Uri)],
    ),
    of("approval", "updated", NEW_IN_0_6, &[APPROVAL_URLS[0], APPROVAL_URLS[1], RESPONDER, DECISION]),
    of(
        "approval",
        "closed",
        NEW_IN_0_6,
        &[APPROVAL_URLS[0], APPROVAL_URLS[1], RESPONDER, DECISION, APPROVAL_STATUS],
    ),
    of("artifact", "packaged", V1, &[required("change", REFERENCE), SBOM]),
    of("artifact", "published", V1, &[SBOM, USER.since(SINCE_0_4)]),
    of("artifact", "signed", V0, &[required("signature", Rule::Text)]),
    of("artifact", "deleted", NEW_IN_0_4, &[USER]),
    of("artifact", "downloaded", NEW_IN_0_4, &[USER]),
    of("branch", "created", V2, CHANGE),
    of("branch", "deleted", V2, CHANGE),
    of("build", "queued", V1, &[]),
    of("build", "started", V1, &[]),
    of("build", "finished", V1, &[optional("artifactId", Rule::AnyText)]),
    of("change", "created", ["0.1.2", "0.3.0", "0.4.0", "0.4.0"], CREATED_CHANGE),
    of("change", "updated", V2, CHANGE),
    of("change", "reviewed", V2, CHANGE),
    of("change", "merged", V2, CHANGE),
    of("change", "abandoned", V2, CHANGE),
    of("environment", "created", V1, ENVIRONMENT_CONTENT),
    of("environment", "modified", V1, ENVIRONMENT_CONTENT),
    of("environment", "deleted", V1, &[NAME]),
    of("incident", "detected", V0, INCIDENT),
    of("incident", "reported", V0, REPORTED_INCIDENT),
    of("incident", "resolved", V0, INCIDENT),
    of("pipelineRun", "queued", V1, &[PIPELINE_NAME, OPTIONAL_URL, OPTIONAL_URI]),
    of(
        "pipelineRun",
        "started",
        V1,
        &[
            required("pipelineName", Rule::AnyText),
            required("url", Rule::AnyText).until(UNTIL_0_4),
            required("uri", Rule::Uri).since(SINCE_0_5),
        ],
    ),
    of(
        "pipelineRun",
        "finished",
        V1,
        &[
            PIPELINE_NAME,
            OPTIONAL_URL,
            OPTIONAL_URI,
            optional("outcome", Rule::AnyText).until(UNTIL_0_4),
            optional("outcome", OUTCOMES).since(SINCE_0_5),
            ERRORS,
        ],
    ),
    of("repository", "created", V1, CREATED_REPOSITORY),
    of("repository", "modified", V1, REPOSITORY_CONTENT),
    of("repository", "deleted", V1, REPOSITORY_CONTENT),
    of("service", "deployed", V1, DEPLOYED),
    of("service", "upgraded", V1, DEPLOYED),
    of("service", "rolledback", V1, DEPLOYED),
    of("service", "removed", V1, &[OPTIONAL_ENVIRONMENT]),
    of("service", "published", V1, &[OPTIONAL_ENVIRONMENT]),
    of("taskRun", "started", V1, TASK_RUN),
    of("taskRun", "finished", V1, FINISHED_TASK_RUN),
    of("testCaseRun", "queued", V0, TEST_CASE_RUN),
    of("testCaseRun", "started", V0, TEST_CASE_RUN),
    of(
        "testCaseRun",
        "finished",
        V0,
        &[OLD_TEST_OUTCOME, TEST_OUTCOME, SEVERITY, REASON, ENVIRONMENT, TEST_SUITE_RUN, TEST_CASE],
    ),
    of("testCaseRun", "skipped", NEW_IN_0_4, &[REASON, OPTIONAL_ENVIRONMENT, TEST_SUITE_RUN, TEST_CASE]),
    of("testSuiteRun", "queued", V0, &[TRIGGER, ENVIRONMENT, QUEUED_TEST_SUITE]),
    of("testSuiteRun", "started", V0, &[TRIGGER, ENVIRONMENT, TEST_SUITE]),
    of(
        "testSuiteRun",
        "finished",
        V0,
        &[ENVIRONMENT, TEST_SUITE, OLD_TEST_OUTCOME, TEST_OUTCOME, SEVERITY, REASON],
    ),
    of(
        "testOutput",
        "published",
        V0,
        &[
            required("outputType", Rule::OneOf(&["report", "video", "image", "log", "other"])),
            required("format", Rule::AnyText),
            optional("uri", Rule::Uri),
            optional("testCaseRun", TEST_REFERENCE),
        ],
    ),
    of("ticket", "created", NEW_IN_0_4, CREATED_TICKET),
    of("ticket", "updated", NEW_IN_0_4, TICKET),
    of("ticket", "closed", NEW_IN_0_4, CLOSED_TICKET),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_specification_has_its_number_of_types() {
        let count = |spec| TYPES.iter().filter(|it| it.version(spec).is_some()).count();
        assert_eq!(Spec::ALL.map(count), [39, 45, 45, 48]);
    }

    #[test]
    fn a_type_is_found_only_in_its_version() {
        let find = |name, spec| find(name, spec, "/context/type");
        assert!(find("dev.cdevents.service.deployed.0.1.1", Spec::V0_3).is_ok());
        assert!(find("dev.cdevents.pipelinerun.finished.0.3.0", Spec::V0_5).is_ok());
        let error = find("dev.cdevents.service.deployed.0.1.1", Spec::V0_5).expect_err("an old version");
        assert!(error.detail.contains("dev.cdevents.service.deployed.0.3.0"), "{error}");
        for name in
            ["", "dev.cdevents.", "dev.cdevents.service", "service.deployed.0.3.0", "dev.cdevents.a.b.0.1.0"]
        {
            assert!(find(name, Spec::V0_5).is_err(), "{name}");
        }
        assert!(find("dev.cdevents.pipelineRun.finished.0.3.0", Spec::V0_5).is_err());
    }
}
