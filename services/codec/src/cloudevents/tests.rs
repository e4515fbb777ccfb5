//! Tests of parsing and composing events: what is accepted, what is rejected, and round trips.

use super::*;
use crate::secrets::examples::examples;

const DEPLOY: &str = r#"{
    "specversion": "1.0", "id": "run-4711", "source": "https://ci.example/jobs/1",
    "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T14:00:00.1234567+02:00",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "data": {"environment": "production", "service": "search-api", "release": {"version": "v948"}}
}"#;

/// Returns the reason for rejecting [`DEPLOY`] with one text replaced by another.
fn rejection_with(from: &str, to: &str) -> Reason {
    let changed = DEPLOY.replace(from, to);
    assert_ne!(changed, DEPLOY, "the test changes the event");
    Envelope::parse(changed.as_bytes()).expect_err("a malformed event is rejected").reason
}

fn pointer(reason: Reason) -> String {
    match reason {
        Reason::Value { pointer, .. } => pointer,
        other => panic!("no pointer in {other:?}"),
    }
}

#[test]
fn parsing_keeps_all_attributes_and_makes_the_event_canonical() {
    let envelope = Envelope::parse(DEPLOY.as_bytes()).expect("an event");
    let text = std::str::from_utf8(envelope.bytes()).expect("UTF-8");
    assert!(text.starts_with(r#"{"data":{"environment":"production","release""#), "{text}");
    assert!(text.contains(r#""time":"2026-08-01T14:00:00.1234567+02:00","traceparent""#), "{text}");
    assert_eq!(envelope.occurred_at().to_rfc3339(), "2026-08-01T12:00:00.123456+00:00");
    let again = Envelope::parse(envelope.bytes()).expect("a stored event");
    assert_eq!(again, envelope);
}

#[test]
fn rule_27_binary_and_structured_mode_give_the_same_bytes() {
    let data = br#"{"environment":"production","service":"search-api","release":{"version":"v948"}}"#;
    let attributes = [
        ("specversion", "1.0"),
        ("id", "run-4711"),
        ("source", "https://ci.example/jobs/1"),
        ("type", "io.releaseledger.deploy.succeeded.v1"),
        ("time", "2026-08-01T14:00:00.1234567+02:00"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let structured = Envelope::parse(DEPLOY.as_bytes());
    for content_type in ["application/json", "application/json; charset=utf-8"] {
        let attributes = attributes.into_iter().chain([("datacontenttype", content_type)]);
        let binary = Envelope::from_parts(attributes.map(|(name, value)| (name, value.to_owned())), data);
        assert_eq!(binary, structured);
        assert_eq!(binary.map(|event| event.bytes().clone()), structured.clone().map(|e| e.bytes().clone()));
    }
}

/// Returns an event of a kind with this data.
fn event_json(kind: &str, data: &str) -> String {
    format!(
        r#"{{"specversion": "1.0", "id": "1", "source": "here", "time": "2026-08-01T12:00:00Z",
            "type": "io.releaseledger.{kind}.v1", "data": {data}}}"#
    )
}

fn rejection_of(kind: &str, data: &str) -> Reason {
    Envelope::parse(event_json(kind, data).as_bytes()).expect_err(data).reason
}

/// Parses an event with this data and composes it again; returns the composed data.
fn recomposed(kind: &str, data: &str) -> String {
    let read =
        Envelope::parse(event_json(kind, data).as_bytes()).unwrap_or_else(|error| panic!("{data}: {error}"));
    let composed = Envelope::compose(read.identity().clone(), read.occurred_at(), read.event().clone());
    let bytes = composed.expect("a small event").bytes().clone();
    let again = Envelope::stored(bytes.clone()).expect("a composed event is readable");
    assert_eq!(again.event(), read.event(), "{data}");
    let Json::Object(object) = Json::parse(&bytes).expect("JSON") else { panic!("an object") };
    let Some(Json::Object(data)) = object.get("data") else { panic!("an object") };
    String::from_utf8(data.canonical()).expect("UTF-8")
}

#[test]
fn composing_preserves_information_and_leaves_out_defaults() {
    let unchanged = [
        ("deploy.removed", r#"{"environment":"production","service":"web"}"#),
        ("deploy.removed", r#"{"environment":"production","service":"web","target":"default"}"#),
        (
            "deploy.removed",
            r#"{"corrects":{"id":"run-1","source":"ci"},"environment":"production","service":"web"}"#,
        ),
        ("validation.started", r#"{"artifact":"pkg:cargo/web@1","check":"scan","run":"scan-1"}"#),
        ("validation.passed", r#"{"check":"e2e","environment":"production","run":"e2e-1"}"#),
        ("validation.failed", r#"{"check":"e2e","environment":"production","run":"e2e-1","service":"web"}"#),
        ("environment.observed", r#"{"complete":true,"environment":"production","targets":["east","west"]}"#),
        ("rollback.started", r#"{"environment":"production","rollback_id":"r-1"}"#),
        (
            "rollback.started",
            r#"{"acknowledge":[{"service":"api","target":"east"},{"service":"web"}],"environment":"production","rollback_id":"r-1"}"#,
        ),
        (
            "approval.granted",
            r#"{"actor":{"name":"mira","type":"person"},"environment":"production","expires_at":"2026-08-02T12:00:00Z","rollback_id":"r-1"}"#,
        ),
        ("artifact.reinstated", r#"{"artifact":"pkg:cargo/web@1","reason":"A false alarm."}"#),
        (
            "environment.declared",
            r#"{"environment":"production","policy":{"automatic_rollback":{"at_most_a_day":2,"at_most_age_seconds":3600,"at_most_steps":3,"scope":"environment"},"promotion":{"from":["staging"],"targets":"any"}}}"#,
        ),
    ];
    for (kind, data) in unchanged {
        assert_eq!(recomposed(kind, data), data);
    }
    let policy = r#"{"environment": "production", "policy": {"automatic_rollback": {"at_most_a_day": 2,
        "scope": "service", "at_most_steps": 10, "at_most_age_seconds": 604800},
        "promotion": {"from": ["staging"], "targets": "all"}}}"#;
    assert_eq!(
        recomposed("environment.declared", policy),
        r#"{"environment":"production","policy":{"automatic_rollback":{"at_most_a_day":2},"promotion":{"from":["staging"]}}}"#
    );
    let start = r#"{"environment": "production", "rollback_id": "r-1",
        "acknowledge": [{"service": "web", "target": "default"}, {"service": "web"}]}"#;
    assert_eq!(
        recomposed("rollback.started", start),
        r#"{"acknowledge":[{"service":"web"}],"environment":"production","rollback_id":"r-1"}"#
    );
}

#[test]
fn a_lane_without_a_target_differs_from_the_default_target_but_has_the_same_subject() {
    let read = |data| Envelope::parse(event_json("deploy.removed", data).as_bytes()).expect("an event");
    let unnamed = read(r#"{"environment": "production", "service": "web"}"#);
    let named = read(r#"{"environment": "production", "service": "web", "target": "default"}"#);
    assert_ne!(unnamed.event(), named.event());
    for envelope in [unnamed, named] {
        let composed =
            Envelope::compose(envelope.identity().clone(), envelope.occurred_at(), envelope.event().clone());
        let composed = composed.expect("a small event");
        let text = std::str::from_utf8(composed.bytes()).expect("UTF-8");
        assert!(text.contains(r#""subject":"production/default/web""#), "{text}");
    }
}

#[test]
fn members_are_rejected_on_kinds_to_which_they_do_not_apply() {
    let place = |kind, data| pointer(rejection_of(kind, data));
    let corrects = r#""corrects": {"source": "ci", "id": "run-1"}"#;
    let marked = format!(
        r#"{{"environment": "production", "position": 3, "status": "bad", "reason": "x", {corrects}}}"#
    );
    assert_eq!(place("release_point.marked", &marked), "/data/corrects");
    let rejected = r#"{"environment": "production", "rollback_id": "r-1",
        "actor": {"type": "person", "name": "mira"}, "expires_at": "2026-08-02T12:00:00Z"}"#;
    assert_eq!(place("approval.rejected", rejected), "/data/expires_at");
    let ended = r#"{"environment": "production", "rollback_id": "r-1", "acknowledge": []}"#;
    assert_eq!(place("rollback.succeeded", ended), "/data/acknowledge");
    assert_eq!(place("artifact.reinstated", r#"{"artifact": "pkg:cargo/web@1"}"#), "/data/reason");
    let incomplete = r#"{"environment": "production", "service": "web", "corrects": {"source": "ci"}}"#;
    assert_eq!(place("deploy.removed", incomplete), "/data/corrects/id");
    let scope = r#"{"environment": "production",
        "policy": {"automatic_rollback": {"at_most_a_day": 2, "scope": "lane"}}}"#;
    assert_eq!(place("environment.declared", scope), "/data/policy/automatic_rollback/scope");
}

#[test]
fn rule_28_a_new_event_may_contain_format_characters_only_in_its_reason() {
    let deploy = |version: &str, reason: &str| {
        format!(
            r#"{{"environment": "production", "service": "web", "release": {{"version": "{version}"}},
                "links": [{{"rel": "ticket", "href": "T-1{version}"}}], "reason": "{reason}"}}"#
        )
    };
    let odd = event_json("deploy.succeeded", &deploy("v1\u{200b}", "Back\u{202e} to v1."));
    let place = |json: &str| {
        let invalid = Envelope::parse(json.as_bytes()).expect_err(json);
        assert!(invalid.to_string().contains("format character"), "{invalid}");
        pointer(invalid.reason)
    };
    assert_eq!(place(&odd), "/data/links/0/href");
    assert_eq!(place(&odd.replace("T-1v1\u{200b}", "T-1")), "/data/release/version");
    assert_eq!(place(&odd.replace(r#""id": "1""#, "\"id\": \"1\u{ad}\"")), "/id");
    assert_eq!(place(&odd.replace(r#""here""#, "\"he\u{feff}re\"")), "/source");
    assert!(
        Envelope::parse(event_json("deploy.succeeded", &deploy("v1", "Back\u{202e} to v1.")).as_bytes())
            .is_ok()
    );

    let policy = "{\"required_validations\": [\"smoke\", \"e\u{200d}2e\"]}";
    assert_eq!(parse_policy(policy.as_bytes()).map_err(pointer), Err("/required_validations/1".into()));

    let stored = Envelope::stored(Bytes::from(odd.clone().into_bytes())).expect("a stored entry");
    assert_eq!(stored.bytes(), odd.as_bytes());
    let compose = Envelope::compose(stored.identity().clone(), stored.occurred_at(), stored.event().clone());
    assert!(Envelope::stored(compose.expect("a small event").bytes().clone()).is_ok());
}

#[test]
fn the_lists_of_a_new_policy_that_are_looked_up_for_every_lane_have_a_bounded_length() {
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("\"n{number}\"")).collect();
        format!("[{}]", names.join(","))
    };
    let lists = [
        ("/required_validations", r#"{"required_validations": LIST}"#),
        ("/automatic_rollback/checks", r#"{"automatic_rollback": {"checks": LIST, "at_most_a_day": 1}}"#),
        ("/promotion/from", r#"{"promotion": {"from": LIST}}"#),
    ];
    for (place, policy) in lists {
        let (fits, long) = (policy.replace("LIST", &names(64)), policy.replace("LIST", &names(65)));
        assert!(parse_policy(fits.as_bytes()).is_ok(), "{place}");
        assert_eq!(parse_policy(long.as_bytes()).map_err(pointer), Err(place.into()));

        let declared = event_json(
            "environment.declared",
            &format!(r#"{{"environment": "production", "policy": {long}}}"#),
        );
        let invalid = Envelope::parse(declared.as_bytes()).expect_err("a long list");
        assert_eq!(pointer(invalid.reason), format!("/data/policy{place}"));
        assert!(
            Envelope::stored(Bytes::from(declared.into_bytes())).is_ok(),
            "a stored policy stays readable"
        );
    }
    let services = format!(r#"{{"dependencies": {{"checks": {}}}}}"#, names(65));
    assert!(parse_policy(services.as_bytes()).is_ok(), "a service may be named like a list");
}

/// A rollback to an old release can be reported, and an old event can be corrected.
#[test]
fn a_new_event_may_refer_to_recorded_values_that_later_rules_reject() {
    let step = event_json(
        "deploy.succeeded",
        "{\"environment\": \"production\", \"service\": \"web\", \"rollback_id\": \"r-1\",
            \"corrects\": {\"source\": \"ci\", \"id\": \"run\u{200b}\"},
            \"release\": {\"version\": \"v1\u{200b}\"}}",
    );
    assert!(Envelope::parse(step.as_bytes()).is_ok());
    let odd = step.replace("r-1", "r-1\u{200b}");
    assert_eq!(pointer(Envelope::parse(odd.as_bytes()).expect_err("odd").reason), "/data/rollback_id");
}

#[test]
fn rule_27_a_null_attribute_is_unset() {
    let given = Envelope::parse(DEPLOY.as_bytes()).expect("an event");
    let nulls = r#""subject": null, "datacontenttype": null, "comexampleextension": null, "data": {"#;
    let with_nulls = DEPLOY.replace(r#""data": {"#, nulls);
    assert_eq!(Envelope::parse(with_nulls.as_bytes()), Ok(given));
    assert_eq!(pointer(rejection_with(r#""run-4711""#, "null")), "/id");
    assert_eq!(pointer(rejection_with(r#""1.0""#, "null")), "/specversion");
    assert_eq!(
        pointer(rejection_with(r#""data": {"#, r#""Trace-Parent": null, "data": {"#)),
        "/Trace-Parent"
    );
    let null_data = rejection_with(r#""data": {"#, r#""data": null, "x": {"#);
    assert_eq!(null_data, Reason::value("/x", "must be a string, a boolean or an integer, not an object"));
    assert_eq!(pointer(rejection_of("deploy.removed", "null")), "/data");
}

#[test]
fn datacontenttype_is_always_written_in_one_form() {
    let form = r#""datacontenttype":"application/json","id""#;
    let given = Envelope::parse(DEPLOY.as_bytes()).expect("an event");
    assert!(String::from_utf8_lossy(given.bytes()).contains(form));
    for same in ["application/json", " application/json ; charset=utf-8", "Application/JSON;charset=UTF-8"] {
        let named = format!(r#""datacontenttype": "{same}", "data": {{"#);
        assert_eq!(Envelope::parse(DEPLOY.replace(r#""data": {"#, &named).as_bytes()), Ok(given.clone()));
    }
    for other in ["\"application/jsonp\"", "\"text/xml\"", "\"\"", "7"] {
        let named = format!(r#""datacontenttype": {other}, "data": {{"#);
        assert_eq!(pointer(rejection_with(r#""data": {"#, &named)), "/datacontenttype", "{other}");
    }
    let Json::Object(plain) = Json::parse(DEPLOY.as_bytes()).expect("JSON") else { panic!("an object") };
    assert_eq!(given.content_without_content_type(), plain.canonical());
}

#[test]
fn a_fault_is_reported_with_its_place() {
    assert_eq!(pointer(rejection_with(r#""id": "run-4711""#, r#""id": """#)), "/id");
    assert_eq!(pointer(rejection_with(r#""specversion": "1.0","#, "")), "/specversion");
    assert_eq!(pointer(rejection_with("2026-08-01T14:00:00.1234567+02:00", "yesterday")), "/time");
    assert_eq!(pointer(rejection_with("2026-08-01T14:00:00.1234567+02:00", "1969-12-31T23:59:59Z")), "/time");
    assert_eq!(pointer(rejection_with(r#""production""#, r#""pro duction""#)), "/data/environment");
    assert_eq!(pointer(rejection_with(r#""service": "search-api", "#, "")), "/data/service");
    assert_eq!(pointer(rejection_with(r#"{"version": "v948"}"#, r#""v948""#)), "/data/release");
    assert_eq!(pointer(rejection_with(r#""v948""#, r#""v948", "artefact": "x""#)), "/data/release/artefact");
    assert_eq!(pointer(rejection_with(r#""traceparent""#, r#""Trace-Parent""#)), "/Trace-Parent");
    assert_eq!(
        pointer(rejection_with(r#""data": {"#, r#""data_base64": "e30=", "data": {"#)),
        "/data_base64"
    );
    assert!(matches!(rejection_with("deploy.succeeded", "deploy.done"), Reason::UnknownType(_)));
    assert!(matches!(rejection_with(r#""data": {"#, r#""id": "x", "data": {"#), Reason::NotIJson(_)));
    assert!(matches!(rejection_with("}", ""), Reason::NotJson(_)));
}

#[test]
fn an_invalid_event_is_reported_with_its_id_and_source() {
    let unknown = DEPLOY.replace("deploy.succeeded", "deploy.done");
    let invalid = Envelope::parse(unknown.as_bytes()).expect_err("an unknown type is rejected");
    assert_eq!(invalid.id.as_deref(), Some("run-4711"));
    assert_eq!(invalid.source.as_deref(), Some("https://ci.example/jobs/1"));
}

#[test]
fn an_event_beyond_the_size_limit_is_rejected() {
    let filler = |bytes: usize| DEPLOY.replace("00-0af7651916cd43dd8448eb211c80319c", &"x".repeat(bytes));
    assert!(Envelope::parse(filler(MAX_EVENT_BYTES - 400).as_bytes()).is_ok());
    let error = Envelope::parse(filler(MAX_EVENT_BYTES).as_bytes()).expect_err("a large event is rejected");
    assert!(matches!(error.reason, Reason::TooLarge(_)));
}

#[test]
fn an_invalid_event_does_not_affect_the_rest_of_its_batch() {
    let batch = format!(r#"[{DEPLOY}, {{"id":1,"id":2}}, 7]"#);
    let batch = Bytes::from(batch);
    let events = Envelope::split_batch(&batch, 3).expect("a batch");
    let is_valid = |event: Bytes| Envelope::parse(&event).is_ok();
    assert_eq!(events.map(is_valid).collect::<Vec<_>>(), [true, false, false]);
    let object = Bytes::from_static(b"{}");
    assert!(matches!(Envelope::split_batch(&object, 3).err(), Some(BatchError::NotAnArray(_))));
    assert_eq!(Envelope::split_batch(&batch, 2).err(), Some(BatchError::TooMany(2)));
}

#[test]
fn a_leap_second_is_mapped_to_the_next_second_as_in_postgres() {
    let leap = DEPLOY.replace("2026-08-01T14:00:00.1234567+02:00", "2026-06-30T23:59:60Z");
    let envelope = Envelope::parse(leap.as_bytes()).expect("an event");
    assert_eq!(envelope.occurred_at().to_rfc3339(), "2026-07-01T00:00:00+00:00");
}

#[test]
fn a_new_event_has_no_leap_second_that_cannot_be_and_a_stored_one_may() {
    let noon = DEPLOY.replace("2026-08-01T14:00:00.1234567+02:00", "2026-06-30T12:00:60Z");
    assert_eq!(pointer(Envelope::parse(noon.as_bytes()).expect_err("noon").reason), "/time");
    assert!(Envelope::stored(noon.into()).is_ok());
    let until = r#"{"environment": "dev", "freeze_id": "f", "until": "2026-06-30T12:00:60Z"}"#;
    assert_eq!(pointer(rejection_of("freeze.started", until)), "/data/until");
}

#[test]
fn a_new_event_introduces_no_identifier_that_no_url_can_name() {
    let introduced = [
        (
            "rollback.requested",
            "rollback_id",
            r#"{"environment": "dev", "rollback_id": "ID", "to": 1, "reason": "x",
                "plan": {"from": 2, "steps": []}, "plan_digest": "DIGEST",
                "initiated_by": {"type": "person", "name": "ada"}}"#,
        ),
        ("freeze.started", "freeze_id", r#"{"environment": "dev", "freeze_id": "ID"}"#),
        (
            "release_point.marked",
            "name",
            r#"{"environment": "dev", "position": 1, "status": "bad", "name": "ID", "reason": "x"}"#,
        ),
        ("validation.started", "check", r#"{"environment": "dev", "check": "ID"}"#),
        ("validation.passed", "check", r#"{"environment": "dev", "check": "ID"}"#),
        ("validation.failed", "check", r#"{"environment": "dev", "check": "ID"}"#),
    ];
    for (kind, member, data) in introduced {
        let data = |id: &str| data.replace("ID", id).replace("DIGEST", &format!("sha256:{}", "0".repeat(64)));
        for reserved in ["stream", ".", ".."] {
            let reason = rejection_of(kind, &data(reserved));
            assert!(reason.to_string().contains("is reserved"), "{kind}: {reason}");
            assert_eq!(pointer(reason), format!("/data/{member}"));
            assert!(Envelope::stored(event_json(kind, &data(reserved)).into()).is_ok(), "{kind}");
        }
        assert!(Envelope::parse(event_json(kind, &data("r-1")).as_bytes()).is_ok(), "{kind}");
    }
    // What was recorded before can still be ended.
    let cancelled = event_json("rollback.cancelled", r#"{"environment": "dev", "rollback_id": "stream"}"#);
    assert!(Envelope::parse(cancelled.as_bytes()).is_ok());
    let lifted = event_json("freeze.lifted", r#"{"environment": "dev", "freeze_id": ".."}"#);
    assert!(Envelope::parse(lifted.as_bytes()).is_ok());
}

#[test]
fn a_composed_event_is_parsed_unchanged_at_any_clock_precision() {
    let read = Envelope::parse(DEPLOY.as_bytes()).expect("an event");
    let nanoseconds = read.occurred_at() + chrono::TimeDelta::nanoseconds(241);
    let composed = Envelope::compose(read.identity().clone(), nanoseconds, read.event().clone());
    let composed = composed.expect("a small event");
    assert_eq!(composed.occurred_at(), read.occurred_at());
    assert_eq!(Envelope::parse(composed.bytes()).expect("an event"), composed);
}

#[test]
fn a_new_event_has_no_secrets_and_a_stored_one_may() {
    for (kind, secret) in examples() {
        let text = serde_json::to_string(&secret).expect("a text");
        let places = [
            (
                "/data/reason",
                event_json("artifact.revoked", &format!(r#"{{"artifact":"pkg:a/b@1","reason":{text}}}"#)),
            ),
            ("/data/release/version", DEPLOY.replace("\"v948\"", &text)),
            ("/id", DEPLOY.replace("\"run-4711\"", &text)),
            ("/type", DEPLOY.replace("\"io.releaseledger.deploy.succeeded.v1\"", &text)),
            (
                "/traceparent",
                DEPLOY.replace("\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"", &text),
            ),
            ("/data/release", DEPLOY.replace("\"version\"", &text)),
            ("", DEPLOY.replace("\"traceparent\"", &text)),
            ("", DEPLOY.replace("\"data\"", &format!("{text}: 1, {text}: 2, \"data\""))),
        ];
        for (pointer, event) in places {
            let rejected = Envelope::parse(event.as_bytes()).expect_err(&event);
            let Reason::Value { pointer: at, detail } = &rejected.reason else { panic!("{rejected:?}") };
            assert_eq!(at, pointer, "{event}");
            assert!(detail.starts_with(&format!("contains {kind}; ")), "{detail}");
            let shown = format!("{rejected:?} {rejected}");
            assert!(!shown.contains(&secret) && !shown.contains(text.trim_matches('"')), "{shown}");
        }
    }
    let secret = &examples()[4].1;
    let stored =
        event_json("artifact.revoked", &format!(r#"{{"artifact":"pkg:a/b@1","reason":"{secret}"}}"#));
    assert!(Envelope::stored(stored.into_bytes().into()).is_ok());
}

#[test]
fn secrets_are_rejected_in_binary_mode_and_in_a_batch() {
    let secret = &examples()[4].1;
    let attributes = |id: &str| {
        let attributes = [
            ("specversion", "1.0"),
            ("id", id),
            ("source", "ci"),
            ("type", "io.releaseledger.artifact.revoked.v1"),
            ("time", "2026-08-01T14:00:00Z"),
        ];
        attributes.map(|(name, value)| (name, value.to_owned()))
    };
    let data = format!(r#"{{"artifact":"pkg:a/b@1","reason":"{secret}"}}"#);
    let broken = format!(r#"{{"{secret}":1,"{secret}":2}}"#);

    let in_data = Envelope::from_parts(attributes("1"), data.as_bytes()).expect_err("a secret");
    let in_id = Envelope::from_parts(attributes(secret), b"{}").expect_err("a secret");
    let in_a_key = Envelope::from_parts(attributes(secret), broken.as_bytes()).expect_err("a secret");
    let batch = format!("[{}, {DEPLOY}]", event_json("artifact.revoked", &data));
    let batch = Bytes::from(batch);
    let batch = Envelope::split_batch(&batch, 10).expect("a batch");
    let batch: Vec<_> = batch.map(|event| Envelope::parse(&event)).collect();

    assert_eq!((pointer(in_data.reason), in_data.id.as_deref()), ("/data/reason".to_owned(), Some("1")));
    assert_eq!((pointer(in_id.reason), in_id.id), ("/id".to_owned(), None));
    assert_eq!((pointer(in_a_key.reason), in_a_key.id), (String::new(), None));
    assert_eq!(batch.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_request_is_checked_like_an_event() {
    let secret = &examples()[4].1;
    let request = format!(r#"{{"to":"-1","reason":"because","initiated_by":{{"name":"x {secret}"}}}}"#);

    assert_eq!(check_secrets(request.as_bytes()).map_err(pointer), Err("/initiated_by/name".to_owned()));
    assert_eq!(check_secrets(br#"{"to":"-1","reason":"because"}"#), Ok(()));
}

fn deploy() -> Envelope {
    Envelope::parse(DEPLOY.as_bytes()).expect("an event")
}

fn origin(bytes: impl AsRef<[u8]>) -> Origin {
    Origin::new(ledger_domain::ShortText::parse("hook:github").expect("a text"), bytes.as_ref())
}

#[test]
fn the_message_from_which_an_event_was_translated_is_kept_in_it() {
    let message = br#"{"action":"created", "deployment":null}"#;
    let translated = deploy().translated_from(&origin(&message[..])).expect("it fits");
    let stored = Envelope::stored(translated.bytes().clone()).expect("a stored event");
    let kept = stored.origin().expect("an origin");
    assert_eq!((kept.format.as_str(), kept.bytes.as_deref()), ("hook:github", Some(&message[..])));
    assert_eq!(kept.sha256.len(), 64);
    assert_eq!(deploy().origin(), None);
}

#[test]
fn a_message_that_does_not_fit_is_represented_by_its_digest() {
    // It cannot be compressed.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let message: Vec<u8> = (0..60_000).map(|_| next()).collect();
    let translated = deploy().translated_from(&origin(message)).expect("it fits");
    let kept = translated.origin().expect("an origin");
    assert_eq!((kept.bytes, kept.sha256.len()), (None, 64));
    let digest_only = deploy().translated_from(&origin("x").without_bytes()).expect("it fits");
    assert_eq!(digest_only.origin().map(|kept| (kept.bytes, kept.sha256.len())), Some((None, 64)));
}

#[test]
fn the_content_of_an_event_has_neither_its_origin_nor_its_sender() {
    let deploy = deploy();
    let translated = deploy.clone().translated_from(&origin("x")).expect("it fits");
    assert_eq!(translated.content(), deploy.bytes());
    assert_eq!(content_of(translated.bytes()), deploy.bytes());
    let stored = Envelope::stored(translated.bytes().clone()).expect("a stored event");
    assert_eq!(stored.content(), deploy.bytes());
}

#[test]
fn an_event_without_a_time_of_its_own_is_equal_when_it_arrives_again() {
    let arrived = |time: &str| {
        let mut event: serde_json::Value = serde_json::from_str(DEPLOY).expect("JSON");
        event["time"] = time.into();
        event[TIME_OF_ARRIVAL] = true.into();
        let envelope = Envelope::translated(event.to_string().as_bytes()).expect("an event");
        envelope.translated_from(&origin("x")).expect("it fits")
    };
    let (first, second) = (arrived("2026-08-01T12:00:00Z"), arrived("2026-08-01T12:00:01Z"));
    assert_ne!(first.occurred_at(), second.occurred_at());
    assert_ne!(first.bytes(), second.bytes());
    assert_eq!(first.content(), second.content());
    assert_eq!(&content_of(first.bytes()), second.content());
    let stored = Envelope::stored(first.bytes().clone()).expect("a stored event");
    assert_eq!(stored.content(), second.content());
}

#[test]
fn no_client_may_state_that_a_time_is_that_of_its_arrival() {
    let reason = rejection_with(r#""specversion""#, r#""ledgertimeofarrival": true, "specversion""#);
    assert_eq!(pointer(reason), "/ledgertimeofarrival");
}

#[test]
fn no_client_may_state_an_origin() {
    let reason = rejection_with(r#""specversion""#, r#""ledgerformat": "x", "specversion""#);
    assert_eq!(pointer(reason), "/ledgerformat");
}
