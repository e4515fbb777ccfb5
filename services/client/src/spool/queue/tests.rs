//! Events are stored completely, in order, and separately for each ledger.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::thread;

use super::*;

fn event_of(id: &str) -> Envelope {
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"io.releaseledger.deploy.succeeded.v1",
            "time":"2026-08-01T12:00:00Z","data":{{"environment":"dev","service":"web","release":{{"version":"v1"}}}}}}"#
    );
    Envelope::parse(json.as_bytes()).expect("an event")
}

fn queue_of(spool: &Path, ledger: &str) -> Queue {
    Queue::new(spool, &Url::parse(ledger).expect("a URL"))
}

/// Returns a queue in a temporary folder, which is removed on drop.
fn temporary_queue() -> (tempfile::TempDir, Queue) {
    let spool = tempfile::tempdir().expect("a folder");
    let queue = queue_of(spool.path(), "http://127.0.0.1:8080/v1");
    (spool, queue)
}

fn waiting_file(queue: &Queue, entry: &Entry) -> PathBuf {
    queue.folder().join(WAITING).join(&entry.0)
}

fn add(queue: &Queue, ids: &[&str]) {
    let events: Vec<_> = ids.iter().map(|id| event_of(id)).collect();
    queue.add(&events).expect("added");
}

async fn locked(queue: &Queue) -> QueueLock<'_> {
    queue.lock(Instant::now()).await.expect("a lock").expect("an unlocked queue")
}

async fn ids(queue: &Queue) -> Vec<String> {
    let lock = locked(queue).await;
    let entries = queue.waiting().expect("read");
    let events =
        entries.iter().map(|entry| lock.event(entry).expect("read").expect("a file").expect("an event"));
    let id = |event: Bytes| Envelope::parse(&event).expect("an event").identity().id.as_str().to_owned();
    events.map(id).collect()
}

fn refused_names(queue: &Queue) -> Vec<String> {
    let folders = queue.open_folders().expect("private folders").expect("folders");
    let mut names = folders.refused.names().expect("read");
    names.sort_unstable();
    names
}

