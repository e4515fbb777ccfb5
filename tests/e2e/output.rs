//! What commands print: on a terminal through the pager, as YAML for programs; and what they say about misspelt names and
//! values that only the service can judge.

use ledger_tests::{Command, Outcome, deploy, event};
use serde_json::{Value, json};

use crate::PROGRAM;
use crate::execute::Setup;

/// Runs the program on a terminal, of which stdout and stderr are the same.
async fn on_terminal(arguments: &str, variables: &[(&str, &str)]) -> Outcome {
    let line = format!("'{PROGRAM}' {arguments}");
    let mut all = vec![("TERM", "xterm"), ("NO_COLOR", "1"), ("NO_PAGER", ""), ("LESS", "FRX")];
    all.extend(variables);
    Command::start_with("script", &["-qec", &line, "/dev/null"], &all).outcome().await
}

#[tokio::test]
async fn long_output_on_a_terminal_goes_through_the_pager() {
    let explain = "explain deploy.succeeded";
    let two_lines = ("PAGER", "head -n 2");

    let paged = on_terminal(explain, &[two_lines]).await;
    let complete = on_terminal(explain, &[("PAGER", "")]).await;
    let without = [
        on_terminal(explain, &[two_lines, ("NO_PAGER", "1")]).await,
        on_terminal(explain, &[two_lines, ("TERM", "dumb")]).await,
        on_terminal(&format!("{explain} --no-pager"), &[two_lines]).await,
    ];
    let absent = on_terminal(explain, &[("PAGER", "/no/such/pager -x")]).await;
    let piped = Command::start_with(PROGRAM, &["explain", "deploy.succeeded"], &[two_lines]).outcome().await;

    assert_eq!((paged.code, paged.stdout.lines().count()), (Some(0), 2), "{}", paged.stdout);
    let lines = complete.stdout.lines().count();
    assert!(complete.code == Some(0) && lines > 10, "{}", complete.stdout);
    for outcome in without {
        assert_eq!((outcome.code, outcome.stdout.lines().count()), (Some(0), lines), "{}", outcome.stdout);
    }
    assert_eq!((absent.code, absent.stdout.lines().count()), (Some(0), lines + 1), "{}", absent.stdout);
    assert!(absent.stdout.contains("cannot start the pager /no/such/pager: "), "{}", absent.stdout);
    assert!(piped.code == Some(0) && piped.stdout.lines().count() > 10, "{}", piped.stdout);
}

#[tokio::test]
async fn the_pager_changes_no_exit_status() {
    let setup = setup().await;
    let url = setup.service.url();
    // Both pagers end before they have read everything.
    for pager in ["head -n 0", "false"] {
        let variables = [("PAGER", pager), ("RELEASE_LEDGER_URL", &*url)];
        let changed = on_terminal("diff production --exit-code", &variables).await;
        let shown = on_terminal("history --all", &variables).await;
        let refused = on_terminal("state nowhere", &variables).await;
        assert_eq!((changed.code, shown.code, refused.code), (Some(3), Some(0), Some(1)), "{pager}");
    }
}

#[tokio::test]
async fn yaml_says_what_json_says() {
    let setup = setup().await;
    for question in [
        &["state", "production"] as &[&str],
        &["overview"],
        &["frequency", "--since=2026-08-01"],
        &["env", "list"],
        &["history"],
        &["points", "production"],
        &["why", "production", "web"],
        &["diff", "production"],
        &["explain", "deploy.succeeded"],
    ] {
        let output = async |format: &str| {
            let without_service = question[0] == "explain";
            let arguments = [question, &["-o", format]].concat();
            let outcome = match without_service {
                true => Command::start(PROGRAM, &arguments).outcome().await,
                false => setup.run(&arguments).await,
            };
            assert_eq!(outcome.code, Some(0), "{question:?}: {}", outcome.stderr);
            outcome.stdout
        };
        let json: Value = serde_json::from_str(&output("json").await).expect("JSON");
        let yaml: Value = serde_saphyr::from_str(&output("yaml").await).expect("YAML");
        assert_eq!(yaml, json, "{question:?}");
    }

    let all = setup.run(&["history", "--all", "-o", "yaml"]).await;
    let entries: Vec<Value> = serde_saphyr::from_multiple(&all.stdout).expect("YAML documents");
    assert_eq!(entries.len(), 2, "{}", all.stdout);
}

