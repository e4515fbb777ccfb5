//! Damaged archives: the report names the file and, if possible, the line, and nothing is restored.

use std::fs;
use std::path::Path;

use ledger_tests::{Command, Servers, Service, copy_folder, delete_stream};

use super::{deploys, has_stream, run_command, run_json, verify_archive};
use crate::PROGRAM;

/// A way to damage an archive.
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

fn flip_byte(archive: &Path, file: &str) {
    change(archive, file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
}

/// Descriptions, damages, and the words that the error must contain.
const DAMAGES: [(&str, Damage, &[&str]); 11] = [
    (
        "a flipped byte in a segment",
        |archive| flip_byte(archive, &segment(21)),
        &[
            "segments/00000000000000000021-00000000000000000040.ndjson.zst: the file's sha256 is ",
            "the manifest says",
            "line ",
            "position ",
        ],
    ),
    (
        "a flipped byte in a manifest",
        |archive| flip_byte(archive, &format!("{SECOND}.json")),
        &[SECOND, ".json: "],
    ),
    (
        "a segment that is missing",
        |archive| fs::remove_file(archive.join(segment(21))).expect("removed"),
        &["segments/00000000000000000021-00000000000000000040.ndjson.zst: missing, but its manifest exists"],
    ),
    (
        "a manifest that is missing",
        |archive| fs::remove_file(archive.join(format!("{FIRST}.json"))).expect("removed"),
        &["segments/00000000000000000001.json: missing; the next manifest starts at position 21"],
    ),
    (
        "the last manifest is missing",
        |archive| fs::remove_file(archive.join(format!("{THIRD}.json"))).expect("removed"),
        &[
            "segments/00000000000000000041.json: missing; the archive ends at position 40, but its checkpoint is at position 60",
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
            "line 1, position 1: found position 21",
        ],
    ),
    (
        "a segment and a manifest of another ledger",
        |archive| {
            for file in [segment(21), format!("{SECOND}.json")] {
                fs::copy(archive.with_file_name("foreign").join(&file), archive.join(&file)).expect("copied");
            }
        },
        &["segments/00000000000000000021.json: its stream was created at "],
    ),
    ("a flipped byte in the checkpoint", |archive| flip_byte(archive, "checkpoint"), &["checkpoint: "]),
    (
        "a checkpoint of another ledger",
        |archive| {
            let foreign = archive.with_file_name("foreign").join("checkpoint");
            fs::copy(foreign, archive.join("checkpoint")).expect("copied");
        },
        &["checkpoint: its root is ", "segments/00000000000000000041.json says "],
    ),
    (
        "no checkpoint",
        |archive| fs::remove_file(archive.join("checkpoint")).expect("removed"),
        &["checkpoint: missing, but there are several segments"],
    ),
];

#[tokio::test]
async fn damage_is_reported_and_nothing_is_restored() {
    let servers = Servers::start().await;
    let intact = servers.folder().join("intact");
    archived(&servers, 1, &intact).await;
    archived(&servers, 101, &servers.folder().join("foreign")).await;
    let before = verify_archive(&intact).await;

    for (description, damage, words) in DAMAGES {
        let archive = servers.folder().join("damaged");
        copy_folder(&intact, &archive);
        damage(&archive);

        let from = archive.to_string_lossy();
        let verify = Command::start(PROGRAM, &["archive", "verify", "--from", &from]).outcome().await;
        let restore = run_command(&servers, &["restore", "--from", &from]).await;

        for outcome in [verify, restore] {
            assert_eq!(outcome.code, Some(1), "{description}: {}", outcome.stderr);
            for text in words {
                assert!(outcome.stderr.contains(text), "{description}: {text}: {}", outcome.stderr);
            }
        }
        assert!(!has_stream(&servers).await, "{description}: nothing is written");
        fs::remove_dir_all(&archive).expect("removed");
    }
    assert_eq!(verify_archive(&intact).await, before);
}

#[tokio::test]
async fn an_archive_of_another_ledger_is_rejected() {
    let servers = Servers::start().await;
    let archive = servers.folder().join("archive");
    let to = archive.to_string_lossy().into_owned();
    archived(&servers, 1, &archive).await;

    let tenant = run_command(&servers, &["restore", "--from", &to, "--tenant=other"]).await;
    let nowhere = run_command(&servers, &["restore", "--from", "/no/such/archive"]).await;
    let lost = run_command(&servers, &["archive", "--to", &to]).await;
    let service = Service::start(PROGRAM, &servers, &["--tenants=default", "--only=http"]).await;
    let recreated = run_command(&servers, &["archive", "--to", &to]).await;
    drop(service);

    for (outcome, words) in [
        (tenant, "belongs to release-ledger/default, not to release-ledger/other"),
        (nowhere, "/no/such/archive"),
        (lost, "tenant default has no stream"),
        (recreated, "the archive belongs to another stream: the stream was created at "),
    ] {
        assert_eq!(outcome.code, Some(1), "{words}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
}

/// Creates an archive of three segments and deletes its stream.
async fn archived(servers: &Servers, from: u64, to: &Path) {
    let database = servers.fresh_database(&format!("from_{from}")).await;
    let service = Service::start(PROGRAM, servers, &[&format!("--projections-url={database}")]).await;
    service.client().record_all(&deploys(from..from + 60)).await;
    drop(service);
    let to = to.to_string_lossy();
    let archived = run_json(servers, &["archive", "--to", &to, "--segment-entries=20"]).await;
    assert_eq!((&archived["position"], &archived["segments"]), (&60.into(), &3.into()));
    delete_stream(servers).await;
}
