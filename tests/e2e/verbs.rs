//! The verbs for what people and pipelines do: each records the event that it names, with the facts of the CI.

use ledger_tests::{Command, Outcome, Servers, Service, deploy};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::PROGRAM;

const ARTIFACT: &str = "pkg:oci/web@sha256:1e69f8162c23cc6c981ef52ea27680dc1c8a7ed24f68fd48a2c2c5f9527e51cc";

/// Variables of a run in GitHub Actions that another person started again.
const GITHUB: [(&str, &str); 9] = [
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_SHA", "6973793ef3442b763e3f66547344994e5c778d6c"),
    ("GITHUB_EVENT_NAME", "push"),
    ("GITHUB_RUN_ID", "7"),
    ("GITHUB_RUN_ATTEMPT", ""),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "acme/web"),
    ("GITHUB_ACTOR", "ada"),
    ("GITHUB_TRIGGERING_ACTOR", "grace"),
];

#[tokio::test]
async fn a_freeze_closes_the_gate_until_it_is_lifted_and_is_never_spooled() {
    let mut ledger = Ledger::start().await;
    ledger.deploy("v1").await;

    let frozen = ledger.run(&["freeze", "production", "--reason", "The sale starts."]).await;
    let again = ledger.run(&["freeze", "production", "--reason", "again"]).await;
    let denied = ledger.run(&["gate", "production", "web", "v1", "--wait-for", "2"]).await;
    let lifted = ledger.run(&["unfreeze", "production", "--by", "grace"]).await;
    let allowed = ledger.run(&["gate", "production", "web", "v1", "--wait-for", "3"]).await;

    assert_eq!((frozen.code, &*frozen.stdout), (Some(0), "recorded at position 2\n"), "{}", frozen.stderr);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("freeze manual of production is already active"), "{}", again.stderr);
    assert_eq!((denied.code, lifted.code, allowed.code), (Some(1), Some(0), Some(0)), "{}", allowed.stderr);
    let [.., freeze, lift] = &ledger.events().await[..] else { panic!("two events") };
    assert_eq!(
        freeze["data"],
        json!({
            "environment": "production", "freeze_id": "manual", "reason": "The sale starts.",
            "actor": {"type": "person", "name": "ada"},
        })
    );
    assert_eq!(
        (&lift["data"]["freeze_id"], &lift["data"]["actor"]["name"]),
        (&json!("manual"), &json!("grace"))
    );

    ledger.service.kill().await;
    let lost = ledger.run(&["freeze", "production", "--reason", "x", "--retry-for", "1"]).await;
    assert_eq!(lost.code, Some(1));
    assert!(lost.stderr.contains("commands are never spooled"), "{}", lost.stderr);
    let spooled = ledger.run(&["spool", "list", "--json"]).await;
    let spooled: Value = serde_json::from_str(&spooled.stdout).expect("JSON");
    assert_eq!(spooled["ledgers"], json!([]));
}

#[tokio::test]
async fn a_decision_about_a_misspelt_environment_is_refused_with_the_known_ones() {
    let ledger = Ledger::start().await;
    ledger.deploy("v1").await;
    let freeze = ["freeze", "prodution", "--reason", "x"];

    let frozen = ledger.run(&freeze).await;
    let approved = ledger.run(&["approve", "prodution", "web", "v2"]).await;
    let history = ledger.run(&["history", "--environment", "prodution"]).await;
    let new = ledger.run(&[&freeze[..], &["--new"]].concat()).await;

    let unknown = "no event names the environment prodution; did you mean production? known: production";
    for refused in [frozen, approved] {
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(unknown) && refused.stderr.contains("--new"), "{}", refused.stderr);
    }
    assert_eq!(history.code, Some(0));
    assert!(history.stderr.contains(unknown), "{}", history.stderr);
    assert_eq!(new.code, Some(0), "{}", new.stderr);
}

#[tokio::test]
async fn a_check_of_a_misspelt_service_or_version_is_recorded_with_a_note() {
    let ledger = Ledger::start().await;
    ledger.deploy("v1").await;
    let check = |service, version| {
        [
            "check",
            "passed",
            "smoke",
            "--environment",
            "production",
            "--service",
            service,
            "--version",
            version,
        ]
    };
    for (service, version, never) in [
        ("wbe", "v1", Some("production never ran wbe: check the spelling; did you mean web?")),
        ("web", "v11", Some("production never ran web v11: check the spelling")),
        ("web", "v1", None),
    ] {
        let checked = ledger.run(&check(service, version)).await;
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        let note = never.unwrap_or("never ran");
        assert_eq!(checked.stderr.contains(note), never.is_some(), "{}", checked.stderr);
    }
}

