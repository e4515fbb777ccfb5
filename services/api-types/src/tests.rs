//! The wire form of the bodies, and what a client tolerates.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::PartialSchema;

use super::*;

const EVENT: &str = r#"{"position":3,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}"#;
const ACTOR: &str = r#"{"type":"person","name":"ada"}"#;
const STEP: &str = r#""wave":1,"service":"web","target":"eu","action":"redeploy","slot":"blue","from":{"version":"v2"},"to":{"version":"v1"}"#;

/// Asserts that a body is parsed and written as exactly this text.
#[track_caller]
fn is_the_wire_form_of<T: Serialize + DeserializeOwned>(json: &str) {
    let body: T = serde_json::from_str(json).expect("a body");
    assert_eq!(serde_json::to_string(&body).expect("JSON"), json);
}

fn parsed<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Returns the JSON with a member added to every object, as a later version of the service may send it.
fn with_unknown_members(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(with_unknown_members);
            members.insert("of_a_later_version".into(), Value::Bool(true));
        }
        Value::Array(values) => values.iter_mut().for_each(with_unknown_members),
        _ => {}
    }
}

fn point() -> String {
    format!(
        r#"{{"number":7,"position":41,"occurred_at":"2026-08-01T10:00:00Z","event_id":"e","changed":[{{"service":"web","target":"eu"}}],"until":"2026-08-01T11:00:00.250Z","digest":"sha256:aa","lanes":3,"status":"known_good","reasons":[{{"reason":"failed","detail":"smoke failed","service":"web","target":"eu","check":"smoke","position":44,"counts":{{"passed":1,"failed":2,"skipped":3}}}}],"reason_count":1,"mark":{{"position":44,"status":"known_good","name":"n","actor":{ACTOR},"reason":"tried"}}}}"#
    )
}

fn plan() -> String {
    format!(
        r#"{{"environment":"production","position":9,"environment_position":8,"to":{{"position":3,"source":"staging","at":"2026-08-01T10:00:00Z","status":"known_good","point":{}}},"policy":2,"plan_digest":"sha256:aa","steps":[{{{STEP}}}],"result_digest":"sha256:bb","issues":[{{"kind":"freeze","severity":"warning","detail":"a freeze holds","position":7}}],"issue_count":1,"blocked":false}}"#,
        point()
    )
}

fn rollback() -> String {
    format!(
        r#"{{"rollback_id":"r-1","environment":"production","position":20,"phase":"started","automatic":false,"force":true,"initiated_by":{ACTOR},"reason":"checkout fails","requested":{{"position":9,"recorded_at":"2026-08-01T10:00:00.123456Z"}},"started":11,"ended":15,"end_reason":"done","to":3,"at":"2026-08-01T10:00:00Z","source":"staging","services":["web"],"targets":["eu"],"policy":2,"cause":5,"cause_counts":{{"passed":1,"failed":2,"skipped":3}},"plan_digest":"sha256:aa","approvals":{{"wanted":1,"granted":1,"rejected":false,"answers":[{{"actor":{ACTOR},"granted":true,"position":10}}]}},"progress":{{"done":1,"failed":0,"total":2}},"steps":[{{{STEP},"state":"done","position":13,"not_before":"2026-08-01T10:00:00Z"}}],"differences":["web at eu runs nothing"],"others":[{{"position":12,"occurred_at":"2026-08-01T10:01:00Z","type":"deploy.succeeded","service":"blog","target":"eu"}}]}}"#
    )
}

fn problem() -> String {
    format!(
        r#"{{"type":"urn:release-ledger:problem:plan-changed","title":"Plan changed","status":409,"detail":"now another","errors":[{{"pointer":"/to","detail":"x"}},{{"parameter":"at","detail":"y"}}],"position":9,"plan":{}}}"#,
        plan()
    )
}

