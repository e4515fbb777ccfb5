//! A reader's consumer: it goes with the reader, and another takes its place when its node dies.

use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use ledger_domain::Position;
use ledger_journal::{Record, SharedJournal, SubjectFilter, Until};
use ledger_tests::{Cluster, Node, STREAM};

use crate::journal::new_entries::{numbered, one};
use crate::journal::reading::{append, at, contents, next, next_positions, patiently, read, try_append};
use crate::journal::server::{Server, replicated};

/// Sooner than the server forgets a consumer by itself.
const SOON: Duration = Duration::from_secs(20);

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

    let gone = async {
        while consumers().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(while_reading, 1);
    tokio::time::timeout(SOON, gone).await.expect("none is left");
}

#[tokio::test]
async fn a_follower_ends_with_an_error_when_the_stream_was_made_again() {
    let server = Server::start().await;
    let journal = server.journal().await;
    append(&journal, &numbered(1..=3)).await;
    let before = journal.head().await.expect("a head").created;
    let mut records = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut records, 3).await;
    let raw = server.raw().await;
    let config = raw.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();

    raw.delete_stream(STREAM).await.expect("deleted");
    raw.create_stream(config).await.expect("made again");
    append(&journal, &numbered(11..=19)).await;

    let error = patiently(records.next()).await.expect("an answer").expect_err("not the entries of another");
    assert!(error.to_string().contains("it was made again at "), "{error}");
    assert!(patiently(records.next()).await.is_none());
    // Who begins now reads the stream that is there, which is told to be another.
    let mut anew = journal.read(SubjectFilter::All, at(3), Until::Position(at(9)));
    next_positions(&mut anew, 6).await;
    assert_ne!(journal.head().await.expect("a head").created, before);
}

/// Appends until it is taken, as those do who send again.
async fn append_at_last(journal: &SharedJournal, number: u64) {
    let taken = async {
        while try_append(journal, &[one(number)]).await[0].is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently(taken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_node_dies_or_halts_readers_get_everything_once_and_no_gaps() {
    let mut cluster = Cluster::start().await;
    let journal = replicated(&cluster).await;
    append(&journal, &numbered(1..=100)).await;
    let mut follower = journal.read(SubjectFilter::All, Position::START, Until::Forever);
    next_positions(&mut follower, 100).await;
    let mut number = 100;
    let mut append_ten = async |follower: &mut _| {
        for _ in 0..10 {
            number += 1;
            append_at_last(&journal, number).await;
            let record: Record = next(follower).await;
            assert!(matches!(&record, Record::Entry(entry) if entry.position == at(number)), "{record:?}");
            assert_eq!(read(&journal, SubjectFilter::All, number - 10, number).await.len(), 10);
        }
    };

    for node in Node::ALL {
        cluster.kill(node).await;
        append_ten(&mut follower).await;
        cluster.start_again(node).await;
        append_ten(&mut follower).await;
        cluster.healthy(STREAM).await;
    }
    let leader = cluster.leader(STREAM).await;
    cluster.pause(leader).await;
    append_ten(&mut follower).await;
    cluster.resume(leader);
    append_ten(&mut follower).await;

    assert_eq!(contents(&journal).await.len(), 180);
    assert!(follower.next().now_or_never().is_none(), "nothing more comes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_all_it_had_gets_it_again() {
    let mut cluster = Cluster::start().await;
    let journal = replicated(&cluster).await;
    append(&journal, &numbered(1..=2_000)).await;
    let lost = cluster.leader(STREAM).await;

    cluster.kill(lost).await;
    cluster.lose_store(lost);
    append_at_last(&journal, 2_001).await;
    cluster.start_again(lost).await;
    cluster.healthy(STREAM).await;
    for node in Node::ALL.into_iter().filter(|node| *node != lost) {
        cluster.kill(node).await;
        append_at_last(&journal, 2_002).await;
        assert_eq!(contents(&journal).await.len(), 2_002);
        cluster.start_again(node).await;
        cluster.healthy(STREAM).await;
    }
}