#[tokio::test]
async fn deploys_are_approved_and_rejected_by_persons() {
    let ledger = Ledger::start().await;
    ledger.deploy("v1").await;
    let approve = ["approve", "production", "web", "v2", "--until", "1d", "--by", "noa"];
    let approved = ledger.run(&approve).await;
    let rejected = ledger.run(&["reject", "production", "web", "v2", "--reason", "Wait."]).await;

    assert_eq!((approved.code, rejected.code), (Some(0), Some(0)), "{}{}", approved.stderr, rejected.stderr);
    let [_, approval, rejection] = &ledger.events().await[..] else { panic!("three events") };
    assert_eq!(approval["type"], "io.releaseledger.approval.granted.v1");
    assert!(
        approval["data"]["expires_at"].is_string() && approval["data"]["actor"]["name"] == "noa",
        "{approval}"
    );
    assert_eq!(
        rejection["data"],
        json!({
            "environment": "production", "service": "web", "release": {"version": "v2"}, "reason": "Wait.",
            "actor": {"type": "person", "name": "ada"},
        })
    );
}

#[tokio::test]
async fn a_version_is_revoked_by_its_artifact_and_reinstated() {
    let ledger = Ledger::start().await;
    let deployed =
        ["emit", "deploy.succeeded", "--environment", "production", "--service", "web", "--version", "v1"];
    assert_eq!(ledger.run(&[&deployed[..], &["--artifact", ARTIFACT]].concat()).await.code, Some(0));

    let of_web = ["--environment", "production", "--service", "web", "--reason", "It leaks."];
    let revoked = ledger.run(&[&["revoke", "v1"][..], &of_web].concat()).await;
    let unknown = ledger.run(&[&["revoke", "v9"][..], &of_web].concat()).await;
    let reinstated = ledger.run(&["reinstate", ARTIFACT, "--reason", "It does not."]).await;

    assert_eq!(
        (revoked.code, reinstated.code),
        (Some(0), Some(0)),
        "{}{}",
        revoked.stderr,
        reinstated.stderr
    );
    assert!(revoked.stderr.contains(&format!("v1 of web is {ARTIFACT}")), "{}", revoked.stderr);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("it is unknown which artifact v9 of web"), "{}", unknown.stderr);
    let [_, revocation, withdrawal] = &ledger.events().await[..] else { panic!("three events") };
    assert_eq!(
        (&revocation["data"]["artifact"], &revocation["data"]["reason"]),
        (&json!(ARTIFACT), &json!("It leaks."))
    );
    assert_eq!(withdrawal["type"], "io.releaseledger.artifact.reinstated.v1");
}

#[tokio::test]
async fn a_version_of_several_artifacts_is_not_revoked_and_they_are_listed() {
    let ledger = Ledger::start().await;
    let other = ARTIFACT.replace("sha256:1e", "sha256:2f");
    for artifact in [ARTIFACT, other.as_str()] {
        let deploy = ["emit", "deploy.succeeded", "--environment", "production", "--service", "web"];
        let release = ["--version", "v1", "--artifact", artifact];
        assert_eq!(ledger.run(&[&deploy[..], &release].concat()).await.code, Some(0), "{artifact}");
    }
    let of_web = ["--environment", "production", "--service", "web", "--reason", "It leaks."];

    let refused = ledger.run(&[&["revoke", "v1"][..], &of_web].concat()).await;

    assert_eq!(refused.code, Some(1));
    for artifact in [ARTIFACT, other.as_str()] {
        assert!(refused.stderr.contains(artifact), "{artifact}: {}", refused.stderr);
    }
    assert_eq!(ledger.events().await.len(), 2);
}

#[tokio::test]
async fn switches_removals_and_retirements_are_recorded() {
    let mut ledger = Ledger::start().await;
    for arguments in [
        &["switch", "production", "web", "green", "--target", "eu"][..],
        &["remove", "production", "web", "--target", "eu", "--slot", "blue"],
        &["retire", "production", "--reason", "It moved."],
    ] {
        let outcome = ledger.run(arguments).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stdout.starts_with("recorded at position "), "{}", outcome.stdout);
    }
    let [switch, removal, retirement] = &ledger.events().await[..] else { panic!("three events") };
    let lane =
        |slot: &str| json!({"environment": "production", "service": "web", "target": "eu", "slot": slot});
    assert_eq!((&switch["data"], &removal["data"]), (&lane("green"), &lane("blue")));
    assert_eq!(retirement["data"]["reason"], "It moved.");

    ledger.service.kill().await;
    let spooled = ledger.run(&["switch", "production", "web", "blue", "--retry-for", "1"]).await;
    assert_eq!((spooled.code, &*spooled.stdout), (Some(0), ""), "{}", spooled.stderr);
    assert!(spooled.stderr.starts_with("release-ledger: spooled: 1 event in "), "{}", spooled.stderr);
    let state = ledger.run(&["state", "production"]).await;
    let waiting = "1 event waits in the spool for this ledger; `release-ledger spool send` sends them";
    assert!(state.stderr.contains(waiting), "{}", state.stderr);
}

