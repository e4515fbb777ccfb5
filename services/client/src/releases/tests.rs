//! Rows become events, or errors that name line and field.

use chrono::TimeDelta;

use super::*;

const ROW: &str = r#"{"n":1,"at":"2022-10-10T10:40:23Z","environment":"integration","service":"asset-manager","version":"cbcdc480","commit":"f46f242f","actor":"person-60935d2e"}"#;

fn options(commit_column: CommitColumn) -> ParseOptions {
    let latest = DateTime::UNIX_EPOCH + TimeDelta::days(30_000);
    ParseOptions { source: Source::parse(SOURCE).expect("a source"), commit_column, latest }
}

/// Returns the event of each valid row, and the error of each other row.
fn read_as(history: &str, commit_column: CommitColumn) -> (Vec<Envelope>, Vec<String>) {
    let options = options(commit_column);
    let mut errors = Vec::new();
    let mut report = |error: &Error| errors.push(format!("line {}: {}", error.line, error.kind));
    let checked = check(history.as_bytes(), &options, &mut report).expect("a readable history");
    assert_eq!(checked.invalid, errors.len() as u64);
    let valid = checked.valid;
    let events = events(history.as_bytes(), options, checked, true).expect("a readable history");
    let events: Vec<_> = events.map(|event| event.expect("a valid row").envelope).collect();
    assert_eq!(events.len() as u64, valid);
    (events, errors)
}

fn read(history: &str) -> (Vec<Envelope>, Vec<String>) {
    read_as(history, CommitColumn::Build)
}

fn one(row: &str) -> Envelope {
    let (mut events, errors) = read(row);
    assert_eq!((events.len(), &errors[..]), (1, &[][..]));
    events.remove(0)
}

/// Returns the event ids of the rows, in order.
fn ids(rows: &[&str]) -> Vec<String> {
    let (events, errors) = read(&rows.join("\n"));
    assert_eq!(errors, [""; 0]);
    events.iter().map(|event| event.identity().id.as_str().to_owned()).collect()
}

fn data(envelope: &Envelope) -> Value {
    let event: Value = serde_json::from_slice(envelope.bytes()).expect("JSON");
    event["data"].clone()
}

/// Returns the row with some columns replaced.
fn with_columns(columns: &Value) -> String {
    let mut row: Value = serde_json::from_str(ROW).expect("JSON");
    let columns = columns.as_object().expect("columns").clone();
    row.as_object_mut().expect("a row").extend(columns);
    row.to_string()
}

#[test]
fn rule_30_a_row_is_a_deploy_with_its_commit_in_the_release() {
    let envelope = one(ROW);
    assert_eq!(
        std::str::from_utf8(envelope.bytes()).expect("UTF-8"),
        concat!(
            r#"{"data":{"actor":{"name":"person-60935d2e","type":"person"},"environment":"integration","#,
            r#""release":{"commit":"f46f242f","version":"cbcdc480"},"service":"asset-manager"},"#,
            r#""datacontenttype":"application/json","id":"IDENTITY","#,
            r#""source":"urn:release-ledger:import","specversion":"1.0","#,
            r#""subject":"integration/default/asset-manager","time":"2022-10-10T10:40:23Z","#,
            r#""type":"io.releaseledger.deploy.succeeded.v1"}"#
        )
        .replace("IDENTITY", envelope.identity().id.as_str())
    );
    assert_eq!(Envelope::parse(envelope.bytes()), Ok(envelope));
}

#[test]
fn a_commit_can_be_the_name_of_the_deployment() {
    let (events, _) = read_as(ROW, CommitColumn::Deployment);
    let data = data(&events[0]);
    assert_eq!(
        (&data["deployment"], &data["release"]),
        (&json!("f46f242f"), &json!({"version": "cbcdc480"}))
    );
    // The row has the same identity either way, so the ledger detects the conflict.
    assert_eq!(events[0].identity(), one(ROW).identity());

    let both = with_columns(&json!({"deployment": "run-1"}));
    let (_, errors) = read_as(&both, CommitColumn::Deployment);
    assert_eq!(errors, ["line 1: deployment: conflicts with commit, which is the name of the deployment"]);
}

#[test]
fn optional_columns_are_read_if_present() {
    let artifact = format!("registry.example/web@sha256:{}", "a".repeat(64));
    let row = with_columns(
        &json!({"deployment": "run-1", "target": "eu-west-1", "slot": "green", "artifact": artifact}),
    );
    let all = data(&one(&row));
    assert_eq!(
        (&all["deployment"], &all["target"], &all["slot"], &all["release"]["artifact"]),
        (&json!("run-1"), &json!("eu-west-1"), &json!("green"), &json!(artifact))
    );
    let least = r#"{"at":"2022-10-10T10:40:23Z","environment":"dev","service":"web","version":"v1"}"#;
    assert_eq!(
        data(&one(least)),
        json!({"environment": "dev", "service": "web", "release": {"version": "v1"}})
    );
}

