//! A reader's consumer: it is deleted with the reader, and recreated when its node dies.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use ledger_domain::Position;
use ledger_journal::{Record, SharedJournal, SubjectFilter, Until};
use ledger_tests::{Cluster, Node, STREAM};

use crate::journal::helpers::{append, at, contents, next, next_positions, read, try_append, with_timeout};
use crate::journal::server::{Server, replicated};
use crate::journal::submissions::{numbered, one};

/// Shorter than the time after which the server deletes an inactive consumer.
const DELETION_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn readers_leave_no_consumers_behind() {
    let server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=10)).await;
    let stream = server.raw().await.get_stream(STREAM).await.expect("a stream");
    let consumers = async || stream.consumer_names().try_collect::<Vec<_>>().await.expect("names").len();

    let mut forever = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut forever, 10).await;
    let while_reading = consumers().await;
    read(&journal, SubjectFilter::All, 0, 10).await;
    read(&journal, SubjectFilter::All, 0, 5).await;
    drop(forever);

    let deleted = async {
        while consumers().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(while_reading, 1);
    tokio::time::timeout(DELETION_LIMIT, deleted).await.expect("all consumers are deleted");
}

#[tokio::test]
async fn a_follower_fails_when_the_stream_is_recreated() {
    let server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=3)).await;
    let before = journal.head().await.expect("a head").created;
    let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut records, 3).await;
    let raw = server.raw().await;
    let config = raw.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();

    raw.delete_stream(STREAM).await.expect("deleted");
    raw.create_stream(config).await.expect("recreated");
    append(&journal, &numbered(11..=19)).await;

    let error = with_timeout(records.next()).await.expect("a result").expect_err("the stream is another one");
    assert!(error.to_string().contains("the stream was recreated at "), "{error}");
    assert!(with_timeout(records.next()).await.is_none());
    // A new reader reads the new stream, and its head has another creation time.
    let mut new_reader = journal.read(SubjectFilter::All, at(3), Until::Position(at(9)));
    next_positions(&mut new_reader, 6).await;
    assert_ne!(journal.head().await.expect("a head").created, before);
}

/// Appends repeatedly until the append succeeds.
async fn append_with_retries(journal: &SharedJournal, number: u64) {
    let appended = async {
        while try_append(journal, &[one(number)]).await[0].is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    with_timeout(appended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_get_every_entry_once_and_no_gaps_while_nodes_are_killed_or_paused() {
    let mut cluster = Cluster::start().await;
    let journal = replicated(&cluster).await;
    append(&journal, &numbered(1..=100)).await;
    let mut follower = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut follower, 100).await;
    let mut number = 100;
    let mut append_ten = async |follower: &mut _| {
        for _ in 0..10 {
            number += 1;
            append_with_retries(&journal, number).await;
            let record: Record = next(follower).await;
            assert!(matches!(&record, Record::Entry(entry) if entry.position == at(number)), "{record:?}");
            assert_eq!(read(&journal, SubjectFilter::All, number - 10, number).await.len(), 10);
        }
    };

    for node in Node::ALL {
        cluster.kill(node).await;
        append_ten(&mut follower).await;
        cluster.restart(node).await;
        append_ten(&mut follower).await;
        cluster.wait_until_healthy(STREAM).await;
    }
    let leader = cluster.leader(STREAM).await;
    cluster.pause(leader).await;
    append_ten(&mut follower).await;
    cluster.resume(leader);
    append_ten(&mut follower).await;

    assert_eq!(contents(&journal).await.len(), 180);
    assert!(follower.next().now_or_never().is_none(), "there are no more entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_store_is_resynchronized() {
    let mut cluster = Cluster::start().await;
    let journal = replicated(&cluster).await;
    append(&journal, &numbered(1..=2_000)).await;
    let lost = cluster.leader(STREAM).await;

    cluster.kill(lost).await;
    cluster.delete_store(lost);
    append_with_retries(&journal, 2_001).await;
    cluster.restart(lost).await;
    cluster.wait_until_healthy(STREAM).await;
    for node in Node::ALL.into_iter().filter(|node| *node != lost) {
        cluster.kill(node).await;
        append_with_retries(&journal, 2_002).await;
        assert_eq!(contents(&journal).await.len(), 2_002);
        cluster.restart(node).await;
        cluster.wait_until_healthy(STREAM).await;
    }
}