#[tokio::test]
async fn a_check_is_reported_with_the_counts_of_its_files() {
    let ledger = Ledger::start().await;
    let junit =
        ledger.write("junit.xml", "<testsuite><testcase/><testcase><failure/></testcase></testsuite>");
    let of_web = ["--environment", "production", "--service", "web", "--version", "v1"];

    let passed = ledger.run(&[&["check", "passed", "smoke"][..], &of_web].concat()).await;
    let failed =
        ledger.run(&[&["check", "failed", "unit"][..], &of_web, &["--junit", &junit]].concat()).await;

    assert_eq!((passed.code, failed.code), (Some(0), Some(0)), "{}{}", passed.stderr, failed.stderr);
    let [smoke, unit] = &ledger.events().await[..] else { panic!("two events") };
    assert_eq!(
        smoke["data"],
        json!({"environment": "production", "service": "web", "release": {"version": "v1"}, "check": "smoke"})
    );
    assert_eq!(unit["type"], "io.releaseledger.validation.failed.v1");
    assert_eq!(unit["data"]["counts"], json!({"passed": 1, "failed": 1, "skipped": 0}));
}

#[tokio::test]
async fn a_check_that_runs_is_reported_with_its_start_its_end_and_its_counts() {
    let ledger = Ledger::start().await;
    let tap = ledger.home.path().join("results.tap");
    let tap = tap.to_str().expect("UTF-8");
    let script = format!("printf '1..2\\nok\\nok\\n' > {tap}; echo checked; exit 3");
    let check = ["check", "run", "e2e", "--environment", "staging", "--tap", tap, "--", "sh", "-c"];

    let ran = ledger.run(&[&check[..], &[script.as_str()]].concat()).await;
    let stale = ledger.run(&[&check[..], &["true"]].concat()).await;

    assert_eq!((ran.code, &*ran.stdout), (Some(3), "checked\n"), "{}", ran.stderr);
    assert_eq!(stale.code, Some(125));
    assert!(
        stale.stderr.contains(&format!("error: --tap {tap}: was not written by the command")),
        "{}",
        stale.stderr
    );
    let [started, failed, _, passed] = &ledger.events().await[..] else { panic!("four events") };
    assert_eq!(started["type"], "io.releaseledger.validation.started.v1");
    assert_eq!(failed["type"], "io.releaseledger.validation.failed.v1");
    assert!(
        started["data"]["run"].is_string() && started["data"]["run"] == failed["data"]["run"],
        "{failed}"
    );
    assert_eq!(failed["data"]["counts"], json!({"passed": 2, "failed": 0, "skipped": 0}));
    assert_eq!(failed["data"]["reason"], "sh ended with exit status: 3");
    // It counts neither as passed nor as failed.
    assert_eq!(passed["type"], "io.releaseledger.validation.passed.v1");
    assert_eq!(passed["data"]["counts"], json!({"passed": 0, "failed": 0, "skipped": 0}));
    let client = ledger.service.client();
    let entry = client.entries().await.pop().expect("an entry");
    assert_eq!(entry["anomalies"], json!(["counts_contradict"]));
}

#[tokio::test]
async fn a_check_runs_while_the_ledger_is_down() {
    let mut ledger = Ledger::start().await;
    ledger.service.kill().await;
    let check =
        ["check", "run", "e2e", "--environment", "staging", "--retry-for", "1", "--", "sh", "-c", "exit 4"];
    let ran = ledger.run(&check).await;
    assert_eq!(ran.code, Some(4));
    assert!(ran.stderr.starts_with("release-ledger: spooled: the check's reports are in "), "{}", ran.stderr);

    ledger.service.restart().await;
    assert_eq!(ledger.run(&["spool", "send"]).await.code, Some(0));
    assert_eq!(ledger.events().await.len(), 2);
}

