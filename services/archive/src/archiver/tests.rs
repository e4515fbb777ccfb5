//! Archivers that are killed, overtaken or run concurrently: the archive stays valid.

use bytes::Bytes;
use ledger_domain::event::Payload;
use ledger_domain::{EnvironmentName, EventId, Identity, Source as EventSource};
use ledger_journal::{Journal, MemoryJournal, NewEntry, Subject, SubjectFilter};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::racing_store::{Visibility, racing_store};
use crate::{Access, Archive, Source as _};

fn clock() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn later() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1)
}

async fn journal(entries: u64) -> MemoryJournal {
    let journal = MemoryJournal::new(TenantName::default(), clock);
    append(&journal, 1..=entries).await;
    journal
}

async fn append(journal: &MemoryJournal, numbers: impl IntoIterator<Item = u64>) {
    let environment = EnvironmentName::parse("production").expect("a name");
    let subject = Subject::of(&TenantName::default(), &Payload::EnvironmentRetired(environment));
    let entries = numbers.into_iter().map(|number| {
        let source = EventSource::parse("urn:test").expect("a source");
        let id = EventId::parse(&number.to_string()).expect("an id");
        let key = Identity { source, id }.key();
        NewEntry { subject: subject.clone(), key, bytes: Bytes::from(format!(r#"{{"number":{number}}}"#)) }
    });
    let outcomes = journal.append(&entries.collect::<Vec<_>>()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

fn store(folder: &TempDir) -> Store {
    Store::open(&folder.path().to_string_lossy(), Access::Write, []).expect("a store")
}

async fn archiver(store: Store, journal: &MemoryJournal, entries: u64) -> Result<Archiver, Error> {
    let limits = SegmentLimits { entries, bytes: 1 << 20, age: Duration::from_secs(3600) };
    let journal = std::sync::Arc::new(journal.clone());
    let timeout = Duration::from_millis(600);
    Archiver::open_with_timeout(store, journal, TenantName::default(), limits, timeout).await
}

async fn archive(folder: &TempDir, journal: &MemoryJournal, entries: u64) -> Archiver {
    archive_to(store(folder), journal, entries).await
}

async fn try_archive(folder: &TempDir, journal: &MemoryJournal, entries: u64) -> Result<Archiver, Error> {
    let mut archiver = archiver(store(folder), journal, entries).await?;
    archiver.archive().await?;
    Ok(archiver)
}

async fn archive_to(store: Store, journal: &MemoryJournal, entries: u64) -> Archiver {
    let mut archiver = archiver(store, journal, entries).await.expect("an archiver");
    archiver.archive().await.expect("archived");
    archiver
}

async fn read(folder: &TempDir) -> Archive {
    Archive::open(store(folder), &TenantName::default()).await.expect("an archive")
}

/// Verifies the archive, and returns its last position.
async fn verified_position(folder: &TempDir) -> u64 {
    read(folder).await.verify().await.expect("valid").position.get()
}

fn remove(folder: &TempDir, file: &str) {
    std::fs::remove_file(folder.path().join(file)).expect(file);
}

#[tokio::test]
async fn an_archiver_continues_after_being_killed_between_any_two_writes() {
    let first = "segments/00000000000000000001.json";
    let second = "segments/00000000000000000006.json";
    let segment = "segments/00000000000000000006-00000000000000000010.ndjson.zst";
    for lost in [&["checkpoint"][..], &["checkpoint", second], &["checkpoint", second, segment]] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = journal(10).await;
        archive(&folder, &journal, 5).await;
        lost.iter().for_each(|file| remove(&folder, file));
        append(&journal, 11..=12).await;

        let archiver = archive(&folder, &journal, 5).await;

        assert_eq!(archiver.end().position.get(), 12);
        let verified = read(&folder).await.verify().await.expect("valid");
        assert_eq!((verified.position.get(), verified.segments, verified.unreferenced_files), (12, 3, 0));
        assert!(folder.path().join(first).exists());
    }
}

#[tokio::test]
async fn a_segment_file_that_differs_is_overwritten_if_no_manifest_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(5).await;
    std::fs::create_dir(folder.path().join("segments")).expect("a folder");
    let segment = folder.path().join("segments/00000000000000000001-00000000000000000005.ndjson.zst");
    std::fs::write(&segment, b"half of it").expect("written");

    archive(&folder, &journal, 5).await;

    assert_eq!(verified_position(&folder).await, 5);
}

#[tokio::test]
async fn an_overtaken_archiver_continues_after_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(20).await;
    let mut slow = archiver(store(&folder), &journal, 4).await.expect("an archiver");
    archive(&folder, &journal, 7).await;
    append(&journal, 21..=25).await;

    slow.archive().await.expect("archived");

    assert_eq!((slow.end().position.get(), slow.segments()), (25, 2));
    assert_eq!(verified_position(&folder).await, 25);
}

#[tokio::test]
async fn an_archive_that_grows_while_an_archiver_finds_its_end_is_not_damaged() {
    for archived in [0, 5, 10] {
        for visibility in [Visibility::None, Visibility::Newest] {
            let folder = tempfile::tempdir().expect("a folder");
            let journal = journal(archived).await;
            archive(&folder, &journal, 5).await;
            append(&journal, archived + 1..=30).await;
            let store = racing(&folder, &journal, visibility);

            let archiver = archive_to(store, &journal, 7).await;

            assert_eq!(archiver.end().position.get(), 30);
            assert_eq!(verified_position(&folder).await, 30);
        }
    }
}

#[tokio::test]
async fn an_archive_that_grows_while_it_is_opened_is_readable() {
    for (archived, visibility, end) in [
        (5, Visibility::None, 5),
        (10, Visibility::None, 10),
        (0, Visibility::None, 30),
        (0, Visibility::Newest, 30),
        (5, Visibility::Newest, 30),
        (10, Visibility::Newest, 30),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = journal(archived).await;
        archive(&folder, &journal, 5).await;
        append(&journal, archived + 1..=30).await;
        let store = racing(&folder, &journal, visibility);

        let archive = Archive::open(store, &TenantName::default()).await.expect("an archive");

        let position = archive.verify().await.expect("valid").position.get();
        assert_eq!(position, end, "{archived}, {visibility:?}");
    }
}

/// Returns a store for the folder to which another archiver writes segments during the first listing.
fn racing(folder: &TempDir, journal: &MemoryJournal, visibility: Visibility) -> Store {
    let (other, journal) = (store(folder), journal.clone());
    racing_store(store(folder), visibility, async move { drop(archive_to(other, &journal, 4).await) })
}

#[tokio::test]
async fn an_archive_of_another_stream_is_rejected() {
    let folder = tempfile::tempdir().expect("a folder");
    archive(&folder, &journal(5).await, 5).await;
    let created_later = MemoryJournal::new(TenantName::default(), later);
    append(&created_later, 1..=5).await;
    let other_entry = journal(4).await;
    append(&other_entry, [6]).await;
    let lost_entry = journal(6).await;
    lost_entry.punch_gap(Position::new(5));

    for (journal, words) in [
        (created_later, "the stream was created at 1970-01-01 00:00:01 UTC"),
        (journal(4).await, "the stream ends at position 4, before the known position 5"),
        (other_entry, "the stream has a different entry at position 5"),
        (lost_entry, "the stream no longer has the entry at position 5"),
    ] {
        let error = try_archive(&folder, &journal, 5).await.err().expect("rejected");

        assert!(
            matches!(&error, Error::StreamMismatch(reason) if reason.to_string().contains(words)),
            "{error:?}"
        );
    }
    assert_eq!(verified_position(&folder).await, 5);
}

#[tokio::test]
async fn an_archiver_waits_while_the_stream_briefly_lacks_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    archive(&folder, &journal(5).await, 5).await;
    let behind = journal(4).await;

    let mut archived = std::pin::pin!(archive(&folder, &behind, 5));
    let at_once = tokio::time::timeout(Duration::from_millis(100), &mut archived).await;
    assert!(at_once.is_err(), "the archiver waits");
    append(&behind, 5..=7).await;

    assert_eq!(archived.await.end().position.get(), 7);
}

#[tokio::test]
async fn a_follower_fails_when_the_stream_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = journal(5).await;
    let mut follower = archiver(store(&folder), &first, 5).await.expect("an archiver");
    follower.archive().await.expect("archived");
    let reused_position = journal(4).await;
    append(&reused_position, [100, 101]).await;
    follower.journal = std::sync::Arc::new(reused_position);

    let error = follower.follow(&CancellationToken::new()).await.expect_err("another stream");

    let reassigned = Divergence::Reassigned(Position::new(5));
    assert!(matches!(&error, Error::StreamMismatch(found) if *found == reassigned), "{error:?}");
    assert_eq!(verified_position(&folder).await, 5);
}

