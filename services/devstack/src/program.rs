//! Search for the programs of private servers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Returns true if `path` is an executable file.
pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Returns the first program named `name` in the directories of `search`, a list in the format of PATH.
pub(super) fn find_on_path(search: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(search).map(|directory| directory.join(name)).find(|path| is_executable(path))
}

/// Returns the `bin` directory of the highest version below `versions`, in the layout of Debian, that has all of
/// `names`.
pub(super) fn highest_version(versions: &Path, names: &[&str]) -> Option<PathBuf> {
    fs::read_dir(versions)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| names.iter().all(|name| is_executable(&bin.join(name))))
        .max()
        .map(|(_, bin)| bin)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().expect("parent directory")).expect("directory created");
        fs::write(path, "").expect("file written");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("mode set");
    }

    #[test]
    fn the_highest_complete_version_wins_by_numeric_order() {
        let root = tempfile::tempdir().expect("temporary directory");
        for complete in ["9", "15"] {
            program(&root.path().join(complete).join("bin/postgres"));
            program(&root.path().join(complete).join("bin/initdb"));
        }
        program(&root.path().join("17/bin/initdb"));

        let found = highest_version(root.path(), &["postgres", "initdb"]);

        assert_eq!(found, Some(root.path().join("15/bin")));
    }

    #[test]
    fn files_that_are_not_executable_are_skipped() {
        let root = tempfile::tempdir().expect("temporary directory");
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        fs::create_dir(&first).expect("directory created");
        fs::write(first.join("server"), "").expect("file written");
        program(&second.join("server"));
        let search = std::env::join_paths([&first, &second]).expect("valid search path");

        assert_eq!(find_on_path(&search, "server"), Some(second.join("server")));
    }
}
