//! What is accepted, what is refused and why, and that the two directions agree.

use super::*;

const DEPLOY: &str = r#"{
    "specversion": "1.0", "id": "run-4711", "source": "https://ci.example/jobs/1",
    "type": "io.releaseledger.deploy.succeeded.v1", "time": "2026-08-01T14:00:00.1234567+02:00",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "data": {"environment": "production", "service": "search-api", "release": {"version": "v948"}}
}"#;

fn with(from: &str, to: &str) -> Reason {
    let changed = DEPLOY.replace(from, to);
    assert_ne!(changed, DEPLOY, "the test changes something");
    Envelope::parse(changed.as_bytes()).expect_err("a malformed event is refused").reason
}

fn pointer(reason: Reason) -> String {
    match reason {
        Reason::Value { pointer, .. } => pointer,
        other => panic!("no place in {other:?}"),
    }
}

#[test]
fn an_event_is_kept_as_it_came_in_canonical_form() {
    let envelope = Envelope::parse(DEPLOY.as_bytes()).expect("an event");
    let text = std::str::from_utf8(envelope.bytes()).expect("UTF-8");
    assert!(text.starts_with(r#"{"data":{"environment":"production","release""#), "{text}");
    assert!(text.contains(r#""time":"2026-08-01T14:00:00.1234567+02:00","traceparent""#), "{text}");
    assert_eq!(envelope.occurred_at().to_rfc3339(), "2026-08-01T12:00:00.123456+00:00");
    let again = Envelope::parse(envelope.bytes()).expect("a stored event");
    assert_eq!(again, envelope);
}

#[test]
fn binary_and_structured_mode_give_the_same_bytes() {
    let data = br#"{"environment":"production","service":"search-api","release":{"version":"v948"}}"#;
    let attributes = [
        ("specversion", "1.0"),
        ("id", "run-4711"),
        ("source", "https://ci.example/jobs/1"),
        ("type", "io.releaseledger.deploy.succeeded.v1"),
        ("time", "2026-08-01T14:00:00.1234567+02:00"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let binary = Envelope::from_parts(attributes.map(|(name, value)| (name, value.to_owned())), data);
    assert_eq!(binary, Envelope::parse(DEPLOY.as_bytes()));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert_eq!(pointer(with(r#""id": "run-4711""#, r#""id": """#)), "/id");
    assert_eq!(pointer(with(r#""specversion": "1.0","#, "")), "/specversion");
    assert_eq!(pointer(with("2026-08-01T14:00:00.1234567+02:00", "yesterday")), "/time");
    assert_eq!(pointer(with("2026-08-01T14:00:00.1234567+02:00", "1969-12-31T23:59:59Z")), "/time");
    assert_eq!(pointer(with(r#""production""#, r#""pro duction""#)), "/data/environment");
    assert_eq!(pointer(with(r#""service": "search-api", "#, "")), "/data/service");
    assert_eq!(pointer(with(r#"{"version": "v948"}"#, r#""v948""#)), "/data/release");
    assert_eq!(pointer(with(r#""v948""#, r#""v948", "artefact": "x""#)), "/data/release/artefact");
    assert_eq!(pointer(with(r#""traceparent""#, r#""Trace-Parent""#)), "/Trace-Parent");
    assert_eq!(pointer(with(r#""data": {"#, r#""data_base64": "e30=", "data": {"#)), "/data_base64");
    assert!(matches!(with("deploy.succeeded", "deploy.done"), Reason::UnknownType(_)));
    assert!(matches!(with(r#""data": {"#, r#""id": "x", "data": {"#), Reason::NotIJson(_)));
    assert!(matches!(with("}", ""), Reason::NotJson(_)));
}

#[test]
fn an_invalid_event_is_answered_by_its_name() {
    let unknown = DEPLOY.replace("deploy.succeeded", "deploy.done");
    let invalid = Envelope::parse(unknown.as_bytes()).expect_err("an unknown type is refused");
    assert_eq!(invalid.id.as_deref(), Some("run-4711"));
    assert_eq!(invalid.source.as_deref(), Some("https://ci.example/jobs/1"));
}

#[test]
fn an_event_has_a_size_limit() {
    let filler = |bytes: usize| DEPLOY.replace("00-0af7651916cd43dd8448eb211c80319c", &"x".repeat(bytes));
    assert!(Envelope::parse(filler(EVENT_LIMIT - 400).as_bytes()).is_ok());
    let refused = Envelope::parse(filler(EVENT_LIMIT).as_bytes()).expect_err("too large an event is refused");
    assert!(matches!(refused.reason, Reason::TooLarge(_)));
}

#[test]
fn one_bad_event_does_not_sink_the_batch() {
    let batch = format!(r#"[{DEPLOY}, {{"id":1,"id":2}}, 7]"#);
    let events = Envelope::parse_batch(batch.as_bytes(), 3).expect("a batch");
    assert_eq!(events.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false]);
    assert!(matches!(Envelope::parse_batch(b"{}", 3), Err(BatchError::NotAnArray(_))));
    assert_eq!(Envelope::parse_batch(batch.as_bytes(), 2), Err(BatchError::TooMany(2)));
}

#[test]
fn a_leap_second_is_the_second_after_it_as_in_postgres() {
    let leap = DEPLOY.replace("2026-08-01T14:00:00.1234567+02:00", "2026-06-30T23:59:60Z");
    let envelope = Envelope::parse(leap.as_bytes()).expect("an event");
    assert_eq!(envelope.occurred_at().to_rfc3339(), "2026-07-01T00:00:00+00:00");
}

#[test]
fn a_composed_event_is_read_back_as_it_was_made_whatever_the_clock_tells() {
    let read = Envelope::parse(DEPLOY.as_bytes()).expect("an event");
    let nanoseconds = read.occurred_at() + chrono::TimeDelta::nanoseconds(241);
    let composed = Envelope::compose(read.identity().clone(), nanoseconds, read.event().clone());
    let composed = composed.expect("a small event");
    assert_eq!(composed.occurred_at(), read.occurred_at());
    assert_eq!(Envelope::parse(composed.bytes()).expect("an event"), composed);
}