#[tokio::test]
async fn events_wait_in_the_order_in_which_they_were_added() {
    let (_spool, queue) = temporary_queue();
    assert_eq!(queue.waiting().expect("read"), []);
    add(&queue, &["c", "a"]);
    add(&queue, &["b"]);
    assert_eq!(ids(&queue).await, ["c", "a", "b"]);
    let first = queue.waiting().expect("read").remove(0);
    locked(&queue).await.remove(&first).expect("removed");
    add(&queue, &["c"]);
    assert_eq!(ids(&queue).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn concurrent_writers_add_each_event_once_and_in_their_own_order() {
    let (_spool, queue) = temporary_queue();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            // Another process would open its own files, too.
            let queue = queue.clone();
            thread::spawn(move || {
                for number in 0..25 {
                    add(&queue, &[&format!("{writer}-{number:02}")]);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().expect("added"));
    let ids = ids(&queue).await;
    assert_eq!(ids.len(), 100);
    for writer in 0..4 {
        let own: Vec<_> = ids.iter().filter(|id| id.starts_with(&format!("{writer}-"))).collect();
        assert!(own.is_sorted() && own.len() == 25, "{own:?}");
    }
}

#[tokio::test]
async fn one_process_at_a_time_sends() {
    let (_spool, queue) = temporary_queue();
    let first = locked(&queue).await;
    assert!(queue.lock(Instant::now()).await.expect("a lock").is_none());
    // Adding does not wait for the sender.
    add(&queue, &["a"]);
    drop(first);
    assert_eq!(ids(&queue).await, ["a"]);
}

#[tokio::test]
async fn queues_of_different_ledgers_are_separate() {
    let spool = tempfile::tempdir().expect("a folder");
    let ledgers = ["http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1/tenants/shop", "http://10.0.0.1/v1"];
    for ledger in ledgers {
        add(&queue_of(spool.path(), ledger), &[ledger]);
    }
    for ledger in ledgers {
        assert_eq!(ids(&queue_of(spool.path(), ledger)).await, [ledger]);
    }
    let all = Queue::all(spool.path()).expect("read");
    assert_eq!(all.iter().map(|queue| queue.ledger().as_str()).collect::<Vec<_>>(), {
        let mut sorted = ledgers;
        sorted.sort_unstable();
        sorted
    });
}

#[test]
fn credentials_are_not_written_to_disk() {
    let spool = tempfile::tempdir().expect("a folder");
    let queue = queue_of(spool.path(), "https://ada:secret@ledger.example/v1");
    add(&queue, &["a"]);
    let written = fs::read_to_string(queue.folder().join("ledger")).expect("written");
    assert_eq!(written, "https://ledger.example/v1\n");
}

#[tokio::test]
async fn the_temporary_file_of_a_killed_writer_is_ignored() {
    let (_spool, queue) = temporary_queue();
    add(&queue, &["a"]);
    fs::write(queue.folder().join("incoming"), r#"{"specversion":"#).expect("written");
    assert_eq!(ids(&queue).await, ["a"]);
    add(&queue, &["b"]);
    assert_eq!(ids(&queue).await, ["a", "b"]);
}

#[tokio::test]
async fn a_truncated_file_is_detected_and_can_be_refused() {
    let (_spool, queue) = temporary_queue();
    add(&queue, &["a", "b"]);
    let torn = queue.waiting().expect("read").remove(0);
    fs::write(waiting_file(&queue, &torn), r#"{"specversion":"1.0","id":"a""#).expect("written");
    let lock = locked(&queue).await;
    let reason = lock.event(&torn).expect("read").expect("a file").expect_err("no event");
    assert!(reason.starts_with("the file is damaged: "), "{reason}");
    lock.refuse(&torn, &reason).expect("moved");
    drop(lock);
    assert_eq!(ids(&queue).await, ["b"]);
    assert_eq!(refused_names(&queue), [torn.0.clone(), format!("{}.problem", torn.0)]);
    assert_eq!(queue.rejection_reason(&torn), Some(reason));
    assert_eq!(queue.refused_count().expect("read"), 1);
}

#[tokio::test]
async fn an_event_of_a_newer_version_is_not_treated_as_damaged() {
    let (_spool, queue) = temporary_queue();
    add(&queue, &["a"]);
    let entry = queue.waiting().expect("read").remove(0);
    let newer = r#"{"specversion":"1.0","id":"a","type":"io.releaseledger.deploy.unknown.v7"}"#;
    fs::write(waiting_file(&queue, &entry), newer).expect("written");

    assert_eq!(locked(&queue).await.event(&entry).expect("read"), Some(Ok(newer.into())));
}

#[tokio::test]
async fn foreign_files_are_refused_and_hidden_files_are_ignored() {
    let (_spool, queue) = temporary_queue();
    add(&queue, &["a"]);
    for name in ["notes.txt", "000000000002-short.json", ".DS_Store"] {
        fs::write(queue.folder().join(WAITING).join(name), "foreign").expect("written");
    }
    fs::create_dir(queue.folder().join(WAITING).join("folder")).expect("created");
    let mut moved = locked(&queue).await.refuse_foreign_files().expect("moved");
    moved.sort_unstable();
    let names = ["000000000002-short.json", "folder", "notes.txt"];
    assert_eq!(moved, names.map(|name| queue.folder().join(REFUSED).join(name)));
    assert_eq!(ids(&queue).await, ["a"]);
    assert!(queue.folder().join(WAITING).join(".DS_Store").exists());
}

#[tokio::test]
async fn a_full_spool_rejects_further_events() {
    let (_spool, queue) = temporary_queue();
    let queue = Queue { capacity: Capacity { events: 3, bytes: 1 << 20 }, ..queue };
    add(&queue, &["a", "b"]);
    let error = queue.add(&[event_of("c"), event_of("d")]).expect_err("no room for both");
    assert!(error.to_string().contains("is full: 2 events"), "{error}");
    add(&queue, &["c"]);
    let small = Queue { capacity: Capacity { events: 9, bytes: 600 }, ..queue.clone() };
    assert!(matches!(small.add(&[event_of("d")]), Err(Error::Full { events: 3, .. })));
    assert_eq!(ids(&queue).await, ["a", "b", "c"]);
}

/// Somebody who can write to the spool could otherwise have any file of this user overwritten.
#[tokio::test]
async fn a_link_in_the_spool_is_replaced_or_refused_and_never_followed() {
    let (spool, queue) = temporary_queue();
    let victim = spool.path().join("victim");
    fs::write(&victim, "precious").expect("written");
    add(&queue, &["a"]);
    symlink(&victim, queue.folder().join("incoming")).expect("linked");
    add(&queue, &["b"]);
    assert_eq!(ids(&queue).await, ["a", "b"]);

    let first = queue.waiting().expect("read").remove(0);
    fs::remove_file(waiting_file(&queue, &first)).expect("removed");
    symlink(&victim, waiting_file(&queue, &first)).expect("linked");
    let event = locked(&queue).await.event(&first).expect("read").expect("a file");
    assert!(event.expect_err("a link").starts_with("cannot read the file: "));

    for lock in ["adding", "sending"] {
        fs::remove_file(queue.folder().join(lock)).expect("removed");
        symlink(&victim, queue.folder().join(lock)).expect("linked");
    }
    queue.add(&[event_of("c")]).expect_err("a link");
    queue.lock(Instant::now()).await.expect_err("a link");
    assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
}

#[test]
fn a_spool_or_queue_that_others_could_change_is_rejected_before_anything_is_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let spool = tempfile::tempdir().expect("a folder");
    let queue = queue_of(spool.path(), "http://127.0.0.1:8080/v1");
    fs::set_permissions(spool.path(), fs::Permissions::from_mode(0o777)).expect("set");
    let error = queue.add(&[event_of("a")]).expect_err("others can write").to_string();
    assert!(error.starts_with(&format!("others can write to {}", spool.path().display())), "{error}");
    assert!(Queue::all(spool.path()).is_err() && queue.waiting().is_err());
    assert_eq!(fs::read_dir(spool.path()).expect("read").count(), 0);

    fs::set_permissions(spool.path(), fs::Permissions::from_mode(0o700)).expect("set");
    let elsewhere = tempfile::tempdir().expect("a folder");
    symlink(elsewhere.path(), queue.folder()).expect("linked");
    let error = queue.add(&[event_of("a")]).expect_err("a link").to_string();
    assert!(error.contains("is a symbolic link"), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).expect("read").count(), 0);
}

#[test]
fn events_are_readable_for_this_user_only() {
    let (_spool, queue) = temporary_queue();
    add(&queue, &["a"]);
    let entry = queue.waiting().expect("read").remove(0);
    let mode = |path: PathBuf| fs::metadata(path).expect("it exists").mode() & 0o777;
    assert_eq!(mode(waiting_file(&queue, &entry)), 0o600);
    assert_eq!(mode(queue.folder().join("ledger")), 0o600);
    assert_eq!([mode(queue.folder().to_owned()), mode(queue.folder().join(WAITING))], [0o700; 2]);
}

#[tokio::test]
async fn a_file_of_any_size_is_refused_without_reading_it() {
    let (_spool, queue) = temporary_queue();
    add(&queue, &["a"]);
    let entry = queue.waiting().expect("read").remove(0);
    let file = fs::File::create(waiting_file(&queue, &entry)).expect("created");
    file.set_len(1 << 40).expect("a sparse file");
    let reason = locked(&queue).await.event(&entry).expect("read").expect("a file").expect_err("too large");
    assert_eq!(reason, "cannot read the file: it is larger than 1048576 bytes");
}

#[test]
fn the_error_names_a_folder_that_cannot_be_created() {
    let spool = tempfile::NamedTempFile::new().expect("a file");
    let queue = queue_of(spool.path(), "http://127.0.0.1:8080/v1");
    let error = queue.add(&[event_of("a")]).expect_err("a file is no folder");
    assert!(error.to_string().starts_with("cannot create "), "{error}");
}
