//! Copies of folders.

use std::fs;
use std::path::Path;

/// Copies a folder with everything in it. Creates the destination if it is missing.
///
/// # Panics
/// A file cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &copied);
        } else {
            fs::copy(&path, &copied).expect("copied");
        }
    }
}
