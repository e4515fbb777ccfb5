//! The program `release-ledger`, for tests.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    release_ledger::run().await
}
