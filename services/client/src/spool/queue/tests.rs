//! What is kept is there again, whole and in order, and for its own ledger only.

use std::thread;

use super::*;

fn event(id: &str) -> Envelope {
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"io.releaseledger.deploy.succeeded.v1",
            "time":"2026-08-01T12:00:00Z","data":{{"environment":"dev","service":"web","release":{{"version":"v1"}}}}}}"#
    );
    Envelope::parse(json.as_bytes()).expect("an event")
}

fn queue(spool: &Path, ledger: &str) -> Queue {
    Queue::of(spool, &Url::parse(ledger).expect("a URL"))
}

/// A queue in a folder that is gone with it.
fn fresh() -> (tempfile::TempDir, Queue) {
    let spool = tempfile::tempdir().expect("a folder");
    let queue = queue(spool.path(), "http://127.0.0.1:8080/v1");
    (spool, queue)
}

fn add(queue: &Queue, ids: &[&str]) {
    let events: Vec<_> = ids.iter().map(|id| event(id)).collect();
    queue.add(&events).expect("kept");
}

async fn held(queue: &Queue) -> QueueLock<'_> {
    queue.hold(Instant::now()).await.expect("a lock").expect("nobody holds it")
}

async fn ids(queue: &Queue) -> Vec<String> {
    let held = held(queue).await;
    let entries = queue.waiting().expect("read");
    let events = entries.iter().map(|entry| held.event(entry).expect("read").expect("there").expect("whole"));
    let id = |event: Bytes| Envelope::parse(&event).expect("an event").identity().id.as_str().to_owned();
    events.map(id).collect()
}

fn refused(queue: &Queue) -> Vec<String> {
    let mut names = names(&queue.refused_folder()).expect("read");
    names.sort_unstable();
    names
}