#[tokio::test]
async fn an_open_segment_has_no_entries_of_a_stream_that_was_replaced_by_an_older_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(5).await;
    let mut follower = archiver(store(&folder), &journal, 100).await.expect("an archiver");
    let shutdown = CancellationToken::new();
    let mut following = Box::pin(follower.follow(&shutdown));
    // The journal in memory answers at once: the follower reads all of it into an open segment, and waits for more.
    assert!(futures::poll!(&mut following).is_pending());
    journal.restore_copy(Position::new(2));
    // Grows past what was read. The follower notices it, and reads the stream again after a delay.
    append(&journal, 101..=110).await;
    let again = tokio::time::timeout(INITIAL_RETRY_BACKOFF * 2, &mut following).await;
    assert!(again.is_err(), "{again:?}");
    shutdown.cancel();
    following.await.expect("sealed");

    assert_eq!(verified_position(&folder).await, 12);
    let archived: Vec<Record> =
        read(&folder).await.read(Position::START).map(|it| it.expect("read")).collect().await;
    let until = Until::Position(Position::new(12));
    let stream = journal.read(SubjectFilter::All, Position::START, until).map(|it| it.expect("read"));
    assert_eq!(archived, stream.collect::<Vec<Record>>().await);
}

#[tokio::test]
async fn an_archive_with_other_times_has_another_root() {
    fn moved() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_secs(365 * 86_400)
    }
    let mut ends = Vec::new();
    for clock in [clock as fn() -> DateTime<Utc>, clock, moved] {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = MemoryJournal::new(TenantName::default(), clock);
        append(&journal, 1..=5).await;
        ends.push(archive(&folder, &journal, 5).await.end());
    }

    assert_eq!(ends[0], ends[1]);
    assert_ne!(ends[0].root, ends[2].root, "each entry was recorded a year later");
}

