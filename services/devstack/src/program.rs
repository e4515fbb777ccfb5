//! Where the programs of private servers are.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Whether it can be run.
pub(super) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The program of this name in the first folder of `search`, written as PATH is, that has it.
pub(super) fn on_path(search: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(search).map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// The `bin` folder of the highest version below `versions`, laid out as Debian does it, that has
/// all these programs.
pub(super) fn highest_version(versions: &Path, names: &[&str]) -> Option<PathBuf> {
    fs::read_dir(versions)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| names.iter().all(|name| is_program(&bin.join(name))))
        .max()
        .map(|(_, bin)| bin)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, "").expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("runnable");
    }

    #[test]
    fn versions_are_compared_as_numbers_and_must_be_complete() {
        let root = tempfile::tempdir().expect("a folder");
        for complete in ["9", "15"] {
            program(&root.path().join(complete).join("bin/postgres"));
            program(&root.path().join(complete).join("bin/initdb"));
        }
        program(&root.path().join("17/bin/initdb"));

        let found = highest_version(root.path(), &["postgres", "initdb"]);

        assert_eq!(found, Some(root.path().join("15/bin")));
    }

    #[test]
    fn what_cannot_be_run_is_passed_over() {
        let root = tempfile::tempdir().expect("a folder");
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        fs::create_dir(&first).expect("made");
        fs::write(first.join("server"), "").expect("written");
        program(&second.join("server"));
        let search = std::env::join_paths([&first, &second]).expect("a search path");

        assert_eq!(on_path(&search, "server"), Some(second.join("server")));
    }
}