#[tokio::test]
async fn events_wait_in_the_order_in_which_they_were_kept() {
    let (_spool, queue) = fresh();
    assert_eq!(queue.waiting().expect("read"), []);
    add(&queue, &["c", "a"]);
    add(&queue, &["b"]);
    assert_eq!(ids(&queue).await, ["c", "a", "b"]);
    let first = queue.waiting().expect("read").remove(0);
    held(&queue).await.done(&first).expect("removed");
    add(&queue, &["c"]);
    assert_eq!(ids(&queue).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn many_processes_keep_each_event_once_and_each_in_its_order() {
    let (_spool, queue) = fresh();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            // As another process has it: with files of its own.
            let queue = queue.clone();
            thread::spawn(move || {
                for number in 0..25 {
                    add(&queue, &[&format!("{writer}-{number:02}")]);
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().expect("kept"));
    let ids = ids(&queue).await;
    assert_eq!(ids.len(), 100);
    for writer in 0..4 {
        let own: Vec<_> = ids.iter().filter(|id| id.starts_with(&format!("{writer}-"))).collect();
        assert!(own.is_sorted() && own.len() == 25, "{own:?}");
    }
}

#[tokio::test]
async fn one_process_at_a_time_sends() {
    let (_spool, queue) = fresh();
    let first = held(&queue).await;
    assert!(queue.hold(Instant::now()).await.expect("a lock").is_none());
    // Whoever adds does not wait for it.
    add(&queue, &["a"]);
    drop(first);
    assert_eq!(ids(&queue).await, ["a"]);
}

#[tokio::test]
async fn what_waits_for_one_ledger_is_not_seen_by_another() {
    let spool = tempfile::tempdir().expect("a folder");
    let ledgers = ["http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1/tenants/shop", "http://10.0.0.1/v1"];
    for ledger in ledgers {
        add(&queue(spool.path(), ledger), &[ledger]);
    }
    for ledger in ledgers {
        assert_eq!(ids(&queue(spool.path(), ledger)).await, [ledger]);
    }
    let all = Queue::all(spool.path()).expect("read");
    assert_eq!(all.iter().map(|queue| queue.ledger().as_str()).collect::<Vec<_>>(), {
        let mut sorted = ledgers;
        sorted.sort_unstable();
        sorted
    });
}

#[test]
fn a_password_is_not_written_down() {
    let spool = tempfile::tempdir().expect("a folder");
    let queue = queue(spool.path(), "https://ada:secret@ledger.example/v1");
    add(&queue, &["a"]);
    let written = fs::read_to_string(queue.folder().join("ledger")).expect("written");
    assert_eq!(written, "https://ledger.example/v1\n");
}

#[tokio::test]
async fn what_a_killed_writer_left_is_never_seen() {
    let (_spool, queue) = fresh();
    add(&queue, &["a"]);
    fs::write(queue.folder().join("incoming"), r#"{"specversion":"#).expect("written");
    assert_eq!(ids(&queue).await, ["a"]);
    add(&queue, &["b"]);
    assert_eq!(ids(&queue).await, ["a", "b"]);
}

#[tokio::test]
async fn a_torn_file_is_told_from_an_event_and_can_be_put_aside() {
    let (_spool, queue) = fresh();
    add(&queue, &["a", "b"]);
    let torn = queue.waiting().expect("read").remove(0);
    fs::write(queue.path(&torn), r#"{"specversion":"1.0","id":"a""#).expect("written");
    let holder = held(&queue).await;
    let why = holder.event(&torn).expect("read").expect("there").expect_err("no event");
    assert!(why.starts_with("it is damaged: "), "{why}");
    holder.refuse(&torn, &why).expect("moved");
    drop(holder);
    assert_eq!(ids(&queue).await, ["b"]);
    assert_eq!(refused(&queue), [torn.0.clone(), format!("{}.problem", torn.0)]);
    assert_eq!(queue.problem_of(&torn), Some(why));
    assert_eq!(queue.refused().expect("read"), 1);
}

#[tokio::test]
async fn an_event_of_a_newer_program_is_not_damaged() {
    let (_spool, queue) = fresh();
    add(&queue, &["a"]);
    let entry = queue.waiting().expect("read").remove(0);
    let newer = r#"{"specversion":"1.0","id":"a","type":"io.releaseledger.deploy.dreamt_of.v7"}"#;
    fs::write(queue.path(&entry), newer).expect("written");

    assert_eq!(held(&queue).await.event(&entry).expect("read"), Some(Ok(newer.into())));
}

#[tokio::test]
async fn what_is_foreign_is_put_aside_and_what_is_hidden_is_left_alone() {
    let (_spool, queue) = fresh();
    add(&queue, &["a"]);
    for name in ["notes.txt", "000000000002-short.json", ".DS_Store"] {
        fs::write(queue.waiting_folder().join(name), "mine").expect("written");
    }
    fs::create_dir(queue.waiting_folder().join("folder")).expect("made");
    let mut cleared = held(&queue).await.clear().expect("moved");
    cleared.sort_unstable();
    let names = ["000000000002-short.json", "folder", "notes.txt"];
    assert_eq!(cleared, names.map(|name| queue.refused_folder().join(name)));
    assert_eq!(ids(&queue).await, ["a"]);
    assert!(queue.waiting_folder().join(".DS_Store").exists());
}

#[tokio::test]
async fn a_full_spool_takes_nothing_more_and_says_so() {
    let (_spool, queue) = fresh();
    let queue = Queue { room: Room { events: 3, bytes: 1 << 20 }, ..queue };
    add(&queue, &["a", "b"]);
    let error = queue.add(&[event("c"), event("d")]).expect_err("no room for both");
    assert!(error.to_string().contains("is full: 2 events"), "{error}");
    add(&queue, &["c"]);
    let small = Queue { room: Room { events: 9, bytes: 600 }, ..queue.clone() };
    assert!(matches!(small.add(&[event("d")]), Err(Error::Full { events: 3, .. })));
    assert_eq!(ids(&queue).await, ["a", "b", "c"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let spool = tempfile::NamedTempFile::new().expect("a file");
    let queue = queue(spool.path(), "http://127.0.0.1:8080/v1");
    let error = queue.add(&[event("a")]).expect_err("a file is no folder");
    assert!(error.to_string().contains("waiting cannot be made"), "{error}");
}