fn lane(slot: &str) -> String {
    format!(r#"{{"service":"web","target":"eu",{slot}"release":{{"version":"v1"}},"since":{EVENT}}}"#)
}

#[test]
fn every_member_keeps_its_name_and_its_place() {
    is_the_wire_form_of::<ReleaseBody>(
        r#"{"version":"v1","artifact":"pkg:oci/web@1","config":"sha256:c","infrastructure":"i","commit":"3f2a"}"#,
    );
    is_the_wire_form_of::<PositionBody>(r#"{"position":7,"head":9,"root":"ab"}"#);
    is_the_wire_form_of::<PlanBody>(&plan());
    is_the_wire_form_of::<RollbackBody>(&rollback());
    is_the_wire_form_of::<ProblemBody>(&problem());
    is_the_wire_form_of::<PointsBody>(&format!(
        r#"{{"environment":"dev","position":50,"points":[{}],"next":41}}"#,
        point()
    ));
    is_the_wire_form_of::<StateBody>(&format!(
        r#"{{"environment":"dev","position":12,"at":"latest","digest":"sha256:ab","lanes":[{}],"idle":[{}],"switches_without_effect":[{{"service":"web","target":"eu","slot":"green","since":{EVENT}}}],"hidden_reports":[{{"service":"web","target":"eu","position":4}}]}}"#,
        lane(""),
        lane(r#""slot":"blue","#)
    ));
    is_the_wire_form_of::<GateBody>(
        r#"{"environment":"dev","position":9,"policy":3,"allowed":false,"release":{"version":"v2"},"artifact_known_from":4,"findings":[{"rule":"approvals","target":"eu","passes":false,"unknown":true,"detail":"1 of 2","position":4,"counts":{"passed":1,"failed":2,"skipped":3},"grants":[7]}]}"#,
    );
    is_the_wire_form_of::<FailureEvidenceBody>(
        r#"{"check":"smoke","position":5,"counts":{"passed":1,"failed":2,"skipped":3}}"#,
    );
    is_the_wire_form_of::<EntryBody>(
        r#"{"position":3,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a","repeats":2,"anomalies":["late"],"new":["service"],"went_live":"v1","target":"eu","targets":["eu"],"returns_to":1,"corrected_by":4,"clock_ahead_ms":5,"event":{"data" : 1.0}}"#,
    );
}

#[test]
fn an_absent_value_is_left_out_and_not_null_except_for_the_identity_of_a_result() {
    is_the_wire_form_of::<ReleaseBody>(r#"{"version":"v1"}"#);
    is_the_wire_form_of::<EnvironmentBody>(r#"{"name":"dev","first_position":1,"changes":2}"#);
    is_the_wire_form_of::<EntryBody>(
        r#"{"position":3,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a","event":{}}"#,
    );
    is_the_wire_form_of::<FindingBody>(r#"{"rule":"freeze","passes":true,"detail":"no freeze is active"}"#);
    is_the_wire_form_of::<FailureEvidenceBody>(r#"{"rollback_id":"r-1","position":5}"#);
    let result = EventResult {
        id: None,
        source: None,
        status: EventStatus::Recorded,
        position: Some(1),
        problem: None,
        quarantine_id: None,
        count: None,
        annotations: AnnotationsBody::default(),
    };
    let json = serde_json::to_string(&result).expect("JSON");
    assert_eq!(json, r#"{"id":null,"source":null,"status":"recorded","position":1}"#);
    is_the_wire_form_of::<EventResult>(
        r#"{"id":"1","source":"s","status":"recorded","position":1,"anomalies":[],"new":[]}"#,
    );
}

#[test]
fn a_request_leaves_out_its_optional_members_and_sends_its_lists_even_if_empty() {
    is_the_wire_form_of::<RollbackRequest>(r#"{"to":"-1","services":[],"targets":[]}"#);
    is_the_wire_form_of::<GateRequest>(r#"{"service":"web","release":{"version":"v1"}}"#);
    is_the_wire_form_of::<BacktestRequest>(r#"{"environment":"dev","policy":{"approvals" : 1}}"#);
}

#[test]
fn a_request_with_an_unknown_member_is_rejected_at_every_depth() {
    let rollback = |member: &str| parsed::<RollbackRequest>(&format!(r#"{{"to":"-1",{member}}}"#));
    let gate = |member: &str| {
        parsed::<GateRequest>(&format!(r#"{{"service":"web","release":{{"version":"v1"}},{member}}}"#))
    };
    let actor = r#"{"type":"person","name":"ada","role":"dev"}"#;
    let errors = [
        rollback(r#""too":1"#).map(drop),
        rollback(&format!(r#""initiated_by":{actor}"#)).map(drop),
        gate(r#""too":1"#).map(drop),
        gate(&format!(r#""requester":{actor}"#)).map(drop),
        parsed::<GateRequest>(r#"{"service":"web","release":{"version":"v1","tag":"x"}}"#).map(drop),
        parsed::<BacktestRequest>(r#"{"environment":"dev","policy":{},"too":1}"#).map(drop),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        let error = error.expect_err("an unknown member");
        assert!(error.starts_with("unknown field `"), "{number}: {error}");
    }
    assert!(rollback(&format!(r#""initiated_by":{ACTOR}"#)).is_ok());
}

#[test]
fn a_response_with_unknown_members_is_accepted_at_every_depth() {
    let mut bodies = [rollback(), problem(), lane(r#""slot":"blue","#)].map(|json| {
        let mut body: Value = serde_json::from_str(&json).expect("JSON");
        with_unknown_members(&mut body);
        body.to_string()
    });
    let [rollback, problem, lane] = &mut bodies;
    assert_eq!(parsed::<RollbackBody>(rollback).map(|rollback| rollback.initiated_by.name), Ok("ada".into()));
    assert_eq!(parsed::<ProblemBody>(problem).map(|problem| problem.errors.len()), Ok(2));
    assert_eq!(parsed::<LaneBody>(lane).map(|lane| lane.release.version), Ok("v1".into()));
}

#[test]
fn a_missing_list_is_empty_and_a_missing_flag_is_false() {
    let rollback: RollbackBody = parsed(
        r#"{"rollback_id":"r-1","environment":"dev","position":9,"phase":"started",
            "initiated_by":{"type":"person","name":"ada"},
            "requested":{"position":9,"recorded_at":"2026-08-01T10:00:00Z"},"to":1,"plan_digest":"sha256:aa",
            "approvals":{"wanted":0,"granted":0},"progress":{"done":0,"failed":0,"total":1}}"#,
    )
    .expect("a rollback");
    assert!(!rollback.automatic && !rollback.force && !rollback.approvals.rejected);
    assert!(rollback.steps.is_none() && rollback.services.is_empty() && rollback.reason.is_none());

    let drift = parsed::<DriftBody>(r#"{"environment":"dev","position":9,"observed_lanes":0,"drift":[]}"#);
    assert!(drift.expect("a drift").unobserved.is_empty());
    let horizon =
        parsed::<HorizonBody>(r#"{"environment":"dev","position":9,"window_seconds":3600,"points":[]}"#);
    let horizon = horizon.expect("a horizon");
    assert!(!horizon.cut && horizon.needed.is_empty() && horizon.without_artifact.is_empty());
}

#[test]
fn a_result_may_lack_its_annotations_and_a_malformed_one_is_an_error() {
    let annotations = |members: &str| {
        let result = parsed::<EventResult>(&format!(r#"{{"status":"recorded","position":1{members}}}"#));
        result.map(|result| result.annotations)
    };
    let none = annotations("").expect("a result");
    assert!(none.anomalies.is_none() && none.new.is_none() && none.went_live.is_none());
    assert!(none.targets.is_empty() && none.runs_at.is_none());
    let some = annotations(r#","anomalies":["late"],"went_live":"v1""#).expect("a result");
    assert_eq!((some.anomalies, some.went_live), (Some(vec!["late".into()]), Some("v1".into())));
    assert!(some.new.is_none());

    for malformed in
        [r#""anomalies":"late""#, r#""new":{}"#, r#""went_live":1"#, r#""runs_at":[{"live":"yes"}]"#]
    {
        assert!(annotations(&format!(",{malformed}")).is_err(), "{malformed}");
    }
}

#[test]
fn a_problem_requires_no_member_and_an_unreadable_one_counts_as_absent() {
    let problem = parsed::<ProblemBody>(r#"{"title":"Not found"}"#).expect("a problem");
    assert_eq!((problem.title.as_str(), problem.status, problem.slug()), ("Not found", 0, None));

    let json = r#"{"type":"urn:release-ledger:problem:plan-changed","title":[],"status":"409","detail":{"a":1},
        "errors":[{"pointer":"/to"},7],"position":-1,"plan":{"steps":"later","position":1e999}}"#;
    let problem = parsed::<ProblemBody>(json).expect("a problem");
    assert_eq!(problem.slug(), Some("plan-changed"));
    assert!(problem.title.is_empty() && problem.detail.is_empty() && problem.errors.is_empty());
    assert!(problem.status == 0 && problem.position.is_none() && problem.plan.is_none());

    let result = format!(r#"{{"status":"rejected","problem":{json}}}"#);
    let problem = parsed::<EventResult>(&result).expect("a result").problem.expect("a problem");
    assert_eq!(problem.slug(), Some("plan-changed"));
}

/// Asserts that a response with these members is accepted, and that each of them is required.
#[track_caller]
fn requires_exactly<T: DeserializeOwned>(json: &str) {
    let members: serde_json::Map<String, Value> = serde_json::from_str(json).expect("a JSON object");
    let accepted = |members| serde_json::from_value::<T>(Value::Object(members)).map(drop);
    assert!(accepted(members.clone()).is_ok(), "{json}: {:?}", accepted(members));
    for name in members.keys() {
        let mut others = members.clone();
        others.remove(name);
        assert!(accepted(others).is_err(), "{name} is not required");
    }
}

#[test]
fn a_client_requires_only_the_members_that_a_command_reads() {
    const TIME: &str = "2026-08-01T12:00:00Z";
    requires_exactly::<ActorBody>(r#"{"name":"ada"}"#);
    requires_exactly::<ReleaseBody>(r#"{"version":"v1"}"#);
    requires_exactly::<PositionBody>(r#"{"position":7,"head":9,"root":"ab"}"#);
    requires_exactly::<EventRefBody>(&format!(r#"{{"position":3,"occurred_at":"{TIME}"}}"#));
    requires_exactly::<EntryRefBody>(&format!(r#"{{"position":3,"recorded_at":"{TIME}"}}"#));
    requires_exactly::<EntryBody<Value>>(&format!(r#"{{"position":3,"recorded_at":"{TIME}","event":{{}}}}"#));
    requires_exactly::<EventsBody>(r#"{"events":[]}"#);
    requires_exactly::<EventResult>(r#"{"status":"recorded"}"#);
    requires_exactly::<RunsAtBody>("{}");
    requires_exactly::<GateBody>(r#"{"environment":"dev","position":9,"allowed":false,"findings":[]}"#);
    requires_exactly::<FindingBody>(r#"{"rule":"freeze","passes":true,"detail":"no freeze is active"}"#);
    requires_exactly::<HorizonBody>(r#"{"environment":"dev","position":9,"points":[]}"#);
    requires_exactly::<HorizonPointBody>(&format!(
        r#"{{"number":1,"position":9,"occurred_at":"{TIME}","possible":true,"by_force":true}}"#
    ));
    requires_exactly::<RetainedArtifactBody>(r#"{"artifact":"a","services":[],"points":2}"#);
    requires_exactly::<StateBody>(
        r#"{"environment":"dev","position":12,"at":"latest","digest":"sha256:ab","lanes":[]}"#,
    );
    requires_exactly::<SwitchBody>("{}");
    requires_exactly::<HiddenReportBody>("{}");
    requires_exactly::<SideBody>(r#"{"environment":"dev","position":1,"at":"1"}"#);
    requires_exactly::<DriftBody>(r#"{"environment":"dev","position":9,"observed_lanes":0,"drift":[]}"#);
    requires_exactly::<PolicyBody>(r#"{"environment":"dev","policy":{}}"#);
    requires_exactly::<PointsBody>(r#"{"points":[]}"#);
    requires_exactly::<PointBody>(&format!(
        r#"{{"position":9,"occurred_at":"{TIME}","changed":[],"digest":"sha256:aa","lanes":3,"status":"bad"}}"#
    ));
    requires_exactly::<PointDetailBody>(&format!(
        r#"{{"environment":"dev","point":{{"position":9,"occurred_at":"{TIME}","changed":[],
            "digest":"sha256:aa","lanes":3,"status":"bad"}}}}"#
    ));
    requires_exactly::<ReasonBody>(r#"{"detail":"smoke failed"}"#);
    requires_exactly::<MarkBody>(r#"{"position":44,"status":"bad"}"#);
    requires_exactly::<PlanBody>(
        r#"{"environment":"dev","environment_position":8,"to":{"position":3,"status":"bad"},
            "plan_digest":"sha256:aa","steps":[],"result_digest":"sha256:bb"}"#,
    );
    requires_exactly::<RequestedRollbackBody>(r#"{"position":9,"status":"recorded"}"#);
    requires_exactly::<RollbackBody>(&format!(
        r#"{{"rollback_id":"r-1","environment":"dev","position":9,"phase":"started","initiated_by":{{"name":"ada"}},
            "requested":{{"position":9,"recorded_at":"{TIME}"}},"to":1,"plan_digest":"sha256:aa",
            "approvals":{{"wanted":0,"granted":0}},"progress":{{"done":0,"failed":0,"total":1}}}}"#
    ));
    requires_exactly::<VoteBody>("{}");
    requires_exactly::<StepStateBody>(
        r#"{"wave":1,"service":"web","target":"eu","action":"add","state":"pending"}"#,
    );
    requires_exactly::<ConcurrentChangeBody>(r#"{"position":12,"type":"deploy.succeeded"}"#);
    requires_exactly::<EvaluatedDeployBody>(
        r#"{"position":4,"service":"web","target":"eu","version":"v2","findings":[]}"#,
    );
}

#[test]
fn an_unknown_word_is_kept_unless_the_client_must_decide_by_it() {
    let change = parsed::<DifferenceBody>(r#"{"service":"web","target":"eu","change":"renamed"}"#);
    assert_eq!(change.map(|difference| difference.change), Ok("renamed".into()));
    let severity = parsed::<PlanIssueBody>(r#"{"kind":"quota","severity":"advice","detail":"x"}"#);
    assert_eq!(severity.map(|issue| issue.severity), Ok("advice".into()));

    let status = parsed::<EventResult>(r#"{"status":"postponed"}"#).expect_err("an unknown status");
    assert!(status.starts_with("unknown variant `postponed`"), "{status}");
    let phase = rollback().replace(r#""phase":"started""#, r#""phase":"paused""#);
    let phase = parsed::<RollbackBody>(&phase).expect_err("an unknown phase");
    assert!(phase.starts_with("unknown rollback phase paused"), "{phase}");
}

#[test]
fn a_reader_of_entries_chooses_the_members_of_the_event() {
    #[derive(serde::Deserialize)]
    struct Event {
        source: String,
    }
    let json = r#"{"position":3,"events":[{"position":3,"recorded_at":"2026-08-01T12:00:01Z","leaf_hash":"a",
        "event":{"source":"s","id":"i"}}],"next":3}"#;
    let page: EventsBody<Event> = parsed(json).expect("a page");
    assert_eq!(page.events[0].event.source, "s");
}

#[test]
fn the_words_of_a_difference_are_those_of_its_schema() {
    let schema = serde_json::to_value(LaneChange::schema()).expect("JSON");
    let words = [LaneChange::Added, LaneChange::Removed, LaneChange::Changed].map(LaneChange::name);
    assert_eq!(schema["enum"], serde_json::json!(words));
}

#[test]
fn subscriptions_have_these_members() {
    is_the_wire_form_of::<SubscriptionBody>(
        r#"{"subscription":"chat","url":"https://hooks.example/","secret":"chat","filter":{"environment":"production","service":"web","types":["deploy.succeeded"]},"created_position":3,"settings_position":5,"disabled":{"position":9,"reason":"the receiver answered 410"},"delivery":{"delivered_position":7,"pending":{"position":8,"recorded_at":"2026-08-01T11:59:00Z"},"failures":2,"failing_since":"2026-08-01T12:00:00Z","next_attempt_at":"2026-08-01T12:00:05Z","last_attempt":{"position":8,"attempted_at":"2026-08-01T12:00:03Z","duration_ms":12,"status":410,"error":"gone"}}}"#,
    );
    is_the_wire_form_of::<AttemptsBody>(r#"{"deliveries":[]}"#);
    let older = r#"{"position":4,"subscriptions":[{"subscription":"chat","url":"https://hooks.example/"}]}"#;
    assert!(parsed::<SubscriptionsBody>(older).is_ok());
}

#[test]
fn a_deploy_frequency_has_dates_without_times() {
    is_the_wire_form_of::<DeployFrequencyBody>(
        r#"{"position":9,"by":"week","since":"2025-12-01T00:00:00Z","until":"2026-01-05T00:00:00Z","counts":[{"period":"2025-12-29","environment":"production","service":"web","deploys":3,"failed":1,"rollback_steps":2}],"restricted":true}"#,
    );
    requires_exactly::<DeployCountBody>(
        r#"{"period":"2025-12-29","environment":"production","service":"web","deploys":3,"failed":1,"rollback_steps":2}"#,
    );
}
