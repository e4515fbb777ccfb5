//! The program `release-ledger`, built where tests know its path.

use std::process::ExitCode;

fn main() -> ExitCode {
    release_ledger::run()
}