#[test]
fn a_row_with_a_null_version_is_a_removal_and_other_actors_are_workloads() {
    let row = ROW.replace(r#""cbcdc480""#, "null").replace("person-60935d2e", "govuk-ci");
    let event = one(&row).event().clone();
    assert!(matches!(event.payload, Payload::DeployRemoved(_)));
    assert_eq!(event.actor.map(|actor| actor.kind.to_string()).as_deref(), Some("workload"));
}

#[test]
fn the_identity_depends_on_content_and_not_on_number_or_formatting() {
    let id = one(ROW).identity().clone();
    // The same as: printf '["integration",…,1]' | sha256sum
    let text = r#"["integration","asset-manager",null,"cbcdc480","2022-10-10T10:40:23.000000Z",1]"#;
    let hash = hex::encode(&Sha256::digest(text)[..16]);
    assert_eq!(id.id.as_str(), hash);

    let spaced = ROW.replace(":", ": ").replace("10: 40: 23", "10:40:23");
    for same in [
        spaced,
        ROW.replacen("1,", "2,", 1),
        ROW.replacen(r#""n":1,"#, "", 1),
        ROW.replace("10:40:23Z", "11:40:23.000+01:00"),
        with_columns(&json!({"commit": "other", "actor": "other", "slot": "blue"})),
    ] {
        assert_eq!(*one(&same).identity(), id, "{same}");
    }
    for (from, to) in
        [(":23Z", ":24Z"), ("integration", "staging"), ("asset-manager", "web"), ("\"cbcdc480\"", "null")]
    {
        assert_ne!(*one(&ROW.replacen(from, to, 1)).identity(), id, "{from}");
    }
    assert_ne!(*one(&with_columns(&json!({"target": "eu"}))).identity(), id);
    let null = one(&ROW.replace("\"cbcdc480\"", "null")).identity().clone();
    assert_ne!(*one(&ROW.replace("cbcdc480", "null")).identity(), null);
}

#[test]
fn rule_30_equal_rows_are_distinct_events_regardless_of_the_rows_before_them() {
    let (other, late) = (ROW.replace("asset-manager", "web"), ROW.replace(":23Z", ":22Z"));
    let [one, two] = &ids(&[ROW, ROW])[..] else { panic!("two rows") };
    assert_ne!(one, two);
    let later = ids(&[&late, &other, ROW, &late, &other, ROW]);
    assert_eq!((&later[2], &later[5]), (one, two));
    assert_ne!(later[0], later[3]);
}

#[test]
fn rule_30_every_invalid_row_is_reported_with_line_and_field() {
    let changed = |from: &str, to: &str| ROW.replace(from, to);
    let rows = [
        ROW.to_owned(),
        changed("2022-10-10T", "yesterday"),
        changed("asset-manager", "asset manager"),
        changed(r#""version":"cbcdc480","#, ""),
        changed(r#""n":1"#, r#""n":1,"m":2"#),
        changed(r#""n":1"#, r#""n":1,"n":1"#),
        changed("}", ""),
        changed(r#""f46f242f""#, "7"),
        "x".repeat(70_000),
        changed("f46f242f", ""),
        changed(r#""at":"2022-10-10T10:40:23Z","#, ""),
        changed("2022", "2222"),
        with_columns(&json!({"artifact": "web:latest"})),
        with_columns(&json!({"version": null, "artifact": "pkg:cargo/rand@0.9.1"})),
        with_columns(&json!({"n": "1"})),
        ROW.to_owned(),
    ];
    let (events, errors) = read(&rows.join("\n"));
    let expected = [
        "line 2: at: not an RFC 3339 time",
        "line 3: service: a name starts with",
        "line 4: version: missing; use null for a removal",
        "line 5: not a row of a release history: unknown field `m`, expected one of `n`, `at`",
        "line 6: not a row of a release history: duplicate field `n` at column",
        "line 7: not a row of a release history: EOF",
        "line 8: commit: not a string",
        "line 9: longer than 65536 bytes",
        "line 10: commit: must not be empty",
        "line 11: at: missing",
        "line 12: at: in the future",
        "line 13: artifact: is neither a package URL",
        "line 14: artifact: not allowed in a removal",
        "line 15: n: not a non-negative integer",
    ];
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!((events.len(), errors.len()), (2, expected.len()));
}

#[test]
fn a_row_that_became_invalid_after_the_check_is_the_last_item() {
    let (options, bad) = (options(CommitColumn::Build), ROW.replace("asset-manager", "asset manager"));
    let events = events(format!("{ROW}\n{bad}\n{ROW}").as_bytes(), options, CheckedHistory::default(), false)
        .map(Iterator::collect::<Vec<_>>)
        .map(|rows| rows.iter().map(Result::is_ok).collect::<Vec<_>>());
    assert_eq!(events.expect("a readable history"), [true, false]);
}
