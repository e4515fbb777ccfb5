//! The contract of `trait Journal`. Each rule is a function that becomes a test for each implementation; rules that
//! apply only to JetStream are in `jetstream`.
//!
//! Each JetStream test starts its own nats-server: the first on PATH, or the program in the variable
//! `RELEASE_LEDGER_TEST_NATS`, which runs the suite with another version.

/// Creates a test of each rule for each implementation.
macro_rules! for_every_journal {
    ($($rule:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                super::$rule(crate::journal::fixture::InMemory::new()).await;
            })+
        }
        mod jetstream {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                super::$rule(crate::journal::fixture::SingleNode::start().await).await;
            })+
        }
    };
}

/// Creates a test of each rule on three nodes with three replicas. Starting a cluster takes seconds: list only rules
/// that replication could break.
macro_rules! for_three_nodes {
    ($($rule:ident),+ $(,)?) => {
        mod three_nodes {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                super::$rule(crate::journal::fixture::ThreeNodes::start().await).await;
            })+
        }
    };
}

mod append;
mod expected;
mod fixture;
mod gap;
mod helpers;
mod identity;
mod jetstream;
mod read;
mod server;
mod subject_filter;
mod submissions;
