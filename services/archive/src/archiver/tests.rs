//! An archiver that is killed, hindered or overtaken: the archive is whole whatever happens.

use bytes::Bytes;
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, EventId, Identity, Source as EventSource};
use ledger_journal::{Journal, MemoryJournal, NewEntry, Subject};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::racing_store::{Seen, racing_store};
use crate::{Access, Archive, Source as _};

fn clock() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn later() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1)
}

/// A journal with so many entries.
async fn journal(entries: u64) -> MemoryJournal {
    let journal = MemoryJournal::new(TenantName::default(), clock);
    append(&journal, 1..=entries).await;
    journal
}

async fn append(journal: &MemoryJournal, numbers: impl IntoIterator<Item = u64>) {
    let environment = EnvironmentName::parse("production").expect("a name");
    let subject = Subject::of(&TenantName::default(), &Payload::EnvironmentRetired(environment));
    let submissions = numbers.into_iter().map(|number| {
        let source = EventSource::parse("urn:test").expect("a source");
        let id = EventId::parse(&number.to_string()).expect("an id");
        let key = Identity { source, id }.key();
        NewEntry { subject: subject.clone(), key, bytes: Bytes::from(format!(r#"{{"number":{number}}}"#)) }
    });
    let answers = journal.append(&submissions.collect::<Vec<_>>()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

fn store(folder: &TempDir) -> Store {
    Store::open(&folder.path().to_string_lossy(), Access::Write, []).expect("a folder")
}

async fn archiver(store: Store, journal: &MemoryJournal, entries: u64) -> Result<Archiver, Error> {
    let limits = Limits { entries, bytes: 1 << 20, age: Duration::from_secs(3600) };
    let journal = std::sync::Arc::new(journal.clone());
    let believed = Duration::from_millis(600);
    Archiver::open_patiently(store, journal, TenantName::default(), limits, believed).await
}

async fn archive(folder: &TempDir, journal: &MemoryJournal, entries: u64) -> Archiver {
    archive_to(store(folder), journal, entries).await
}

async fn archive_to(store: Store, journal: &MemoryJournal, entries: u64) -> Archiver {
    let mut archiver = archiver(store, journal, entries).await.expect("an archiver");
    archiver.archive().await.expect("archived");
    archiver
}

async fn read(folder: &TempDir) -> Archive {
    Archive::open(store(folder), &TenantName::default()).await.expect("an archive")
}

async fn position(folder: &TempDir) -> u64 {
    read(folder).await.verify().await.expect("it is whole").position.get()
}

fn remove(folder: &TempDir, file: &str) {
    std::fs::remove_file(folder.path().join(file)).expect(file);
}

#[tokio::test]
async fn what_was_written_before_it_was_killed_is_gone_on_with() {
    let first = "segments/00000000000000000001.json";
    let second = "segments/00000000000000000006.json";
    let segment = "segments/00000000000000000006-00000000000000000010.ndjson.zst";
    for gone in [&["checkpoint"][..], &["checkpoint", second], &["checkpoint", second, segment]] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = journal(10).await;
        archive(&folder, &journal, 5).await;
        gone.iter().for_each(|file| remove(&folder, file));
        append(&journal, 11..=12).await;

        let archiver = archive(&folder, &journal, 5).await;

        assert_eq!(archiver.end().position.get(), 12);
        let verified = read(&folder).await.verify().await.expect("it is whole");
        assert_eq!((verified.position.get(), verified.segments, verified.unnamed), (12, 3, 0));
        assert!(folder.path().join(first).exists());
    }
}

#[tokio::test]
async fn a_segment_that_nothing_names_is_written_again_if_it_is_not_what_it_should_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(5).await;
    std::fs::create_dir(folder.path().join("segments")).expect("a folder");
    let segment = folder.path().join("segments/00000000000000000001-00000000000000000005.ndjson.zst");
    std::fs::write(&segment, b"half of it").expect("written");

    archive(&folder, &journal, 5).await;

    assert_eq!(position(&folder).await, 5);
}

#[tokio::test]
async fn who_was_overtaken_goes_on_after_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(20).await;
    let mut slow = archiver(store(&folder), &journal, 4).await.expect("an archiver");
    archive(&folder, &journal, 7).await;
    append(&journal, 21..=25).await;

    slow.archive().await.expect("archived");

    assert_eq!((slow.end().position.get(), slow.segments()), (25, 2));
    assert_eq!(position(&folder).await, 25);
}

#[tokio::test]
async fn what_another_writes_while_the_end_is_looked_for_is_not_damage() {
    for there in [0, 5, 10] {
        for seen in [Seen::Nothing, Seen::Newest] {
            let folder = tempfile::tempdir().expect("a folder");
            let journal = journal(there).await;
            archive(&folder, &journal, 5).await;
            append(&journal, there + 1..=30).await;
            let store = hindered(&folder, &journal, seen);

            let archiver = archive_to(store, &journal, 7).await;

            assert_eq!(archiver.end().position.get(), 30);
            assert_eq!(position(&folder).await, 30);
        }
    }
}

#[tokio::test]
async fn an_archive_that_grows_while_it_is_opened_is_read() {
    for (there, seen, ends) in [
        (5, Seen::Nothing, 5),
        (10, Seen::Nothing, 10),
        (0, Seen::Nothing, 30),
        (0, Seen::Newest, 30),
        (5, Seen::Newest, 30),
        (10, Seen::Newest, 30),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = journal(there).await;
        archive(&folder, &journal, 5).await;
        append(&journal, there + 1..=30).await;
        let store = hindered(&folder, &journal, seen);

        let archive = Archive::open(store, &TenantName::default()).await.expect("an archive");

        assert_eq!(archive.verify().await.expect("it is whole").position.get(), ends, "{there}, {seen:?}");
    }
}

/// The folder's store, in which another archiver writes segments while it is looked through.
fn hindered(folder: &TempDir, journal: &MemoryJournal, seen: Seen) -> Store {
    let (other, journal) = (store(folder), journal.clone());
    racing_store(store(folder), seen, async move { drop(archive_to(other, &journal, 4).await) })
}

#[tokio::test]
async fn another_stream_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    archive(&folder, &journal(5).await, 5).await;
    let created_later = MemoryJournal::new(TenantName::default(), later);
    append(&created_later, 1..=5).await;
    let other_entry = journal(4).await;
    append(&other_entry, [6]).await;
    let lost_entry = journal(6).await;
    lost_entry.lose(Position::new(5));

    for (journal, words) in [
        (created_later, "the stream was created at 1970-01-01 00:00:01 UTC"),
        (journal(4).await, "the stream ends at position 4, the archive at 5"),
        (other_entry, "the stream has another entry at position 5"),
        (lost_entry, "the stream has no entry at position 5 any more"),
    ] {
        let refused = archiver(store(&folder), &journal, 5).await.err().expect("refused");

        assert!(matches!(&refused, Error::Other(reason) if reason.contains(words)), "{refused}");
    }
    assert_eq!(position(&folder).await, 5);
}

#[tokio::test]
async fn a_stream_that_lacks_its_end_for_a_moment_is_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    archive(&folder, &journal(5).await, 5).await;
    let behind = journal(4).await;

    let mut archived = std::pin::pin!(archive(&folder, &behind, 5));
    let at_once = tokio::time::timeout(Duration::from_millis(100), &mut archived).await;
    assert!(at_once.is_err(), "it waits");
    append(&behind, 5..=7).await;

    assert_eq!(archived.await.end().position.get(), 7);
}

