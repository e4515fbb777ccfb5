//! Attacks on the built program, in small sizes: a client tries to exhaust the service or to shut others out.
//!
//! This test asserts what each attack must not achieve. `ops/attack` runs the same attacks in full sizes and also asserts
//! memory and response times, which depend on the machine.

#![expect(clippy::print_stdout, reason = "a run prints what it found")]

mod answers;
mod attacks;
mod bodies;
mod connections;
mod crowd;
mod flood;
mod followers;
mod history;
mod questions;
mod target;
mod watch;

use attacks::ATTACKS;
use target::Scale;

#[tokio::test(flavor = "multi_thread")]
async fn no_attack_succeeds() {
    let mut succeeded = Vec::new();
    for attack in ATTACKS {
        let result = attack.run(&Scale::SMALL).await;
        println!("{}: {}", attack.name, result.outcome.as_deref().unwrap_or_else(|reason| reason));
        println!("   before: {}\n   others: {}", attack.before, result.others());
        succeeded.extend(result.outcome.err().map(|reason| format!("{}: {reason}", attack.name)));
    }
    assert!(succeeded.is_empty(), "{}", succeeded.join("\n"));
}