#[tokio::test]
async fn a_missing_checkpoint_is_written_by_the_next_pass() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(5).await;
    let mut archiver = archiver(store(&folder), &journal, 5).await.expect("an archiver");
    archiver.archive().await.expect("archived");
    remove(&folder, "checkpoint");

    archiver.archive().await.expect("archived");

    assert!(folder.path().join("checkpoint").exists());
}

#[tokio::test]
async fn a_segment_with_a_manifest_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(10).await;
    let mut slow = archiver(store(&folder), &journal, 5).await.expect("an archiver");
    archive(&folder, &journal, 5).await;
    // The archive has an entry that the stream loses now.
    journal.punch_gap(Position::new(3));

    slow.archive().await.expect("archived");

    assert_eq!((slow.end().position.get(), slow.segments()), (10, 0));
    assert_eq!(verified_position(&folder).await, 10);
}

#[tokio::test]
async fn damage_is_reported_while_an_archive_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = journal(10).await;
    archive(&folder, &journal, 5).await;
    append(&journal, 11..=30).await;
    let manifest = folder.path().join("segments/00000000000000000001.json");
    let damaged = std::fs::read_to_string(&manifest).expect("a manifest").replace("default", "DEFAULT");
    std::fs::write(&manifest, damaged).expect("written");

    let opened = Archive::open(racing(&folder, &journal, Visibility::Newest), &TenantName::default()).await;

    let error = opened.err().expect("damaged").to_string();
    assert!(error.starts_with("segments/00000000000000000001.json: the manifest's sha256 is"), "{error}");
}

#[tokio::test]
async fn an_empty_journal_writes_no_archive() {
    let folder = tempfile::tempdir().expect("a folder");

    let archiver = archive(&folder, &journal(0).await, 5).await;

    assert_eq!(archiver.end().position, Position::START);
    let opened = Archive::open(store(&folder), &TenantName::default()).await;
    assert!(matches!(opened.err(), Some(Error::Empty(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn an_archive_has_the_records_of_the_journal(
        passes in prop::collection::vec((1..40_u64, 1..20_u64), 1..5),
        lost in prop::collection::vec(1..60_u64, 0..8),
        after in 0..80_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let journal = journal(0).await;
            let mut end = 0;
            for (more, entries) in passes {
                append(&journal, end + 1..=end + more).await;
                // Only new entries: the archive keeps an entry that the stream loses later.
                for position in lost.iter().filter(|position| **position > end) {
                    journal.punch_gap(Position::new(*position));
                }
                end += more;
                archive(&folder, &journal, entries).await;
            }
            let archive = read(&folder).await;
            let verified = archive.verify().await.expect("valid");
            assert_eq!(verified.position.get(), end);

            let until = Until::Position(Position::new(end));
            let after = Position::new(after);
            let expected = journal.read(SubjectFilter::All, after, until).map(|record| record.expect("read"));
            let expected: Vec<Record> = expected.collect().await;
            let found: Vec<Record> = archive.read(after).map(|record| record.expect("read")).collect().await;
            assert_eq!(found, expected);
        });
    }
}
