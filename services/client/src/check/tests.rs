//! What a check reports: its subject, its counts, and the faults of its files.

use std::path::Path;

use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
#[command(disable_version_flag = true)]
struct Arguments {
    #[command(flatten)]
    check: CheckArgs,
}

fn parse(arguments: &[&str]) -> CheckArgs {
    let arguments = [&["check"][..], arguments].concat();
    Arguments::try_parse_from(arguments).expect("valid arguments").check
}

fn data(arguments: &[&str]) -> Value {
    let check = parse(arguments);
    let (counts, faults) = check.results.counts(None);
    assert!(faults.is_empty(), "{faults:?}");
    let event = check.report(CiContext::default()).event(Kind::ValidationPassed, (None, None), counts, None);
    let event: Value = serde_json::from_slice(event.expect("an event").bytes()).expect("JSON");
    event["data"].clone()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_check_is_about_a_service_an_environment_or_an_artifact() {
    let artifact = "pkg:cargo/rand@0.9.1";
    assert_eq!(
        data(&[
            "smoke",
            "--environment",
            "dev",
            "--service",
            "web",
            "--version",
            "v1",
            "--artifact",
            artifact
        ]),
        json!({
            "check": "smoke", "environment": "dev", "service": "web",
            "release": {"version": "v1", "artifact": artifact},
        })
    );
    assert_eq!(data(&["e2e", "--environment", "dev"]), json!({"check": "e2e", "environment": "dev"}));
    assert_eq!(data(&["scan", "--artifact", artifact]), json!({"check": "scan", "artifact": artifact}));
    let event =
        parse(&["scan"]).report(CiContext::default()).event(Kind::ValidationPassed, (None, None), None, None);
    let error = event.expect_err("no subject").to_string();
    assert!(error.ends_with("set --environment or --artifact"), "{error}");
}

#[test]
fn the_counts_of_all_files_are_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let junit = write(folder.path(), "junit.xml", "<testsuite><testcase/><testcase/></testsuite>");
    let tap = write(folder.path(), "a.tap", "1..2\nok\nnot ok\n");
    let data = data(&["unit", "--environment", "dev", "--junit", &junit, "--tap", &tap]);
    assert_eq!(data["counts"], json!({"passed": 3, "failed": 1, "skipped": 0}));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_flag_and_gives_no_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = write(folder.path(), "good.xml", "<testsuite><testcase/></testsuite>");
    let html = write(folder.path(), "bad.xml", "<html></html>");
    let missing = folder.path().join("missing").display().to_string();
    let check = parse(&["unit", "--junit", &good, "--junit", &html, "--sarif", &missing]);

    let (counts, faults) = check.results.counts(None);

    assert_eq!(counts, None);
    let [html_fault, missing_fault] = &faults[..] else { panic!("{faults:?}") };
    assert!(html_fault.starts_with(&format!("--junit {html}: is not JUnit XML: ")), "{html_fault}");
    assert!(missing_fault.starts_with(&format!("--sarif {missing}: cannot be read: ")), "{missing_fault}");
}

#[test]
fn a_file_of_an_earlier_run_does_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let tap = write(folder.path(), "a.tap", "1..1\nok\n");
    let check = parse(&["unit", "--tap", &tap]);
    let stamps = check.results.stamps();

    let (counts, faults) = check.results.counts(Some(&stamps));
    assert!(counts.is_none() && faults[0].contains("was not written by the command"), "{faults:?}");

    write(folder.path(), "a.tap", "1..2\nok\nok\n");
    let (counts, faults) = check.results.counts(Some(&stamps));
    assert_eq!((counts.map(|counts| counts.passed), faults), (Some(2), Vec::new()));
}

/// Returns what a check reports at the end of a command that exits with a code, and the faults.
fn ended(check: &mut RunningCheck, code: u8) -> (Value, Vec<String>) {
    let result = CommandResult { code, failure: None };
    let event = check.ended(&result, Some(Duration::from_secs(1))).expect("an event");
    (serde_json::from_slice(event.bytes()).expect("JSON"), check.faults.clone())
}

fn running(arguments: &[&str]) -> RunningCheck {
    let mut check = parse(arguments);
    let results = std::mem::take(&mut check.results);
    let stamps = results.stamps();
    RunningCheck { reported: check.report(CiContext::default()), results, stamps, faults: Vec::new() }
}

#[test]
fn a_check_without_its_results_does_not_count_as_passed() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.xml").display().to_string();
    let mut check = running(&["unit", "--environment", "dev", "--junit", &missing]);

    let (event, faults) = ended(&mut check, 0);
    // The ledger marks a pass of no cases, and neither trusts it nor takes it for a failure.
    assert_eq!(event["data"]["counts"], json!({"passed": 0, "failed": 0, "skipped": 0}));
    let reason = event["data"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with(&format!("--junit {missing}: cannot be read")), "{reason}");
    assert_eq!(faults, [reason]);

    let (event, _) = ended(&mut check, 1);
    assert_eq!(event["type"], "io.releaseledger.validation.failed.v1");
    assert!(event["data"]["counts"].is_null(), "{event}");
}

#[test]
fn cases_that_contradict_a_command_that_succeeded_are_a_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let tap = folder.path().join("a.tap").display().to_string();
    let mut check = running(&["unit", "--environment", "dev", "--tap", &tap]);
    for (text, code, expected) in [
        ("1..2\nok\nnot ok\n", 0, 1),
        ("1..0 # SKIP no database\n", 0, 1),
        ("1..2\nok\nnot ok\n", 1, 0),
        ("1..2\nok\nok\n", 0, 0),
    ] {
        write(folder.path(), "a.tap", text);
        let (_, faults) = ended(&mut check, code);
        assert_eq!(faults.len(), expected, "{text}: {faults:?}");
    }
}
