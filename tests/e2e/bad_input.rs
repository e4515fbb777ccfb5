//! Malformed requests: each is rejected with a specific problem, and nothing is recorded.

use std::borrow::Cow;

use ledger_tests::{Client, Response, Servers, Service, deploy};
use reqwest::Method;
use serde_json::{Value, json};

use crate::PROGRAM;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";
const JSON: &str = "application/json";

/// Limits of the service under test: bytes of a batch, and events of a batch.
const BATCH_BYTES: usize = 300_000;
const EVENTS: usize = 50;

/// A malformed request and the expected problem.
struct Bad {
    description: &'static str,
    method: Method,
    path: Cow<'static, str>,
    headers: Vec<(&'static str, Cow<'static, [u8]>)>,
    body: Cow<'static, [u8]>,
    status: u16,
    problem: &'static str,
}

/// A valid event; each case changes one part.
const GOOD: &str = r#"{"specversion":"1.0","id":"bad","source":"urn:release-ledger:test","type":"io.releaseledger.deploy.succeeded.v1","time":"2026-08-01T10:00:00Z","data":{"environment":"production","service":"web","release":{"version":"v1"}}}"#;

fn with(from: &str, to: &str) -> Vec<u8> {
    assert!(GOOD.contains(from), "the case changes something: {from}");
    GOOD.replace(from, to).into_bytes()
}

fn without(member: &str) -> Vec<u8> {
    with(member, "")
}

