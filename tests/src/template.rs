//! An empty Postgres cluster, created once and copied for each test: `initdb` takes half of the CPU time of a short
//! test.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ledger_devstack::{Postgres, postgres};
use tokio::process::Command;

/// Directory of the data within the directory of a private Postgres.
const DATA: &str = "pgdata";

/// Accepts every password, because each copy of the cluster has another one.
const ACCESS_RULES: &str = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n";

/// Copies an empty cluster into the directory of a new private Postgres. Creates the cluster first if no earlier test
/// of this build did.
///
/// # Panics
/// The cluster cannot be created or copied.
pub(crate) async fn copy_cluster(directory: &Path, options: &postgres::Options) {
    let template = find_or_create(options).await;
    fs::create_dir_all(directory).expect("a directory");
    // `cp` keeps the owner: Postgres does not run as root.
    let copied =
        Command::new("cp").args(["-a", "--reflink=auto"]).arg(template.join(DATA)).arg(directory).status();
    assert!(copied.await.expect("cp runs").success(), "the cluster is copied");
    fs::write(directory.join(DATA).join("pg_hba.conf"), ACCESS_RULES).expect("access rules");
}

/// Returns the directory of the template. Tests that run at the same time wait for the one that creates it.
async fn find_or_create(options: &postgres::Options) -> PathBuf {
    let programs = options.program_directory().expect("Postgres is installed");
    let name = programs.to_string_lossy().replace('/', "-");
    let parent = target_directory().join("tmp");
    fs::create_dir_all(&parent).expect("a directory");
    let complete = parent.join(format!("postgres{name}"));
    let draft = parent.join(format!("postgres{name}.draft"));
    let lock = File::create(parent.join(format!("postgres{name}.lock"))).expect("a lock file");
    lock.lock().expect("locked");
    if !complete.exists() {
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", draft.display()),
            _ => {}
        }
        let created = Postgres::start(&draft, options).await.expect("Postgres starts");
        created.stop().await.expect("Postgres stops");
        fs::rename(&draft, &complete).expect("renamed");
    }
    complete
}

/// Returns cargo's target directory: the running program is `<target>/<profile>/deps/<name>`.
fn target_directory() -> PathBuf {
    let program = std::env::current_exe().expect("a program");
    program.ancestors().nth(3).expect("a target directory").to_owned()
}
