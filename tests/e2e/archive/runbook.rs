//! Executes the commands in the code blocks of the runbook for backup and restore.

use std::path::Path;

use ledger_devstack::nats::User;
use ledger_tests::{Command, Servers, Service, delete_stream};

use super::{deploys, table_digests};
use crate::PROGRAM;

const RUNBOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/runbooks/backup-and-restore.md");

/// Stands in for systemd: starts and stops a service, and stops it when the script ends.
const SYSTEMCTL: &str = r#"
service=
systemctl() {
    case "$1" in
    start)
        release-ledger serve --listen="${RELEASE_LEDGER_URL#http://}" --access-authentication=off --log-filter=warn &
        service=$!
        until release-ledger position >"$SCRATCH" 2>&1; do kill -0 "$service"; done
        ;;
    stop) systemctl_end ;;
    esac
}
systemctl_end() {
    [ -z "$service" ] || { kill "$service"; wait "$service" || true; }
    service=
}
trap systemctl_end EXIT
"#;

#[tokio::test]
async fn the_runbook_of_backup_and_restore_restores_the_ledger() {
    let text = std::fs::read_to_string(RUNBOOK).expect("the runbook");
    let kept = tempfile::tempdir().expect("a folder");
    let service_address = free_address();

    let servers = Servers::start().await;
    let service = Service::start(PROGRAM, &servers, &[]).await;
    service.client().record_all(&deploys(1..=150)).await;
    let before = table_digests(&servers.postgres_url()).await;
    let position = service.client().text("/v1/position").await;
    let backup = execute(&commands(&text, "Back up"), &servers, kept.path(), &service_address).await;
    assert!(backup.contains("position  150"), "{backup}");
    drop((service, servers));

    let fresh = Servers::start().await;
    let lost = commands(&text, "Both stores are lost");
    execute(&lost, &fresh, kept.path(), &service_address).await;
    assert_eq!(table_digests(&fresh.postgres_url()).await, before);

    delete_stream(&fresh).await;
    let lost = commands(&text, "The stream is lost, the tables are there");
    execute(&lost, &fresh, kept.path(), &service_address).await;
    let service = Service::start(PROGRAM, &fresh, &[]).await;
    service.client().wait_for_projections(150).await;
    assert_eq!(table_digests(&fresh.postgres_url()).await, before);
    assert_eq!(service.client().text("/v1/position").await, position);
}

/// Returns the commands of a section.
fn commands(text: &str, heading: &str) -> String {
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().expect("a section");
    let mut commands = String::new();
    let mut is_command = false;
    for line in section.lines().map(str::trim_start) {
        match line {
            "```sh" => is_command = true,
            "```" => is_command = false,
            line if is_command => commands.extend([line, "\n"]),
            _ => {}
        }
    }
    assert!(commands.contains("release-ledger"), "{heading} has commands");
    commands
}

/// Executes commands with the program on PATH, asserts success, and returns their output.
async fn execute(commands: &str, servers: &Servers, kept: &Path, service_address: &str) -> String {
    let programs = kept.join("bin");
    std::fs::create_dir_all(&programs).expect("a folder");
    let program = programs.join("release-ledger");
    if !program.exists() {
        std::os::unix::fs::symlink(PROGRAM, &program).expect("linked");
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", programs.display(), search.to_string_lossy());
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let (archive, scratch) = (text(kept.join("archive")), text(kept.join("scratch")));
    let (journal, projections) = (servers.nats_url(), servers.postgres_url());
    let restorer = servers.nats_url_of(User::Restorer);
    let variables = [
        ("PATH", path.as_str()),
        ("ARCHIVE", &archive),
        ("SCRATCH", &scratch),
        ("RELEASE_LEDGER_JOURNAL__URL", &journal),
        ("RELEASE_LEDGER_PROJECTIONS__URL", &projections),
        ("RELEASE_LEDGER_URL", service_address),
        ("RESTORE_URL", &restorer),
    ];
    let script = format!("{SYSTEMCTL}{commands}");
    let outcome = Command::start_with("sh", &["-euc", &script], &variables).outcome().await;
    assert_eq!(outcome.code, Some(0), "{commands}\n{}\n{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
