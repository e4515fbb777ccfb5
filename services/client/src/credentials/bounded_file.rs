//! Files of a bounded size.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Maximum size of a token file in bytes.
pub(super) const MAX_TOKEN_FILE_BYTES: u64 = 64 << 10;

/// Reads a file of at most `limit` bytes.
pub(super) fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}
