//! Tests of the arithmetic of the benchmark: CPU time by component, and the comparison of runs.

#[expect(dead_code, reason = "only the benchmark reads files")]
mod compare;
#[expect(dead_code, reason = "only the benchmark reads the times of processes")]
mod cpu;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use compare::{FORMAT, Run, table};
use cpu::{Component, Cpu, Sample, Session, Ticks, component, median};

fn session(application: &str, database: &str) -> Session {
    Session { application: application.to_owned(), database: database.to_owned() }
}

#[test]
fn the_times_of_a_process_are_found_behind_any_name() {
    let stat = "42 (tricky) name (x) S 1 42 42 0 -1 4194560 100 200 0 0 31 12 7 5 20 0 1 0 99 1000 5";

    assert_eq!(Ticks::parse(stat), Some(Ticks { own: 43, children: 12 }));
}

#[test]
fn a_text_that_is_not_the_state_of_a_process_has_no_times() {
    for text in ["", "42 (name) S 1 2 3", "42 (name) S 1 42 42 0 -1 4194560 100 200 0 0 x 12 7 5"] {
        assert_eq!(Ticks::parse(text), None, "{text}");
    }
}

#[test]
fn a_session_belongs_to_the_component_that_its_application_name_states() {
    let of = |application: &str| {
        component("postgres: ledger ours 127.0.0.1(5) idle", Some(&session(application, "ours")), "ours")
    };

    assert_eq!(of("release-ledger projector"), Some(Component::Projector));
    assert_eq!(of("release-ledger recording"), Some(Component::Recording));
    assert_eq!(of("release-ledger queries"), Some(Component::OtherPostgres));
    assert_eq!(of("release-ledger"), Some(Component::OtherPostgres));
    assert_eq!(of("release-ledger bench"), Some(Component::Load));
}

#[test]
fn a_session_in_the_database_of_another_program_belongs_to_no_component() {
    let other = session("release-ledger projector", "theirs");

    assert_eq!(component("postgres: ledger theirs 127.0.0.1(5) idle", Some(&other), "ours"), None);
}

#[test]
fn a_process_without_a_session_is_known_by_its_title() {
    let of = |title: &str| component(title, None, "ours");

    assert_eq!(of("postgres: walwriter "), Some(Component::Background));
    assert_eq!(of("postgres: checkpointer "), Some(Component::Background));
    assert_eq!(of("postgres: autovacuum worker ours"), Some(Component::OtherPostgres));
    assert_eq!(of("postgres: ledger ours 127.0.0.1(5) startup"), Some(Component::OtherPostgres));
    assert_eq!(of(""), Some(Component::OtherPostgres));
}

#[test]
fn the_time_between_two_samples_counts_processes_that_began_or_ended() {
    let processes = |all: &[(u32, Option<Component>, u64)]| -> BTreeMap<u32, (Option<Component>, u64)> {
        all.iter().map(|(pid, component, ticks)| (*pid, (*component, *ticks))).collect()
    };
    let (projector, recording) = (Some(Component::Projector), Some(Component::Recording));
    let before = Sample {
        service: 10,
        nats: 100,
        load: 5,
        postmaster: 50,
        processes: processes(&[(1, projector, 20), (2, recording, 30), (9, None, 7)]),
    };
    // Process 2 has ended after 4 more ticks, 3 has begun, and 9 is of another program.
    let after = Sample {
        service: 12,
        nats: 103,
        load: 6,
        postmaster: 84,
        processes: processes(&[(1, projector, 25), (3, recording, 2), (9, None, 70)]),
    };

    let cpu = before.until(&after);

    assert_eq!(
        Component::ALL.map(|component| cpu.of(component) / 10_000.0),
        [2.0, 3.0, 5.0, 2.0, 0.0, 4.0, 1.0]
    );
    assert_eq!(cpu.sum(), 160_000.0, "the load generator is left out");
    assert_eq!(cpu.per_event(1_000).sum(), 160.0);
}

#[test]
fn a_median_is_taken_of_each_component() {
    let cpu = |service, nats| Sample::default().until(&Sample { service, nats, ..Sample::default() });

    let of_three = Cpu::median(&[cpu(1, 30), cpu(2, 10), cpu(9, 20)]);

    assert_eq!((of_three.of(Component::Service), of_three.of(Component::Nats)), (20_000.0, 200_000.0));
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    assert_eq!(median(&[]), 0.0);
}

/// Returns the report of a run.
fn report(commit: &str, cores: u64, ratio: f64, cpu: f64) -> Value {
    json!({
        "format": FORMAT,
        "conditions": {
            "commit": commit, "date": "2026-11-30T10:00:00Z", "load_average": "0.10 0.20 0.30", "size": "full",
            "processor": "a", "cores": cores, "nats": "n", "postgres": "p",
        },
        "measurements": [
            { "what": "events/s, batches", "unit": "/s", "floor": 100.0, "ours": 50.0, "ratio": ratio },
            { "what": "peak memory, batches", "unit": "MiB", "floor": 200.0, "ours": 80.0, "ratio": 0.4 },
        ],
        "cpu": [{ "what": "batches", "program": "ours", "sum": cpu }],
    })
}

fn parsed(report: &Value) -> Run {
    Run::parse(&report.to_string()).expect("the report is read")
}

/// Returns the cells of the row with this name.
fn row<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
    let row = table.lines().find_map(|line| line.strip_prefix(name)).expect("the table has the row");
    row.split_ascii_whitespace().collect()
}

#[test]
fn runs_on_one_machine_are_compared_by_ratio_memory_and_cpu() {
    let runs = [report("aaa", 2, 0.5, 97.0), report("bbb", 2, 0.6, 80.5)];

    let table = table(&runs.each_ref().map(parsed));

    assert_eq!(row(&table, "commit"), ["aaa", "bbb"]);
    assert_eq!(row(&table, "events/s, batches [ratio]"), ["0.50", "0.60"]);
    assert_eq!(row(&table, "peak memory, batches [MiB]"), ["80.00", "80.00"]);
    assert_eq!(row(&table, "CPU, batches, ours [µs/event]"), ["97.00", "80.50"]);
    assert!(!table.contains('*'), "{table}");
}

#[test]
fn a_run_on_another_machine_is_marked_with_the_reason() {
    let runs = [report("aaa", 8, 0.5, 97.0), report("bbb", 2, 0.6, 80.0)];

    let table = table(&runs.each_ref().map(parsed));

    assert_eq!(row(&table, "events/s, batches [ratio]"), ["*0.50", "0.60"]);
    assert!(table.contains("* aaa 2026-11-30T10:00:00Z cannot be compared"), "{table}");
    assert!(table.contains("number of cores: 8 instead of 2"), "{table}");
}

#[test]
fn a_figure_that_a_run_lacks_has_a_dash() {
    let mut older = report("aaa", 2, 0.5, 97.0);
    older["cpu"] = json!([]);

    let table = table(&[older, report("bbb", 2, 0.6, 80.0)].each_ref().map(parsed));

    assert_eq!(row(&table, "CPU, batches, ours [µs/event]"), ["-", "80.00"]);
}

#[test]
fn a_file_that_is_not_a_report_is_refused() {
    for text in ["", "[]", "{}", "{\"format\": \"release-ledger-bench-1\"}"] {
        assert!(Run::parse(text).is_err(), "{text}");
    }
    let mut without = report("aaa", 2, 0.5, 97.0);
    without["cpu"][0]["sum"] = Value::Null;
    let error = Run::parse(&without.to_string()).err().expect("refused");
    assert!(error.contains("sum"), "{error}");
}
