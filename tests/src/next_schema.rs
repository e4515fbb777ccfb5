//! The program `release-ledger` with another schema version of the projections, for tests of upgrades.

use std::process::ExitCode;

use ledger_projections::SchemaVersion;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The additions of the next schema version: a generated column and an index.
const ADDITIONS: &str = "ALTER TABLE lane_changes ADD COLUMN is_removal boolean
        GENERATED ALWAYS AS (version IS NULL AND switched_to IS NULL) STORED;
    CREATE INDEX lane_changes_removals ON lane_changes (environment_id, position) WHERE is_removal";

fn main() -> ExitCode {
    let SchemaVersion { version, migrator } = SchemaVersion::CURRENT;
    let mut migrations: Vec<Migration> = migrator.iter().cloned().collect();
    let number = migrations.last().map_or(1, |last| last.version + 1);
    let additions =
        Migration::new(number, "removals".into(), MigrationType::Simple, ADDITIONS.into_sql_str(), false);
    migrations.push(additions);
    // `SchemaVersion` needs a static reference; the process keeps the migrator until it exits.
    let migrator: &'static Migrator = Box::leak(Box::new(Migrator::with_migrations(migrations)));
    release_ledger::run_with(SchemaVersion { version: version + 1, migrator })
}