#[tokio::test]
async fn a_follower_ends_when_the_stream_has_become_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = journal(5).await;
    let mut follower = archiver(store(&folder), &first, 5).await.expect("an archiver");
    follower.archive().await.expect("archived");
    let given_away_again = journal(4).await;
    append(&given_away_again, [100, 101]).await;
    follower.journal = std::sync::Arc::new(given_away_again);

    let ended = follower.follow(&CancellationToken::new()).await.expect_err("it is another");

    assert!(ended.to_string().ends_with("the stream has another entry at position 5"), "{ended}");
    assert_eq!(position(&folder).await, 5);
}

#[tokio::test]
async fn a_checkpoint_that_was_not_written_is_written_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(5).await;
    let mut archiver = archiver(store(&folder), &journal, 5).await.expect("an archiver");
    archiver.archive().await.expect("archived");
    remove(&folder, "checkpoint");

    archiver.archive().await.expect("archived");

    assert!(folder.path().join("checkpoint").exists());
}

#[tokio::test]
async fn a_segment_that_is_named_is_never_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(10).await;
    let mut slow = archiver(store(&folder), &journal, 5).await.expect("an archiver");
    archive(&folder, &journal, 5).await;
    // The archive has what the stream has lost since.
    journal.lose(Position::new(3));

    slow.archive().await.expect("archived");

    assert_eq!((slow.end().position.get(), slow.segments()), (10, 0));
    assert_eq!(position(&folder).await, 10);
}

#[tokio::test]
async fn an_archive_that_is_damaged_and_grows_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(10).await;
    archive(&folder, &journal, 5).await;
    append(&journal, 11..=30).await;
    let manifest = folder.path().join("segments/00000000000000000001.json");
    let damaged = std::fs::read_to_string(&manifest).expect("a manifest").replace("default", "DEFAULT");
    std::fs::write(&manifest, damaged).expect("written");

    let opened = Archive::open(hindered(&folder, &journal, Seen::Newest), &TenantName::default()).await;

    let error = opened.err().expect("it is damaged").to_string();
    assert!(error.starts_with("segments/00000000000000000001.json: the manifest's sha256 is"), "{error}");
}

#[tokio::test]
async fn an_empty_journal_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");

    let archiver = archive(&folder, &journal(0).await, 5).await;

    assert_eq!(archiver.end().position, Position::START);
    let opened = Archive::open(store(&folder), &TenantName::default()).await;
    assert!(matches!(opened.err(), Some(Error::Empty(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn an_archive_has_what_the_journal_has(
        stretches in prop::collection::vec((1..40_u64, 1..20_u64), 1..5),
        lost in prop::collection::vec(1..60_u64, 0..8),
        after in 0..80_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let journal = journal(0).await;
            let mut end = 0;
            for (more, entries) in stretches {
                append(&journal, end + 1..=end + more).await;
                // What was archived may be lost later: only what is new.
                for position in lost.iter().filter(|position| **position > end) {
                    journal.lose(Position::new(*position));
                }
                end += more;
                archive(&folder, &journal, entries).await;
            }
            let archive = read(&folder).await;
            let verified = archive.verify().await.expect("it is whole");
            assert_eq!(verified.position.get(), end);

            let until = Until::Position(Position::new(end));
            let after = Position::new(after);
            let wanted: Vec<Record> =
                journal.read(SubjectFilter::All, after, until).map(|record| record.expect("a record")).collect().await;
            let found: Vec<Record> =
                archive.read(after).map(|record| record.expect("a record")).collect().await;
            assert_eq!(found, wanted);
        });
    }
}
