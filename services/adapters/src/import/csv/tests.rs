//! Tables as people export them.

use chrono::FixedOffset;
use ledger_domain::Source;
use serde_json::Value;

use super::*;

fn mapping(columns: &[(Member, &str)], constants: &[(Member, &str)]) -> Mapping {
    let mut mapping = Mapping::new(Source::parse("urn:example:table").expect("a source"));
    mapping.columns = columns.iter().map(|(member, column)| (*member, (*column).to_owned())).collect();
    mapping.constants = constants.iter().map(|(member, value)| (*member, (*value).to_owned())).collect();
    mapping
}

fn usual() -> Mapping {
    mapping(
        &[
            (Member::Time, "when"),
            (Member::Environment, "env"),
            (Member::Service, "app"),
            (Member::Version, "version"),
            (Member::Outcome, "result"),
            (Member::Actor, "by"),
        ],
        &[],
    )
}

fn latest() -> DateTime<Utc> {
    DateTime::from_timestamp(1_900_000_000, 0).expect("a time")
}

fn imported(file: &str, mapping: &Mapping) -> Imported {
    read(file, mapping, latest()).expect("a header row that fits")
}

fn ids(imported: &Imported) -> Vec<Value> {
    imported.events.iter().map(|event| event.event.0["id"].clone()).collect()
}

const TABLE: &str = "app,env,version,when,result,by,note\r\n\
    web,production,v1,2026-08-01T12:00:00Z,succeeded,ada,\r\n\
    api,production,v7,2026-08-01T11:00:00+02:00,Failed,ada,\"a, b\"\r\n\
    web,staging,,2026-08-02T00:00:00Z,removed,,\r\n";

#[test]
fn rows_are_deploys_and_removals_in_order_of_time() {
    let imported = imported(TABLE, &usual());
    assert!(imported.problems.is_empty(), "{:?}", imported.problems);
    let events: Vec<_> = imported.events.iter().map(|event| (event.row, &event.event.0)).collect();
    assert_eq!(events.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [3, 2, 4]);
    assert_eq!(events[0].1["type"], "io.releaseledger.deploy.failed.v1");
    assert_eq!(events[0].1["time"], "2026-08-01T09:00:00Z");
    assert_eq!(
        events[1].1["data"],
        serde_json::json!({
            "environment": "production", "service": "web", "release": { "version": "v1" },
            "actor": { "type": "workload", "name": "ada" },
        })
    );
    assert_eq!(events[2].1["type"], "io.releaseledger.deploy.removed.v1");
}

#[test]
fn the_identity_does_not_depend_on_the_other_rows() {
    let before = ids(&imported(TABLE, &usual()));
    let more = TABLE.replacen("\r\n", "\r\nnew,production,v1,2026-07-01T12:00:00Z,succeeded,,\r\n", 1);
    let after = ids(&imported(&more, &usual()));
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|id| after.contains(id)));
}

#[test]
fn equal_rows_are_one_event_and_contradictions_are_problems() {
    let row = "web,production,v1,2026-08-01T12:00:00Z,succeeded,";
    let file = format!("app,env,version,when,result,by\n{row}ada\n{row}ada\n{row}bob\n");
    let imported = imported(&file, &usual());
    assert_eq!((imported.events.len(), imported.repeated), (1, 1));
    assert_eq!(imported.problems.iter().map(|note| note.row).collect::<Vec<_>>(), [4]);
}

#[test]
fn all_rows_that_cannot_be_translated_are_reported_with_their_lines() {
    let file = "app,env,version,when,result,by\n\
        ,production,v1,2026-08-01T12:00:00Z,succeeded,\n\
        web,prod EU,v1,2026-08-01T12:00:00Z,succeeded,\n\
        \"web\n\",production,,2026-08-01T12:00:00Z,succeeded,\n\
        web,production,v1,1 August,succeeded,\n\
        web,production,v1,2099-01-01T00:00:00Z,succeeded,\n\
        web,production,v1,2026-08-01T12:00:00Z,done,\n\
        web,production,v1,2026-08-01T12:00:00Z,,\n\
        web,production,v1\n\
        web,production,\u{202e}v1,2026-08-01T12:00:00Z,succeeded,\n";
    let imported = imported(file, &usual());
    assert!(imported.events.is_empty());
    let problems: Vec<_> =
        imported.problems.iter().map(|note| format!("{} {}", note.row, note.detail)).collect();
    for (problem, expected) in problems.iter().zip([
        "2 column \"app\": the message names no service",
        "3 column \"env\": \"prod EU\" is not a valid environment",
        "4 column \"version\": is empty",
        "6 column \"when\": must be an RFC 3339 time",
        "7 column \"when\": 2099-01-01 00:00:00 UTC is in the future",
        "8 column \"result\": \"done\" is an unknown outcome",
        "9 column \"result\": is empty",
        "10 the row has 3 fields, and the header row 6",
        "11 ",
    ]) {
        assert!(problem.starts_with(expected), "{problem} {expected}");
    }
    assert_eq!(problems.len(), 9, "{problems:?}");
}

