//! Files with the results of the cases of a check.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ledger_domain::event::Counts;

use super::{junit, sarif, tap};

/// Maximum size of a file in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Flags that name the files.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ResultFiles {
    /// A file with results in the XML form of JUnit, for the numbers of cases; may be given several times
    #[arg(long, value_name = "FILE")]
    junit: Vec<PathBuf>,
    /// A file with results in the form of the Test Anything Protocol; may be given several times
    #[arg(long, value_name = "FILE")]
    tap: Vec<PathBuf>,
    /// A file with results in SARIF; may be given several times
    #[arg(long, value_name = "FILE")]
    sarif: Vec<PathBuf>,
}

/// Counts the cases in the text of a file.
type Count = fn(&str) -> Result<Counts, String>;

/// The time of the last change and the size of each file; none for a file that does not exist.
pub(super) type Stamps = Vec<Option<(SystemTime, u64)>>;

impl ResultFiles {
    fn files(&self) -> impl Iterator<Item = (&'static str, &Path, Count)> {
        let junit = self.junit.iter().map(|path| ("--junit", path.as_path(), junit::count as Count));
        let tap = self.tap.iter().map(|path| ("--tap", path.as_path(), tap::count as Count));
        let sarif = self.sarif.iter().map(|path| ("--sarif", path.as_path(), sarif::count as Count));
        junit.chain(tap).chain(sarif)
    }

    /// Returns the state of the files, before the command runs that should write them.
    pub(super) fn stamps(&self) -> Stamps {
        self.files().map(|(_, path, _)| stamp(path)).collect()
    }

    /// Returns the sums of all files; none if no file is given or one cannot be used. The second value has the reason for
    /// each such file, with the flag. A file in the state `before` was not written since then.
    pub(super) fn counts(&self, before: Option<&Stamps>) -> (Option<Counts>, Vec<String>) {
        let mut sum = None;
        let mut faults = Vec::new();
        for (index, (flag, path, count)) in self.files().enumerate() {
            let before = before.and_then(|stamps| stamps.get(index)).copied().flatten();
            match read(path, before).and_then(|text| count(&text)) {
                Ok(Counts { passed, failed, skipped }) => {
                    let total: &mut Counts = sum.get_or_insert_default();
                    total.passed += passed;
                    total.failed += failed;
                    total.skipped += skipped;
                }
                Err(fault) => faults.push(format!("{flag} {}: {fault}", path.display())),
            }
        }
        (sum.filter(|_| faults.is_empty()), faults)
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path, before: Option<(SystemTime, u64)>) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    if before.is_some() && stamp(path) == before {
        return Err("was not written by the command; it is from an earlier run".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}
