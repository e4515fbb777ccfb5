//! The contract of `trait Journal`. A rule is a function here and a test for each implementation;
//! what only JetStream can break or keep is in `jetstream`.
//!
//! JetStream is a nats-server of each test's own: the first on PATH, or the program that the variable
//! `RELEASE_LEDGER_TEST_NATS` names, to try the suite against another version.

/// Makes a test of each rule, for each implementation.
macro_rules! for_every_journal {
    ($($rule:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                super::$rule(crate::journal::bench::Memory::new()).await;
            })+
        }
        mod jetstream {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                super::$rule(crate::journal::bench::OnNats::start().await).await;
            })+
        }
    };
}

/// Makes a test of each of these rules on three nodes with three replicas. A cluster of a test's own takes
/// seconds: these are the rules that replicas could break.
macro_rules! for_three_nodes {
    ($($rule:ident),+ $(,)?) => {
        mod three_nodes {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                super::$rule(crate::journal::bench::OnThreeNodes::start().await).await;
            })+
        }
    };
}

mod append;
mod bench;
mod expected;
mod gap;
mod identity;
mod jetstream;
mod new_entries;
mod read;
mod reading;
mod server;
mod subject_filter;