#[tokio::test]
async fn a_report_is_corrected_by_its_position() {
    let ledger = Ledger::start().await;
    ledger.deploy("v1").await;
    let corrected = ledger.run(&["correct", "1", "--version", "v2", "--reason", "The wrong job."]).await;
    let frozen = ledger.run(&["freeze", "production", "--reason", "x"]).await;
    let refused = ledger.run(&["correct", "3", "--target", "eu"]).await;
    let again = ledger.run(&["correct", "1", "--target", "eu"]).await;

    assert_eq!((corrected.code, frozen.code), (Some(0), Some(0)), "{}", corrected.stderr);
    let events = ledger.events().await;
    assert_eq!((&events[1]["time"], &events[1]["type"]), (&events[0]["time"], &events[0]["type"]));
    assert_eq!(
        events[1]["data"],
        json!({
            "environment": "production", "service": "web", "release": {"version": "v2"}, "reason": "The wrong job.",
            "actor": {"type": "person", "name": "ada"},
            "corrects": {"source": events[0]["source"], "id": events[0]["id"]},
        })
    );
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("entry 3 cannot be corrected as freeze.started"), "{}", refused.stderr);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("entry 1 is corrected by 2; correct 2"), "{}", again.stderr);
}

#[tokio::test]
async fn a_policy_is_checked_declared_compared_and_edited() {
    let ledger = Ledger::start().await;
    let file = ledger.write("policy.json", r#"{"approvals": 1, "required_validations": ["smoke"]}"#);
    let other = ledger.write("other.json", r#"{"approvals": 2, "required_validations": ["smoke"]}"#);

    let checked = ledger.run(&["policy", "check", &file]).await;
    let declared = ledger.run(&["policy", "set", "production", &file, "--reason", "Start."]).await;
    let same = ledger.run(&["policy", "diff", "production", &file, "--exit-code"]).await;
    let different = ledger.run(&["policy", "diff", "production", &other, "--exit-code"]).await;
    let shown_only = ledger.run(&["policy", "diff", "production", &other]).await;
    let edit = ["policy", "edit", "production"];
    let unchanged = ledger.run_with(&edit, &[("EDITOR", "true")]).await;
    let broken = ledger.run_with(&edit, &[("EDITOR", "sed -i s/approvals/approvels/")]).await;
    let edited = ledger.run_with(&edit, &[("VISUAL", "sed -i s/1/3/"), ("EDITOR", "false")]).await;
    let no_editor = ledger.run(&edit).await;
    let shown = ledger.run(&["policy", "show", "production", "--wait-for", "2"]).await;

    assert_eq!((checked.code, declared.code, same.code), (Some(0), Some(0), Some(0)), "{}", declared.stderr);
    assert_eq!(
        (different.code, &*different.stdout),
        (Some(3), "approvals: 1 -> 2\n"),
        "{}",
        different.stderr
    );
    assert_eq!((shown_only.code, shown_only.stdout), (Some(0), different.stdout));
    assert_eq!(unchanged.stdout, "the policy of production is unchanged\n", "{}", unchanged.stderr);
    assert_eq!(broken.code, Some(1));
    assert!(broken.stderr.contains("invalid policy: approvels is not a known member"), "{}", broken.stderr);
    let kept = broken.stderr.split("your edit is in ").nth(1).and_then(|rest| rest.split(": ").next());
    let kept = kept.expect("the path of the edit");
    assert!(std::fs::read_to_string(kept).expect("the edit").contains("approvels"), "{kept}");
    std::fs::remove_file(kept).expect("removed");
    assert_eq!((edited.code, &*edited.stdout), (Some(0), "recorded at position 2\n"), "{}", edited.stderr);
    assert_eq!(no_editor.code, Some(1));
    assert!(no_editor.stderr.contains("error: no editor; set VISUAL or EDITOR"), "{}", no_editor.stderr);
    assert!(shown.stdout.contains("\"approvals\": 3"), "{}", shown.stdout);
}

#[tokio::test]
async fn every_command_that_records_has_the_facts_of_the_ci() {
    let ledger = Ledger::start().await;
    let lane = ["--environment", "production", "--service", "web", "--version", "v1"];
    let emitted = [&["emit", "deploy.succeeded"][..], &lane].concat();
    let check = ["check", "passed", "smoke", "--environment", "production"];
    let mark = ["mark", "production", "latest", "--as", "known-good", "--reason", "We tried it."];
    for arguments in [&emitted[..], &check, &mark, &["freeze", "production", "--reason", "x"]] {
        let outcome = ledger.run_with(arguments, &GITHUB).await;
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
    }
    let named = [&GITHUB[..], &[("RELEASE_LEDGER_ACTOR", "workload:ci")]].concat();
    assert_eq!(ledger.run_with(&["unfreeze", "production"], &named).await.code, Some(0));
    let with_id = [&emitted[..], &["--id", "once"]].concat();
    assert_eq!(ledger.run_with(&with_id, &GITHUB).await.code, Some(0));
    assert_eq!(ledger.run_with(&[&emitted[..], &["--no-ci"]].concat(), &GITHUB).await.code, Some(0));

    let events = ledger.events().await;
    let grace = json!({"type": "person", "name": "grace"});
    let page = json!([{"rel": "pipeline", "href": "https://github.com/acme/web/actions/runs/7"}]);
    for event in &events[..4] {
        assert_eq!(event["source"], "https://github.com/acme/web", "{event}");
        assert_eq!((&event["data"]["actor"], &event["data"]["links"]), (&grace, &page), "{event}");
    }
    let deploy = &events[0]["data"];
    assert_eq!(
        (&deploy["deployment"], &deploy["release"]["commit"]),
        (&json!("github-7"), &json!(GITHUB[1].1))
    );
    assert_eq!(events[4]["data"]["actor"], json!({"type": "workload", "name": "ci"}));
    // With an id, the source is the project all the same.
    for (event, source) in events[5..].iter().zip(["https://github.com/acme/web", "release-ledger-cli"]) {
        assert_eq!(event["source"], source, "{event}");
        assert!(event["data"]["actor"].is_null() && event["data"]["links"].is_null(), "{event}");
    }
}

#[tokio::test]
async fn the_gate_learns_from_the_ci_who_asks() {
    let ledger = Ledger::start().await;
    ledger.deploy("v1").await;
    let policy = ledger.write("policy.json", r#"{"approvals": 1}"#);
    assert_eq!(ledger.run(&["policy", "set", "production", &policy]).await.code, Some(0));
    assert_eq!(ledger.run(&["approve", "production", "web", "v2", "--by", "grace"]).await.code, Some(0));
    let gate = ["gate", "production", "web", "v2", "--wait-for", "3"];

    // grace started the run: her own approval does not count.
    let own = ledger.run_with(&gate, &GITHUB).await;
    let other = ledger.run_with(&gate, &[("RELEASE_LEDGER_ACTOR", "ada")]).await;

    assert_eq!((own.code, other.code), (Some(1), Some(0)), "{}{}", own.stderr, other.stderr);
}

#[tokio::test]
async fn a_url_works_without_its_scheme_and_with_the_path_of_the_api() {
    let ledger = Ledger::start().await;
    ledger.deploy("v1").await;
    let host = ledger.service.url().trim_start_matches("http://").to_owned();
    for url in [host.clone(), format!("{host}/v1"), format!("http://{host}/v1/")] {
        let outcome = ledger.run(&["position", "--url", &url, "--header", "X-Access: let me in"]).await;
        assert_eq!(outcome.code, Some(0), "{url}: {}", outcome.stderr);
    }
}

/// A service, and commands with a folder of their own.
struct Ledger {
    service: Service,
    home: TempDir,
    _servers: Servers,
}

impl Ledger {
    async fn start() -> Self {
        let servers = Servers::start().await;
        let service = Service::start(PROGRAM, &servers, &[]).await;
        Self { service, home: tempfile::tempdir().expect("a folder"), _servers: servers }
    }

    async fn deploy(&self, version: &str) {
        let event = deploy("deployed", "2026-08-01T12:00:00Z", "production", "web", version);
        self.service.client().record_and_wait(&event).await;
    }

    /// Writes a file; returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    async fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, &[]).await
    }

    /// Runs the program outside of any CI, except for these variables.
    async fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let home = self.home.path().to_str().expect("UTF-8");
        let url = self.service.url();
        let mut all = vec![
            ("HOME", home),
            ("XDG_CONFIG_HOME", home),
            ("XDG_STATE_HOME", home),
            ("USER", "ada"),
            ("VISUAL", ""),
            ("EDITOR", ""),
            ("RELEASE_LEDGER_ACTOR", ""),
            ("RELEASE_LEDGER_URL", &*url),
        ];
        all.extend(ledger_tests::no_ci());
        all.extend(variables);
        Command::start_with(PROGRAM, arguments, &all).outcome().await
    }

    /// Returns all events in the order of positions.
    async fn events(&self) -> Vec<Value> {
        let client = self.service.client();
        client.wait_for_projections(client.positions().await.1).await;
        client.entries().await.into_iter().map(|entry| entry["event"].clone()).collect()
    }
}
