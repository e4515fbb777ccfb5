//! A small disk in memory, which can be filled up and emptied. Mounting one needs root.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs, unmounted when this is dropped.
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one on a folder, which is made.
    pub(crate) fn mount(folder: &Path, megabytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let size = format!("size={megabytes}m,mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        let mounted = mounted.map_err(|error| format!("mount: {error}"))?;
        if mounted.status.success() {
            Ok(Self { folder: folder.to_owned() })
        } else {
            Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
        }
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file");
        for size in [1 << 20, 4 << 10] {
            let chunk = vec![0; size];
            while ballast.write_all(&chunk).is_ok() {}
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        // It may not be there.
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file there keeps it from going at once, not from going.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
