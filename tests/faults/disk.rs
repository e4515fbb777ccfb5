//! A small disk in memory that can be filled and freed. Mounting one requires root.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs, unmounted on drop.
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Creates the folder and mounts a tmpfs of this size (in MiB) on it.
    pub(crate) fn mount(folder: &Path, mebibytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m,mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        let mounted = mounted.map_err(|error| format!("mount: {error}"))?;
        if mounted.status.success() {
            Ok(Self { folder: folder.to_owned() })
        } else {
            Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
        }
    }

    /// Writes a ballast file until no space is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("create the ballast file");
        for size in [1 << 20, 4 << 10] {
            let chunk = vec![0; size];
            while ballast.write_all(&chunk).is_ok() {}
        }
    }

    /// Deletes the ballast file.
    pub(crate) fn free(&self) {
        // The file may not exist.
        let _ = std::fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy: with files still open, the kernel unmounts once they are closed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
