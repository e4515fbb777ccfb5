//! A damaged archive is named by the file, and the line where that can be told; and nothing is restored from it.

use std::fs;
use std::path::Path;

use ledger_tests::{Command, Servers, Service, delete_stream};

use super::{command, deploys, has_stream, told, verified};
use crate::PROGRAM;

/// What is done to an archive.
type Damage = fn(&Path);

const FIRST: &str = "segments/00000000000000000001";
const SECOND: &str = "segments/00000000000000000021";
const THIRD: &str = "segments/00000000000000000041";

fn segment(first: u64) -> String {
    format!("segments/{first:020}-{:020}.ndjson.zst", first + 19)
}

fn change(archive: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = archive.join(file);
    let mut bytes = fs::read(&path).expect("a file");
    change(&mut bytes);
    fs::write(&path, bytes).expect("changed");
}

fn flip(archive: &Path, file: &str) {
    change(archive, file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
}

/// What is done, and what the refusal must say.
const DAMAGES: [(&str, Damage, &[&str]); 11] = [
    (
        "a flipped byte in a segment",
        |archive| flip(archive, &segment(21)),
        &[
            "segments/00000000000000000021-00000000000000000040.ndjson.zst: the file's sha256 is ",
            "the manifest says",
            "line ",
            "position ",
        ],
    ),
    (
        "a flipped byte in a manifest",
        |archive| flip(archive, &format!("{SECOND}.json")),
        &[SECOND, ".json: "],
    ),
    (
        "a segment that is missing",
        |archive| fs::remove_file(archive.join(segment(21))).expect("removed"),
        &["segments/00000000000000000021-00000000000000000040.ndjson.zst: it is missing"],
    ),
    (
        "a manifest that is missing",
        |archive| fs::remove_file(archive.join(format!("{FIRST}.json"))).expect("removed"),
        &["segments/00000000000000000001.json: it is missing"],
    ),
    (
        "the last manifest is missing",
        |archive| fs::remove_file(archive.join(format!("{THIRD}.json"))).expect("removed"),
        &[
            "segments/00000000000000000041.json: it is missing: the archive ends at position 40, and its checkpoint is of position 60",
        ],
    ),
    (
        "a segment that is cut off",
        |archive| change(archive, &segment(41), |bytes| bytes.truncate(bytes.len() - 10)),
        &[
            "segments/00000000000000000041-00000000000000000060.ndjson.zst: the file has ",
            "line ",
            "position ",
        ],
    ),
    (
        "two segments that changed places",
        |archive| {
            let (one, other) = (archive.join(segment(1)), archive.join(segment(21)));
            let kept = fs::read(&one).expect("a file");
            fs::copy(&other, &one).expect("copied");
            fs::write(&other, kept).expect("written");
        },
        &[
            "segments/00000000000000000001-00000000000000000020.ndjson.zst: ",
            "line 1: position 1: position 21 stands there",
        ],
    ),
    (
        "a segment and a manifest of another ledger",
        |archive| {
            for file in [segment(21), format!("{SECOND}.json")] {
                fs::copy(archive.with_file_name("foreign").join(&file), archive.join(&file)).expect("copied");
            }
        },
        &["segments/00000000000000000021.json: it is of a stream created at "],
    ),
    ("a flipped byte in the checkpoint", |archive| flip(archive, "checkpoint"), &["checkpoint: "]),
    (
        "a checkpoint of nothing that is there",
        |archive| {
            let foreign = archive.with_file_name("foreign").join("checkpoint");
            fs::copy(foreign, archive.join("checkpoint")).expect("copied");
        },
        &["checkpoint: its root is ", "segments/00000000000000000041.json says "],
    ),
    (
        "no checkpoint",
        |archive| fs::remove_file(archive.join("checkpoint")).expect("removed"),
        &["checkpoint: it is missing"],
    ),
];

#[tokio::test]
async fn what_is_damaged_is_named_and_nothing_is_restored() {
    let servers = Servers::start().await;
    let whole = servers.folder().join("whole");
    archived(&servers, 1, &whole).await;
    archived(&servers, 101, &servers.folder().join("foreign")).await;
    let before = verified(&whole).await;

    for (what, damage, words) in DAMAGES {
        let archive = servers.folder().join("damaged");
        copy(&whole, &archive);
        damage(&archive);

        let from = archive.to_string_lossy();
        let judged = Command::start(PROGRAM, &["archive", "verify", "--from", &from]).outcome().await;
        let refused = command(&servers, &["restore", "--from", &from]).await;

        for outcome in [judged, refused] {
            assert_eq!(outcome.code, Some(1), "{what}: {}", outcome.stderr);
            for word in words {
                assert!(outcome.stderr.contains(word), "{what}: {word}: {}", outcome.stderr);
            }
        }
        assert!(!has_stream(&servers).await, "{what}: nothing is written");
        fs::remove_dir_all(&archive).expect("removed");
    }
    assert_eq!(verified(&whole).await, before);
}

#[tokio::test]
async fn another_ledger_is_not_taken_for_this_one() {
    let servers = Servers::start().await;
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();
    archived(&servers, 1, &archive).await;

    let tenant = command(&servers, &["restore", "--from", &to, "--tenant=other"]).await;
    let nowhere = command(&servers, &["restore", "--from", "/no/such/archive"]).await;
    let lost = command(&servers, &["archive", "--to", &to]).await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default", "--only=http"]).await;
    let made_anew = command(&servers, &["archive", "--to", &to]).await;
    drop(service);

    for (outcome, words) in [
        (tenant, "it is of release-ledger/default, not of release-ledger/other"),
        (nowhere, "/no/such/archive"),
        (lost, "there is no stream of default"),
        (made_anew, "the archive is not of this stream: the stream was created at "),
    ] {
        assert_eq!(outcome.code, Some(1), "{words}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
}

/// An archive in three segments of a stream that is then deleted.
async fn archived(servers: &Servers, from: u64, to: &Path) {
    let database = servers.fresh_database(&format!("from_{from}")).await;
    let service = Service::start(PROGRAM, servers, &[&format!("--projections-url={database}")]).await;
    service.client().recorded_all(&deploys(from..from + 60)).await;
    drop(service);
    let to = to.to_string_lossy();
    let archived = told(servers, &["archive", "--to", &to, "--segment-entries=20"]).await;
    assert_eq!((&archived["position"], &archived["segments"]), (&60.into(), &3.into()));
    delete_stream(servers).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).expect("copied");
        }
    }
}