/// A valid event with additional arrays nested this deep.
fn nested(levels: usize) -> Vec<u8> {
    let nest = format!(r#""data":{{"links":{}{},"#, "[".repeat(levels), "]".repeat(levels));
    with(r#""data":{"#, &nest)
}

fn post(
    description: &'static str,
    content_type: &'static str,
    body: impl Into<Vec<u8>>,
    (status, problem): (u16, &'static str),
) -> Bad {
    Bad {
        description,
        method: Method::POST,
        path: "/v1/events".into(),
        headers: vec![("content-type", content_type.as_bytes().into())],
        body: body.into().into(),
        status,
        problem,
    }
}

fn binary(
    description: &'static str,
    changed: (&'static str, &'static [u8]),
    data: &'static str,
    expected: (u16, &'static str),
) -> Bad {
    let mut bad = post(description, JSON, data, expected);
    let attributes: [(&str, &[u8]); 5] = [
        ("ce-specversion", b"1.0"),
        ("ce-id", b"bad"),
        ("ce-source", b"urn:release-ledger:test"),
        ("ce-type", b"io.releaseledger.deploy.succeeded.v1"),
        ("ce-time", b"2026-08-01T10:00:00Z"),
    ];
    bad.headers.extend(attributes.map(|(name, value)| (name, value.into())));
    bad.headers.retain(|(name, _)| *name != changed.0);
    if !changed.1.is_empty() {
        bad.headers.push((changed.0, changed.1.into()));
    }
    bad
}

fn get(description: &'static str, path: &'static str, (status, problem): (u16, &'static str)) -> Bad {
    let (headers, body) = (Vec::new(), Cow::Borrowed(&[][..]));
    Bad { description, method: Method::GET, path: path.into(), headers, body, status, problem }
}

fn not_allowed(description: &'static str, method: Method, path: &'static str) -> Bad {
    Bad { method, ..get(description, path, (405, "method-not-allowed")) }
}

/// Invalid bodies and envelopes in every content mode.
fn bodies() -> Vec<Bad> {
    const NOT_JSON: (u16, &str) = (400, "invalid-json");
    const NOT_I_JSON: (u16, &str) = (400, "not-i-json");
    const TOO_LARGE: (u16, &str) = (413, "too-large");
    const UNSUPPORTED: (u16, &str) = (415, "unsupported-media-type");
    let long = |bytes: usize| with(r#""version":"v1""#, &format!(r#""version":"{}""#, "x".repeat(bytes)));
    let extension = |bytes: usize| with(r#""data""#, &format!(r#""note":"{}","data""#, "x".repeat(bytes)));
    let batch = |events: usize| format!("[{}]", vec![GOOD; events].join(","));
    let mut gzip = post("a compressed body", STRUCTURED, GOOD, UNSUPPORTED);
    gzip.headers.push(("content-encoding", b"gzip".into()));
    let mut untyped = post("no content type", "", GOOD, UNSUPPORTED);
    untyped.headers.clear();
    vec![
        post("an empty body", STRUCTURED, "", NOT_JSON),
        post("white space", STRUCTURED, " \n", NOT_JSON),
        post("half an object", STRUCTURED, &GOOD[..80], NOT_JSON),
        post("two objects", STRUCTURED, format!("{GOOD}{GOOD}"), NOT_JSON),
        post("a byte order mark", STRUCTURED, format!("\u{feff}{GOOD}"), NOT_JSON),
        post(
            "not UTF-8",
            STRUCTURED,
            [&GOOD.as_bytes()[..60], b"\xff\xfe", &GOOD.as_bytes()[60..]].concat(),
            NOT_JSON,
        ),
        post("a lone surrogate", STRUCTURED, with("v1\"", r#"v1\ud800""#), NOT_JSON),
        post("a number out of range", STRUCTURED, with(r#""data""#, r#""attempt":1e400,"data""#), NOT_JSON),
        post("a duplicate key", STRUCTURED, with(r#""id":"bad""#, r#""id":"bad","id":"other""#), NOT_I_JSON),
        post(
            "a duplicate key, once escaped",
            STRUCTURED,
            with(r#""id":"bad""#, r#""id":"bad","\u0069d":"b""#),
            NOT_I_JSON,
        ),
        post(
            "a duplicate key, nested",
            STRUCTURED,
            with(r#""version":"v1""#, r#""version":"v1","version":"v2""#),
            NOT_I_JSON,
        ),
        post("nested too deep", STRUCTURED, nested(40), NOT_I_JSON),
        post("nested far too deep", STRUCTURED, nested(20_000), NOT_I_JSON),
        post(
            "an integer beyond 2^53",
            STRUCTURED,
            with(r#""data""#, r#""attempt":9007199254740993,"data""#),
            NOT_I_JSON,
        ),
        post(
            "an integer beyond 2^64",
            STRUCTURED,
            with(r#""data""#, r#""attempt":-99999999999999999999,"data""#),
            NOT_I_JSON,
        ),
        post("an event of 70,000 bytes", STRUCTURED, extension(70_000 - GOOD.len()), TOO_LARGE),
        post("a body over the limit", STRUCTURED, extension(300_000), TOO_LARGE),
        post("a version of 70,000 bytes", STRUCTURED, long(70_000), (422, "invalid-event")),
        post("a batch that is an object", BATCH, GOOD, NOT_JSON),
        post("a truncated batch", BATCH, format!("[{GOOD},"), NOT_JSON),
        post("an empty body for a batch", BATCH, "", NOT_JSON),
        post("a batch of too many events", BATCH, batch(EVENTS + 1), TOO_LARGE),
        post("a batch of too many bytes", BATCH, " ".repeat(BATCH_BYTES + 1), TOO_LARGE),
        post("plain text", "text/plain", GOOD, UNSUPPORTED),
        post("a form", "application/x-www-form-urlencoded", "id=1", UNSUPPORTED),
        post("JSON that is no event", JSON, r#"{"id": "1"}"#, UNSUPPORTED),
        post("an unknown structured content type", "application/cloudevents+xml", GOOD, UNSUPPORTED),
        post("a content type without a type", "; charset=utf-8", GOOD, UNSUPPORTED),
        gzip,
        untyped,
    ]
}

const INVALID: (u16, &str) = (422, "invalid-event");

/// Valid JSON without valid event attributes.
fn attributes() -> Vec<Bad> {
    const UNKNOWN: (u16, &str) = (422, "unknown-event-type");
    let structured = |description, body: Vec<u8>, expected| post(description, STRUCTURED, body, expected);
    let attribute = |member: &str| with(r#""data""#, &format!(r#"{member},"data""#));
    let time = |text: &str| with("2026-08-01T10:00:00Z", text);
    vec![
        structured("an array", format!("[{GOOD}]").into_bytes(), INVALID),
        structured("a string", b"\"event\"".to_vec(), INVALID),
        structured("no id", without(r#""id":"bad","#), INVALID),
        structured("an empty id", with(r#""bad""#, r#""""#), INVALID),
        structured("an id that is a number", with(r#""bad""#, "7"), INVALID),
        structured("an id of 600 bytes", with("bad", &"x".repeat(600)), INVALID),
        structured("no source", without(r#""source":"urn:release-ledger:test","#), INVALID),
        structured("no type", without(r#""type":"io.releaseledger.deploy.succeeded.v1","#), INVALID),
        structured("no time", without(r#""time":"2026-08-01T10:00:00Z","#), INVALID),
        structured("no specversion", without(r#""specversion":"1.0","#), INVALID),
        structured("an unsupported specversion", with(r#""1.0""#, r#""0.3""#), INVALID),
        structured("an unknown type", with("deploy.succeeded", "deploy.done"), UNKNOWN),
        structured("an unknown version of a type", with("succeeded.v1", "succeeded.v2"), UNKNOWN),
        structured(
            "a type of another vendor",
            with("io.releaseledger.deploy", "com.example.service.deployed"),
            UNKNOWN,
        ),
        structured("a time in words", time("yesterday"), INVALID),
        structured("a date without a time", time("2026-08-01"), INVALID),
        structured("a nonexistent date", time("2026-02-30T10:00:00Z"), INVALID),
        structured("a time without a time zone", time("2026-08-01T10:00:00"), INVALID),
        structured("before 1970", time("1969-12-31T23:59:59Z"), INVALID),
        structured("the future", time("2999-01-01T00:00:00Z"), (422, "event-from-the-future")),
        structured("data in base64", attribute(r#""data_base64":"e30=""#), INVALID),
        structured("an attribute with a capital letter", attribute(r#""traceParent":"x""#), INVALID),
        structured("an attribute that is an object", attribute(r#""trace":{}"#), INVALID),
        structured("a required attribute that is null", with(r#""id":"bad""#, r#""id":null"#), INVALID),
        structured("an unsupported datacontenttype", attribute(r#""datacontenttype":"text/xml""#), INVALID),
    ]
}

/// Events with invalid data.
fn data() -> Vec<Bad> {
    let structured = |description, body: Vec<u8>| post(description, STRUCTURED, body, INVALID);
    let version = |text: &str| with(r#""version":"v1""#, &format!(r#""version":{text}"#));
    let service = |text: &str| with(r#""service":"web""#, &format!(r#""service":{text}"#));
    let release = |member: &str| with(r#""version":"v1""#, &format!(r#""version":"v1",{member}"#));
    let data = |member: &str| with(r#""service":"web""#, &format!(r#""service":"web",{member}"#));
    vec![
        structured("a name with a space", service(r#""we b""#)),
        structured("a name with a wildcard", service(r#""web.>""#)),
        structured("a name with an umlaut", service(r#""wéb""#)),
        structured("a name that starts with a dash", service(r#""-web""#)),
        structured("a name with a line feed", service(r#""web\n""#)),
        structured("an empty name", service(r#""""#)),
        structured("a name of 64 characters", service(&format!("\"{}\"", "x".repeat(64)))),
        structured("a name that is a number", service("7")),
        structured("a name that is null", service("null")),
        structured("a version of 513 bytes", version(&format!("\"{}\"", "x".repeat(513)))),
        structured("a version with a control character", version(r#""v\u0000""#)),
        structured("a version with white space around it", version(r#"" v1 ""#)),
        structured("a version that is a number", version("1.5")),
        structured("a release that is a string", with(r#"{"version":"v1"}"#, r#""v1""#)),
        structured("a tag as an artifact", release(r#""artifact":"web:latest""#)),
        structured("an incomplete digest", release(r#""config":"sha256:12""#)),
        structured("a misspelt member of the release", release(r#""artefact":"x""#)),
        structured("an unknown member", data(r#""colour":"blue""#)),
        structured("a flag that is a word", data(r#""reversible":"yes""#)),
        structured("links that are not a list", data(r#""links":{}"#)),
        structured("a reason of 5,000 bytes", data(&format!(r#""reason":"{}""#, "x".repeat(5_000)))),
        structured(
            "no data",
            with(r#","data":{"environment":"production","service":"web","release":{"version":"v1"}}"#, ""),
        ),
        structured(
            "data that is null",
            with(r#"{"environment":"production","service":"web","release":{"version":"v1"}}"#, "null"),
        ),
    ]
}

/// Invalid attributes in headers (binary content mode).
fn headers() -> Vec<Bad> {
    const DATA: &str = r#"{"environment":"production","service":"web","release":{"version":"v1"}}"#;
    const UNCHANGED: (&str, &[u8]) = ("ce-none", b"");
    let mut twice = binary("binary: a duplicate attribute", UNCHANGED, DATA, (400, "not-i-json"));
    twice.headers.push(("ce-id", b"other".into()));
    vec![
        binary("binary: no data", UNCHANGED, "", (400, "invalid-json")),
        binary("binary: data that is an array", UNCHANGED, "[]", (422, "invalid-event")),
        binary("binary: data with a duplicate key", UNCHANGED, r#"{"a":1,"a":1}"#, (400, "not-i-json")),
        binary("binary: no id", ("ce-id", b""), DATA, (422, "invalid-event")),
        binary("binary: an unknown type", ("ce-type", b"x"), DATA, (422, "unknown-event-type")),
        binary("binary: a bad time", ("ce-time", b"now"), DATA, (422, "invalid-event")),
        binary(
            "binary: the future",
            ("ce-time", b"2999-01-01T00:00:00Z"),
            DATA,
            (422, "event-from-the-future"),
        ),
        binary(
            "binary: percent-encoded bytes that are not UTF-8",
            ("ce-id", b"%ff"),
            DATA,
            (400, "invalid-parameter"),
        ),
        binary(
            "binary: bytes that are not ASCII",
            ("ce-id", b"caf\xc3\xa9"),
            DATA,
            (400, "invalid-parameter"),
        ),
        binary(
            "binary: a second content type",
            ("ce-datacontenttype", b"application/json"),
            DATA,
            (400, "invalid-parameter"),
        ),
        binary("binary: an unterminated quote", ("ce-id", b"\"bad"), DATA, (400, "invalid-parameter")),
        binary("binary: a zero width space", ("ce-id", b"bad%E2%80%8B"), DATA, (422, "invalid-event")),
        binary("binary: an attribute with a dash", ("ce-trace-parent", b"x"), DATA, (422, "invalid-event")),
        binary("binary: an attribute named data", ("ce-data", b"x"), DATA, (400, "not-i-json")),
        binary("binary: an unknown attribute", ("ce-data_base64", b"x"), DATA, (422, "invalid-event")),
        binary("binary: no specversion", ("ce-specversion", b""), DATA, (415, "unsupported-media-type")),
        twice,
    ]
}

const WRONG: (u16, &str) = (400, "invalid-parameter");
const NO_POSITION: (u16, &str) = (404, "unknown-position");
const NOWHERE: (u16, &str) = (404, "path-not-found");
const NO_POINT: (u16, &str) = (404, "unknown-point");
const NO_ENVIRONMENT: (u16, &str) = (404, "unknown-environment");

/// Invalid queries of the state of an environment.
fn state_queries() -> Vec<Bad> {
    vec![
        get("at: a word that is no point", "/v1/environments/production/state?at=yesteday", NO_POINT),
        get("at: another environment's point", "/v1/environments/production/state?at=staging@1", WRONG),
        get("at: empty", "/v1/environments/production/state?at=", WRONG),
        get("at: a dash", "/v1/environments/production/state?at=-", WRONG),
        get("at: a fraction", "/v1/environments/production/state?at=1.5", WRONG),
        get("at: a date of no calendar", "/v1/environments/production/state?at=2026-08-32", WRONG),
        get("at: a time without a zone", "/v1/environments/production/state?at=2026-08-01T10:00", WRONG),
        get("at: a time too long ago", "/v1/environments/production/state?at=36501d", WRONG),
        get(
            "at: a plus decoded as a space",
            "/v1/environments/production/state?at=2026-08-01T10:00:00+02:00",
            WRONG,
        ),
        get("at: beyond 64 bits", "/v1/environments/production/state?at=99999999999999999999", WRONG),
        get("at: after the head", "/v1/environments/production/state?at=7", NO_POSITION),
        get(
            "at: the largest position",
            "/v1/environments/production/state?at=9223372036854775807",
            NO_POSITION,
        ),
        get(
            "at: more changes ago than there are",
            "/v1/environments/production/state?at=-2",
            (404, "unknown-change"),
        ),
        get(
            "at: the largest number of changes ago",
            "/v1/environments/production/state?at=-9223372036854775807",
            (404, "unknown-change"),
        ),
        get("known_at: a word", "/v1/environments/production/state?known_at=nowhen", WRONG),
        get("known_at: changes ago", "/v1/environments/production/state?known_at=-1", WRONG),
        get("known_at: combined with a position", "/v1/environments/production/state?at=1&known_at=1", WRONG),
        get(
            "known_at: combined with changes ago",
            "/v1/environments/production/state?at=-1&known_at=1",
            WRONG,
        ),
        get("known_at: after the head", "/v1/environments/production/state?known_at=7", NO_POSITION),
        get("a misspelt parameter of the state", "/v1/environments/production/state?att=1", WRONG),
        get("a duplicate parameter", "/v1/environments/production/state?at=1&at=0", WRONG),
        get("an unknown environment", "/v1/environments/nowhere/state", NO_ENVIRONMENT),
        get("an unknown environment at a position", "/v1/environments/nowhere/state?at=0", NO_ENVIRONMENT),
        get("an unknown environment, changes ago", "/v1/environments/nowhere/state?at=-1", NO_ENVIRONMENT),
        get("an invalid environment name", "/v1/environments/no%20where/state", WRONG),
    ]
}

/// Invalid queries of differences, events and positions.
fn other_queries() -> Vec<Bad> {
    vec![
        get("from: a word that is no point", "/v1/environments/production/diff?from=yesteday", NO_POINT),
        get("to: a word that is no point", "/v1/environments/production/diff?to=tomorrow", NO_POINT),
        get("since: a word that is no time", "/v1/events?since=tomorrow", WRONG),
        get("until: a time without a zone", "/v1/events?until=2026-08-01T10:00", WRONG),
        get(
            "to: an unknown environment",
            "/v1/environments/production/diff?to=nowhere@latest",
            NO_ENVIRONMENT,
        ),
        get("to: an environment without a point", "/v1/environments/production/diff?to=production@", WRONG),
        get("to: a point without an environment", "/v1/environments/production/diff?to=@latest", WRONG),
        get(
            "from: more changes ago than there are",
            "/v1/environments/production/diff?from=-2",
            (404, "unknown-change"),
        ),
        get("after: negative", "/v1/events?after=-1", WRONG),
        get("after: a word", "/v1/events?after=x", WRONG),
        get("limit: zero", "/v1/events?limit=0", WRONG),
        get("limit: too large", "/v1/events?limit=1001", WRONG),
        get("limit: a word", "/v1/events?limit=all", WRONG),
        get("an unknown type", "/v1/events?type=deploy.done", WRONG),
        get("an invalid environment name in an event filter", "/v1/events?environment=a%20b", WRONG),
        get("a source without an id", "/v1/events?source=urn:release-ledger:test", WRONG),
        get("an id without a source", "/v1/events?id=1", WRONG),
        get("a misspelt parameter of events", "/v1/events?enviroment=production", WRONG),
        get("an unknown parameter of the position", "/v1/position?verbose=1", WRONG),
        get("an unknown parameter of environments", "/v1/environments?limit=1", WRONG),
        get("an entry that is not a number", "/v1/events/latest", WRONG),
        get("entry zero", "/v1/events/0", NO_POSITION),
        get("an entry after the head", "/v1/events/7", NO_POSITION),
        get("an entry beyond 64 bits", "/v1/events/99999999999999999999", WRONG),
        get("wait_for: after the head", "/v1/position?wait_for=7", (400, "position-ahead")),
        get("wait_for: a word", "/v1/position?wait_for=soon", WRONG),
        get("wait_ms: too long", "/v1/position?wait_for=1&wait_ms=30001", WRONG),
        get("wait_ms: negative", "/v1/position?wait_for=1&wait_ms=-1", WRONG),
    ]
}

/// Paths that do not exist, and methods that a path does not have.
fn paths() -> Vec<Bad> {
    vec![
        get("an unknown tenant", "/v1/tenants/unknown/position", (404, "unknown-tenant")),
        get("an invalid tenant name", "/v1/tenants/not%20valid/position", WRONG),
        get("an unknown path", "/v1/releases", NOWHERE),
        get("a path that is not UTF-8", "/v1/environments/%ff/state", NOWHERE),
        get("another version of the API", "/v2/events", NOWHERE),
        get("an environment without a name", "/v1/environments//state", WRONG),
        not_allowed("deleting the history", Method::DELETE, "/v1/events"),
        not_allowed("deleting an entry", Method::DELETE, "/v1/events/1"),
        not_allowed("putting an entry", Method::PUT, "/v1/events/1"),
        not_allowed("patching a state", Method::PATCH, "/v1/environments/production/state"),
        not_allowed("posting to health", Method::POST, "/readyz"),
    ]
}

/// Well-formed requests that conflict with the ledger.
fn conflicts() -> Vec<Bad> {
    let known = with(r#""id":"bad""#, r#""id":"1""#);
    let another = post("another event with a known identity", STRUCTURED, known, (409, "identity-conflict"));
    vec![another]
}

#[tokio::test]
async fn bad_input_is_rejected_without_side_effects() {
    let servers = Servers::start().await;
    let limits = [format!("--http-max-batch-bytes={BATCH_BYTES}"), format!("--http-max-events={EVENTS}")];
    let service = Service::start(PROGRAM, &servers, &limits.each_ref().map(String::as_str)).await;
    let client = service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T09:00:00Z", "production", "web", "v0")).await;
    let before = client.text("/v1/position").await;
    let table =
        [bodies(), attributes(), data(), headers(), state_queries(), other_queries(), paths(), conflicts()];
    let table: Vec<Bad> = table.into_iter().flatten().collect();

    let mut wrong = Vec::new();
    for bad in &table {
        let response = send(&client, bad).await;
        wrong.extend(differs(bad, &response));
    }

    assert_eq!(wrong, [""; 0], "of {} requests", table.len());
    assert_eq!(client.text("/v1/position").await, before);
    let good = client.record(&deploy("2", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    assert_eq!((good.status, &good.body["position"]), (201, &2.into()));
}

async fn send(client: &Client, bad: &Bad) -> Response {
    let mut request = client.request(bad.method.clone(), &bad.path).body(bad.body.to_vec());
    for (name, value) in &bad.headers {
        request = request.header(*name, &**value);
    }
    Client::send(request).await
}

/// Describes how a response differs from the expected one; `None` if it does not.
fn differs(bad: &Bad, response: &Response) -> Option<String> {
    let is_complete = response.content_type == "application/problem+json"
        && response.body["status"] == response.status
        && response.body["title"].is_string()
        && response.body["detail"].as_str().is_some_and(|detail| !detail.is_empty());
    let is_complete = is_complete && (response.status != 405 || !response.header("allow").is_empty());
    let is_expected = (response.status, response.problem()) == (bad.status, bad.problem);
    (!is_complete || !is_expected).then(|| {
        let Bad { description, status, problem, .. } = bad;
        format!("{description}: expected {status} {problem}, received {} {}", response.status, response.text)
    })
}

#[tokio::test]
async fn an_invalid_event_in_a_batch_does_not_affect_the_others() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    client.record_and_wait(&deploy("known", "2026-08-01T09:00:00Z", "production", "web", "v0")).await;
    let mixed = |prefix: &str| {
        let id = |name: &str| format!("{prefix}-{name}");
        [
            deploy(&id("1"), "2026-08-01T10:00:00Z", "production", "web", "v1"),
            json!({"id": id("broken"), "source": "urn:release-ledger:test"}),
            deploy(&id("2"), "2026-08-01T10:01:00Z", "production", "web", "v2"),
            deploy("known", "2026-08-01T09:00:00Z", "production", "web", "v0"),
            deploy("known", "2026-08-01T09:00:00Z", "production", "web", "other"),
            deploy(&id("future"), "2999-01-01T00:00:00Z", "production", "web", "v9"),
            deploy(&id("1"), "2026-08-01T10:00:00Z", "production", "web", "v1"),
            deploy(&id("3"), "2026-08-01T10:02:00Z", "production", "web", "v3"),
        ]
    };
    let expected = |prefix: &str, first: u64| {
        let id = |name: &str| format!("{prefix}-{name}");
        [
            (id("1"), "recorded", Some(first), ""),
            (id("broken"), "invalid", None, "invalid-event"),
            (id("2"), "recorded", Some(first + 1), ""),
            ("known".to_owned(), "duplicate", Some(1), ""),
            ("known".to_owned(), "conflict", Some(1), "identity-conflict"),
            (id("future"), "invalid", None, "event-from-the-future"),
            (id("1"), "duplicate", Some(first), ""),
            (id("3"), "recorded", Some(first + 2), ""),
        ]
        .map(|(id, status, position, problem)| (id, status.to_owned(), position, problem.to_owned()))
    };

    let batch = client.post("/v1/events", BATCH, json!(mixed("batch")).to_string()).await;
    let lines = mixed("lines").map(|event| event.to_string()).join("\n");
    let lines = client.post("/v1/events", LINES, format!("{lines}\n\n")).await;

    assert_eq!((batch.status, lines.status), (207, 207));
    assert_eq!(results(batch.body.as_array().expect("results")), expected("batch", 2));
    assert_eq!(results(&lines.lines()), expected("lines", 5));
    assert_eq!(client.positions().await.1, 7);
}

#[tokio::test]
async fn an_invalid_line_does_not_affect_the_others() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    let client = service.client();
    let good = |id: &str| deploy(id, "2026-08-01T10:00:00Z", "production", "web", "v1").to_string();
    let too_long = format!("{{\"x\":\"{}\"}}", "x".repeat(600_000));
    let lines = [&good("1"), "{", "[]", &too_long, "\u{feff}", &good("2")].join("\n");

    let response = client
        .post("/v1/events", LINES, [lines.as_bytes(), b"\n\xff\n", good("3").as_bytes()].concat())
        .await;

    assert_eq!(response.status, 207);
    let statuses: Vec<_> =
        results(&response.lines()).into_iter().map(|(_, status, _, problem)| (status, problem)).collect();
    let statuses: Vec<_> = statuses.iter().map(|(status, problem)| (&**status, &**problem)).collect();
    assert_eq!(
        statuses,
        [
            ("recorded", ""),
            ("invalid", "invalid-json"),
            ("invalid", "invalid-event"),
            ("invalid", "too-large"),
            ("invalid", "invalid-json"),
            ("recorded", ""),
            ("invalid", "invalid-json"),
            ("recorded", ""),
        ]
    );
}

/// Returns for each event its id, status, position, and the problem's type.
fn results(results: &[Value]) -> Vec<(String, String, Option<u64>, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problem = |result: &Value| {
        let problem = text(&result["problem"]["type"]);
        problem.trim_start_matches("urn:release-ledger:problem:").to_owned()
    };
    let result = |result: &Value| {
        (text(&result["id"]), text(&result["status"]), result["position"].as_u64(), problem(result))
    };
    results.iter().map(result).collect()
}

#[tokio::test]
async fn input_beyond_a_limit_uses_no_memory() {
    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &["--http-max-events=50"]).await;
    let client = service.client();

    let members = client.post("/v1/events", BATCH, format!("[{}1]", "1,".repeat(8_000_000))).await;
    assert_eq!((members.status, members.problem()), (413, "too-large"));
    let lines = client.post("/v1/events", LINES, "1\n".repeat(51)).await;
    assert_eq!(lines.status, 207, "{}", lines.text);
    let results = lines.text.lines().count();

    assert_eq!(results, 51, "one result for each line up to the limit, and one that reports the limit");
    assert!(
        lines.text.lines().last().is_some_and(|last| last.contains("more than 50 events")),
        "{}",
        lines.text
    );
    let peak = service.peak_memory() >> 20;
    assert!(peak < 100, "{peak} MiB");
}
