//! Everyday questions about an imported history: each is one command, whose answer is compared with a computation by a
//! shell and jq on the history's file.

use std::os::unix::fs::symlink;

use ledger_tests::{Command, RealHistory};

use crate::PROGRAM;

/// An everyday question.
struct Question {
    question: &'static str,
    /// The command, with what makes its lines comparable.
    command: &'static str,
    /// The computation of the same lines; `rows` prints the history, one row per line.
    computation: &'static str,
}

const QUESTIONS: &[Question] = &[
    Question {
        question: "Who deployed what on a day?",
        // The importer has no credentials.
        command: r#"release-ledger history --type deploy.succeeded --since "$DAY" --until "$NEXT_DAY" --all -o ndjson |
            jq -r '[.environment, .service, .summary, (.by | rtrimstr(" (claimed)"))] | @tsv'"#,
        computation: r"rows | jq -r 'select(.version and (.at | startswith(env.DAY))) |
            [.environment, .service, .version, .actor] | @tsv'",
    },
    Question {
        question: "What changed in production between two moments, with what came and went?",
        command: r#"release-ledger diff production --from "$FROM" --to "$TO" -o ndjson |
            jq -r '[.service, .change, .from // "-", .to // "-"] | @tsv'"#,
        computation: r#"rows | jq -nr '
            def at($time): reduce (.[] | select(.environment == "production" and .at <= $time)) as $row
                ({}; if $row.version then .[$row.service] = $row.version else del(.[$row.service]) end);
            [inputs] | at(env.FROM) as $from | at(env.TO) as $to | $from + $to | keys[] | . as $service |
            [$from[$service], $to[$service]] | select(.[0] != .[1]) |
            [$service, (if .[0] == null then "added" elif .[1] == null then "removed" else "changed" end),
             .[0] // "-", .[1] // "-"] | @tsv'"#,
    },
    Question {
        question: "When did a release reach production, and where else did it run?",
        command: r#"release-ledger find "$VERSION" -o ndjson |
            jq -r '[.environment, .service, .first_live] | @tsv'"#,
        computation: r"rows | jq -sr '[.[] | select(.version == env.VERSION)] |
            group_by([.environment, .service])[] | .[0] | [.environment, .service, .at] | @tsv'",
    },
    Question {
        question: "Where does it run now?",
        command: r#"release-ledger find "$VERSION" -o ndjson |
            jq -r 'select(.until == null) | [.environment, .service] | @tsv'"#,
        computation: r"rows | jq -sr 'group_by([.environment, .service])[] | max_by(.n) |
            select(.version == env.VERSION) | [.environment, .service] | @tsv'",
    },
    Question {
        question: "How often do we deploy, by week and service?",
        command: r#"release-ledger frequency production --since "$FROM" --until "$TO" --by week -o ndjson |
            jq -r '[.period, .service, .deploys] | @tsv'"#,
        // The first of January 1970 is a Thursday.
        computation: r#"rows | jq -sr '
            def monday: (fromdateiso8601 / 86400 | floor) | (. - (. + 3) % 7) * 86400 | todate[:10];
            [.[] | select(.environment == "production" and .version and .at >= env.FROM and .at < env.TO)] |
            group_by([(.at | monday), .service])[] | [(.[0].at | monday), .[0].service, length] | @tsv'"#,
    },
    Question {
        question: "Everything as CSV",
        command: r#"release-ledger history --all --until "$FROM" -o csv --no-headers | cut -d, -f1,4,5"#,
        computation: r#"rows | jq -r 'select(.at < env.FROM) | "\(.n),\(.environment),\(.service)"'"#,
    },
];

/// Asks all questions of a service into which the history was imported as its only entries.
pub(crate) async fn assert_answers(url: &str, history: &RealHistory) {
    let folder = tempfile::tempdir().expect("a folder");
    symlink(PROGRAM, folder.path().join("release-ledger")).expect("a link");
    let path = std::env::var_os("PATH").and_then(|path| path.into_string().ok()).expect("a path");
    let path = format!("{}:{path}", folder.path().display());
    let row = |eighths: usize| &history.rows[history.rows.len() * eighths / 8];
    let is_rare = |version: &str| {
        history.rows.iter().filter(|row| row.version.as_deref() == Some(version)).count() < 10
    };
    let mut versions =
        history.rows[history.rows.len() / 2..].iter().filter(|row| row.environment == "production");
    let version = versions.find_map(|row| row.version.clone().filter(|version| is_rare(version)));
    let day = &row(4).at[..10];
    let next_day = day.parse::<chrono::NaiveDate>().expect("a date").succ_opt().expect("a date").to_string();
    let file = history.file.to_string_lossy();
    let variables = [
        ("PATH", &*path),
        ("RELEASE_LEDGER_URL", url),
        ("HISTORY", &*file),
        ("DAY", day),
        ("NEXT_DAY", &*next_day),
        ("FROM", &*row(1).at),
        ("TO", &*row(2).at),
        ("VERSION", &*version.expect("a version that ran a few times")),
    ];

    for Question { question, command, computation } in QUESTIONS {
        let lines = async |script: &str| {
            let script = format!("set -euo pipefail; rows() {{ gzip -dcf \"$HISTORY\"; }}; {script}");
            let outcome = Command::start_with("bash", &["-c", &script], &variables).outcome().await;
            assert_eq!(outcome.code, Some(0), "{question}: {}", outcome.stderr);
            let mut lines: Vec<String> = outcome.stdout.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let (answer, expected) = (lines(command).await, lines(computation).await);

        // Nothing runs now that ran long ago: that answer may be empty.
        assert!(
            !expected.is_empty() || question.ends_with("now?"),
            "{question}: the computation finds nothing"
        );
        let only = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|line| !other.contains(line)).take(5).cloned().collect()
        };
        assert!(
            answer == expected,
            "{question}: {} lines, {} by the computation; only in the answer: {:?}; only in the computation: {:?}",
            answer.len(),
            expected.len(),
            only(&answer, &expected),
            only(&expected, &answer)
        );
    }
}
