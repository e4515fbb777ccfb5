//! An invalid address of the ledger: no output shows a password, and only a strict `run` fails for it.

use ledger_tests::{Command, Outcome};

use crate::PROGRAM;

/// URLs with a password, each with another mistake; the last one is valid, and nothing listens there.
const URLS: [&str; 7] = [
    "http://ci:s3cret@127.0.0.1:1/?x",
    "http://ci:s3cret@127.0.0.1:port/",
    "http://ci:s3cret@[::1/",
    "ftp://ci:s3cret@127.0.0.1/",
    "ci:s3cret@127.0.0.1",
    "http://ci:s3cret/2@127.0.0.1:1/",
    "http://ci:s3cret@127.0.0.1:1/",
];

/// Runs the program with a folder of its own for the spool and other state.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path().to_str().expect("UTF-8");
    let variables = [&[("HOME", home), ("XDG_STATE_HOME", home)], variables].concat();
    Command::start_with(PROGRAM, arguments, &variables).outcome().await
}

fn assert_hides_password(outcome: &Outcome) {
    let shown = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn no_command_shows_the_password_of_a_url() {
    let deploy = ["--environment", "production", "--service", "web", "--version", "v1"];
    let commands: [&[&str]; 5] = [
        &["state", "production"],
        &["gate", "production", "web", "v1"],
        &["spool", "send", "--retry-for", "1"],
        &[&["emit", "deploy.succeeded", "--retry-for", "1"], &deploy[..]].concat(),
        &[&["run", "--strict", "--retry-for", "1"], &deploy[..], &["--", "true"]].concat(),
    ];
    for url in URLS {
        for command in commands {
            let split = command.iter().position(|argument| *argument == "--").unwrap_or(command.len());
            let by_flag = [&command[..split], &["--url", url], &command[split..]].concat();
            assert_hides_password(&run(&by_flag, &[]).await);
        }
        assert_hides_password(&run(&["state", "production"], &[("RELEASE_LEDGER_URL", url)]).await);
        let by_help = run(&["state", "--help"], &[("RELEASE_LEDGER_URL", url)]).await;
        assert_hides_password(&by_help);
    }
}

#[tokio::test]
async fn a_url_in_the_wrong_place_is_shown_without_its_password() {
    for url in URLS.iter().filter(|url| url.contains("://")) {
        for arguments in
            [&["state", url][..], &["state", "production", url], &["emit", url], &["serve", "--only", url]]
        {
            let outcome = run(arguments, &[]).await;
            assert_ne!(outcome.code, Some(0));
            assert_hides_password(&outcome);
        }
    }
}

#[tokio::test]
async fn an_invalid_address_exits_with_2_and_one_line_that_names_its_flag() {
    for (flag, value, expected) in [
        ("--url", "http://h:port", "error: invalid --url or RELEASE_LEDGER_URL: invalid port number\n"),
        (
            "--url",
            "",
            "error: invalid --url or RELEASE_LEDGER_URL: it is empty; give the URL of the service, or leave it out\n",
        ),
        ("--tenant", "", "error: invalid --tenant or RELEASE_LEDGER_TENANT: a name must not be empty\n"),
    ] {
        for command in [&["state", "production"][..], &["gate", "production", "web", "v1"], &["demo"]] {
            let outcome = run(&[command, &[flag, value]].concat(), &[]).await;
            assert_eq!((outcome.code, &*outcome.stdout, &*outcome.stderr), (Some(2), "", expected));
        }
    }
}

#[tokio::test]
async fn run_deploys_with_an_invalid_address_unless_it_is_strict() {
    let run_with = |variable: (&'static str, &'static str), flags: &[&'static str]| {
        let deploy = ["run", "--environment", "production", "--service", "web", "--version", "v1"];
        let command = [&deploy, flags, &["--", "sh", "-c", "echo deployed; exit 3"][..]].concat();
        async move { run(&command, &[variable]).await }
    };
    for (variable, value) in [("RELEASE_LEDGER_URL", "http://h:port"), ("RELEASE_LEDGER_TENANT", "a b")] {
        let deployed = run_with((variable, value), &[]).await;
        assert_eq!((deployed.code, &*deployed.stdout), (Some(3), "deployed\n"), "{deployed:?}");
        assert_eq!(deployed.stderr.lines().count(), 1, "{deployed:?}");
        assert!(deployed.stderr.starts_with("release-ledger: invalid --"), "{deployed:?}");
        assert!(deployed.stderr.ends_with("; the deploy's reports are lost\n"), "{deployed:?}");

        let strict = run_with((variable, value), &["--strict"]).await;
        assert_eq!((strict.code, &*strict.stdout), (Some(125), ""), "{strict:?}");
        assert!(strict.stderr.starts_with("error: did not run the command: invalid --"), "{strict:?}");
    }
}