#[test]
fn words_of_the_table_are_outcomes_and_some_rows_are_ignored() {
    let mut mapping = usual();
    mapping.outcomes =
        [("ok", "succeeded"), ("skipped", "ignored")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let file = "app,env,version,when,result,by\n\
        web,production,v1,2026-08-01T12:00:00Z,OK,\n\
        web,production,v2,2026-08-01T12:00:00Z,skipped,\n";
    let imported = imported(file, &mapping);
    assert_eq!((imported.events.len(), imported.ignored.len(), imported.problems.len()), (1, 1, 0));
    mapping.outcomes.insert("x".to_owned(), "fine".to_owned());
    assert_eq!(read(file, &mapping, latest()), Err(MappingError::Outcome("fine".to_owned())));
}

#[test]
fn constants_and_ids_of_the_table_are_used() {
    let mut mapping = mapping(
        &[(Member::Time, "t"), (Member::Version, "v"), (Member::Id, "n"), (Member::Service, "s")],
        &[(Member::Outcome, "succeeded"), (Member::Environment, "production"), (Member::Service, "web")],
    );
    mapping.time_format = TimeFormat::UnixSeconds;
    mapping.delimiter = b';';
    let imported = imported("n;t;v;s\n17;1700000000.25;1.10;\n18;1700000001;1.10;api\n", &mapping);
    assert_eq!(ids(&imported), ["17:succeeded", "18:succeeded"]);
    assert_eq!(imported.events[0].event.0["time"], "2023-11-14T22:13:20.250Z");
    assert_eq!(imported.events[0].event.0["data"]["service"], "web");
    assert_eq!(imported.events[0].event.0["data"]["release"]["version"], "1.10");
    assert_eq!(imported.events[1].event.0["data"]["service"], "api");
}

#[test]
fn a_mapping_that_does_not_fit_the_table_says_what_to_do() {
    let message =
        |mapping: &Mapping, file: &str| read(file, mapping, latest()).expect_err("no fit").to_string();
    let mut without_outcome = usual();
    without_outcome.columns.remove(&Member::Outcome);
    assert_eq!(message(&without_outcome, TABLE), "map outcome to a column, or give it a constant value");
    assert!(message(&usual(), "a,b\n").contains("its columns are a, b"));
    assert!(message(&usual(), "when,when,env,app,version,result,by\n").contains("several times"));
    let mut local = usual();
    local.time_format = TimeFormat::Pattern { pattern: "%d.%m.%Y %H:%M".to_owned(), offset: None };
    assert!(message(&local, TABLE).contains("no offset"));
    assert!("whom".parse::<Member>().is_err());
    assert_eq!("infrastructure".parse(), Ok(Member::Infrastructure));
}

#[test]
fn times_have_the_form_of_the_table() {
    let pattern = |pattern: &str, hours: Option<i32>| TimeFormat::Pattern {
        pattern: pattern.to_owned(),
        offset: hours.and_then(|hours| FixedOffset::east_opt(hours * 3600)),
    };
    for (format, text, expected) in [
        (pattern("%d.%m.%Y %H:%M", Some(2)), "01.08.2026 14:00", Some("2026-08-01T12:00:00+00:00")),
        (
            pattern("%Y-%m-%d %H:%M:%S %z", None),
            "2026-08-01 14:00:00 +0200",
            Some("2026-08-01T12:00:00+00:00"),
        ),
        (pattern("%d.%m.%Y %H:%M", Some(2)), "2026-08-01", None),
        (pattern("%d.%m.%Y %Q", Some(2)), "01.08.2026 14:00", None),
        (TimeFormat::UnixMilliseconds, "1700000000250", Some("2023-11-14T22:13:20.250+00:00")),
        (TimeFormat::UnixMilliseconds, "9223372036854775807", None),
        (TimeFormat::UnixSeconds, "1700000000.2500009", Some("2023-11-14T22:13:20.250+00:00")),
        (TimeFormat::UnixSeconds, "1e9", None),
        (TimeFormat::UnixSeconds, "-5", None),
        (TimeFormat::UnixSeconds, "1.\u{e4}\u{e4}\u{e4}\u{e4}", None),
        (TimeFormat::Rfc3339, "2026-08-01", None),
    ] {
        let parsed = format.parse(text).ok().map(|time| time.to_rfc3339());
        assert_eq!(parsed.as_deref(), expected, "{text}");
    }
}