#[tokio::test]
async fn a_value_that_only_the_service_rejects_exits_as_an_invalid_argument() {
    let setup = setup().await;
    for (line, message) in [
        ("history --limit=5000", "limit: must be a whole number from 1 to 1000"),
        ("points production --limit=0", "limit: must be a number from 1 to 100"),
        ("rollback list --limit=0", "limit: must be"),
        ("freeze list --limit=101", "limit: must be a number from 1 to 100"),
        ("frequency --since=2026-08-02 --until=2026-08-01", "until: must be later than since"),
    ] {
        let refused = setup.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains(message), "{line}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn a_misspelt_name_is_answered_with_the_one_that_was_meant() {
    let setup = setup().await;
    for (line, code, meant) in [
        ("state prodution", 1, "production"),
        ("diff prodution", 1, "production"),
        ("points prodution", 1, "production"),
        ("point prodution latest", 1, "production"),
        ("horizon prodution", 1, "production"),
        ("targets prodution", 1, "production"),
        ("drift prodution", 1, "production"),
        ("manifest prodution", 1, "production"),
        ("policy show prodution", 1, "production"),
        ("audit prodution", 1, "production"),
        ("frequency prodution", 1, "production"),
        ("why prodution web", 1, "production"),
        ("gate prodution web v1", 2, "production"),
        ("overview --environment=prodution", 1, "production"),
        ("freeze list prodution", 1, "production"),
        ("unfreeze prodution --by=ada", 1, "production"),
        ("retire prodution --by=ada", 1, "production"),
        ("history --environment=prodution", 0, "production"),
        ("rollback list --environment=prodution", 0, "production"),
        ("rollback plan prodution --to=-1", 1, "production"),
        ("why production wbe", 1, "web"),
        ("gate production wbe v1", 2, "web"),
        ("gate production web v1 --target=defalut", 2, "default"),
        ("rollback plan production --to=-1 --service=wbe", 1, "web"),
        ("overview --service=wbe", 1, "web"),
        ("frequency --service=wbe", 0, "web"),
        ("history --service=wbe", 0, "web"),
        ("history --environment=production --service=wbe", 1, "web"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let outcome = setup.run(&arguments).await;
        let expected = format!("did you mean {meant}?");
        assert_eq!(outcome.code, Some(code), "{line}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(&expected), "{line}: {}", outcome.stderr);
    }
}

#[tokio::test]
async fn an_active_freeze_is_shown_with_its_environment_and_listed_after_its_end() {
    let setup = setup().await;
    let freeze = ["freeze", "production", "--reason=The sale starts.", "--name=sale", "--by=ada"];
    let frozen = setup.run(&freeze).await;
    assert_eq!(frozen.code, Some(0), "{}", frozen.stderr);

    for question in [&["overview"] as &[&str], &["env", "list"], &["state", "production"]] {
        let shown = setup.run(&[question, &["--wait-for=3"]].concat()).await;
        assert!(
            shown.stdout.contains("frozen") && shown.stdout.contains("sale"),
            "{question:?}: {}",
            shown.stdout
        );
    }
    let past = setup.run(&["state", "production", "--at=2"]).await;
    assert!(!past.stdout.contains("frozen"), "{}", past.stdout);
    let unfrozen = setup.run(&["unfreeze", "production", "--name=sale", "--by=grace"]).await;
    assert_eq!(unfrozen.code, Some(0), "{}", unfrozen.stderr);

    let now = setup.run(&["env", "list", "--wait-for=4"]).await;
    assert!(!now.stdout.contains("frozen"), "{}", now.stdout);
    let listed = setup.run(&["freeze", "list", "production", "-o", "ndjson", "--wait-for=4"]).await;
    let freeze: Value = serde_json::from_str(&listed.stdout).expect("one freeze");
    assert_eq!(
        [&freeze["freeze"], &freeze["state"], &freeze["by"], &freeze["lifted_by"], &freeze["reason"]],
        ["sale", "lifted", "ada", "grace", "The sale starts."]
    );
    let active = setup.run(&["freeze", "list", "--active"]).await;
    assert_eq!((active.code, &*active.stdout), (Some(0), "no freezes\n"), "{}", active.stderr);
}

#[tokio::test]
async fn a_quiet_report_prints_nothing_unless_it_fails() {
    let setup = setup().await;
    let folder = tempfile::tempdir().expect("a folder");
    let spool = format!("--spool={}", folder.path().join("spool").display());
    for line in [
        "emit deploy.succeeded --environment=production --service=api --version=v1 --quiet",
        "check passed e2e --environment=production --service=web --version=v2 -q",
        "remove production api -q",
    ] {
        let quiet = setup.run(&line.split(' ').chain([&*spool]).collect::<Vec<_>>()).await;
        assert_eq!((quiet.code, &*quiet.stdout, &*quiet.stderr), (Some(0), "", ""), "{line}");
    }
    for line in [
        "mark production -1 --as=bad --reason=x --by=ada -q",
        "freeze production --reason=x --by=ada --quiet",
    ] {
        let quiet = setup.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((quiet.code, &*quiet.stdout, &*quiet.stderr), (Some(0), "", ""), "{line}");
    }

    let refused = setup.run(&["freeze", "prodution", "--reason=x", "--by=ada", "-q"]).await;

    assert_eq!((refused.code, &*refused.stdout), (Some(1), ""), "{}", refused.stderr);
    assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
}

#[tokio::test]
async fn questions_about_drift_and_targets_exit_with_what_they_found() {
    let setup = setup().await;
    let questions = [&["drift", "production", "--exit-code"], &["targets", "production", "--exit-code"]];
    for question in questions {
        let nothing = setup.run(question).await;
        assert_eq!(nothing.code, Some(0), "{question:?}: {}", nothing.stderr);
    }
    let at_eu = json!({
        "environment": "production", "service": "web", "target": "eu", "release": {"version": "v3"},
    });
    let observed = json!({
        "environment": "production",
        "lanes": [{"service": "web", "target": "default", "release": {"version": "v1"}}],
    });
    let client = setup.service.client();
    client.record_and_wait(&event("3", "deploy.succeeded", "2026-08-03T10:00:00Z", at_eu)).await;
    client.record_and_wait(&event("4", "environment.observed", "2026-08-04T10:00:00Z", observed)).await;

    for question in questions {
        let found = setup.run(question).await;
        assert_eq!(found.code, Some(3), "{question:?}: {}{}", found.stdout, found.stderr);
        assert!(found.stdout.contains("web") && found.stderr.is_empty(), "{question:?}: {}", found.stderr);
    }
}

#[tokio::test]
async fn the_formats_and_the_alias_are_those_of_the_help() {
    let setup = setup().await;

    let names = setup.run(&["env", "list", "-o", "name"]).await;
    let without_headers = setup.run(&["env", "list", "--no-headers"]).await;
    let points = setup.run(&["points", "production"]).await;
    let wide = setup.run(&["points", "production", "-o", "wide"]).await;
    let why = setup.run(&["why", "production", "web"]).await;
    let who = setup.run(&["who", "production", "web"]).await;

    assert_eq!((names.code, &*names.stdout), (Some(0), "production\n"), "{}", names.stderr);
    assert!(without_headers.stdout.starts_with("production "), "{}", without_headers.stdout);
    let header = |outcome: &Outcome| outcome.stdout.lines().next().unwrap_or_default().to_owned();
    assert!(!header(&points).contains("digest") && header(&wide).contains("digest"), "{}", wide.stdout);
    assert_eq!((who.code, header(&who)), (Some(0), header(&why)), "{}", who.stderr);
}

#[tokio::test]
async fn lists_of_a_new_ledger_have_every_format() {
    let setup = setup().await;
    let folder = tempfile::tempdir().expect("a folder");
    let spool = format!("--spool={}", folder.path().join("spool").display());

    let messages = setup.run(&["quarantine", "list", "-o", "csv"]).await;
    let no_headers = setup.run(&["quarantine", "list", "-o", "csv", "--no-headers"]).await;
    let pages = setup.run(&["quarantine", "list", "--json"]).await;
    let spools = Command::start(PROGRAM, &["spool", "list", "-o", "yaml", &spool]).outcome().await;

    assert!(messages.stdout.starts_with("id,stored,source,state,reason,"), "{}", messages.stdout);
    assert_eq!((no_headers.code, &*no_headers.stdout), (Some(0), ""), "{}", no_headers.stderr);
    let page: Value = serde_json::from_str(&pages.stdout).expect("one page");
    assert_eq!(page["messages"], json!([]));
    let ledgers: Value = serde_saphyr::from_str(&spools.stdout).expect("YAML");
    assert_eq!(ledgers, json!({"ledgers": []}), "{}", spools.stderr);
}

/// Starts a service in which web ran v1 and runs v2.
async fn setup() -> Setup {
    let setup = Setup::start().await;
    let client = setup.service.client();
    client.record_and_wait(&deploy("1", "2026-08-01T10:00:00Z", "production", "web", "v1")).await;
    client.record_and_wait(&deploy("2", "2026-08-02T10:00:00Z", "production", "web", "v2")).await;
    setup
}
