//! Passwords of private servers: random, kept in a file that only its owner reads.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::Error;
use super::account::Account;
use super::error::file;

const BYTES: usize = 24;

/// Random bytes from the system.
///
/// # Errors
/// The system has none.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    File::open(source).and_then(|mut open| open.read_exact(&mut bytes)).map_err(file("read", source))?;
    Ok(bytes)
}

/// The password in the file at `path`; a new one is put there if there is none. With an account,
/// the file belongs to it.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub(super) fn kept(path: &Path, owner: Option<&Account>) -> Result<SecretString, Error> {
    let password = match fs::read_to_string(path) {
        Ok(text) if text.len() == 2 * BYTES && text.bytes().all(|b| b.is_ascii_hexdigit()) => text,
        Ok(_) => return Err(Error::BadSecret { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = hex(&random::<BYTES>()?);
            write(path, &text)?;
            text
        }
        Err(error) => return Err(file("read", path)(error)),
    };
    if let Some(account) = owner {
        account.own(path)?;
    }
    Ok(password.into())
}

/// Writes a file that only its owner reads: whole or not at all, also when we are killed.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let draft = path.with_extension("draft");
    let written = || -> io::Result<()> {
        let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // A draft that was left behind may have another mode.
        open.set_permissions(Permissions::from_mode(0o600))?;
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&draft, path)
    };
    written().map_err(file("write", path))
}

/// A name for the server that has this password: the same at every start, and no other server's,
/// so that a server, its processes and what answers on a port can be told from others. It says
/// nothing of the password, which is too long to be guessed.
pub(super) fn server_name(password: &SecretString) -> String {
    let digest = Sha256::digest(password.expose_secret());
    format!("release-ledger-{}", hex(&digest[..6]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");

        let made = kept(&path, None).expect("made");
        let found = kept(&path, None).expect("found");

        assert_eq!(made.expose_secret(), found.expose_secret());
        assert_eq!(made.expose_secret().len(), 48);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_anything_else_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        fs::write(&path, "hunter2\n").expect("written");

        assert!(matches!(kept(&path, None), Err(Error::BadSecret { .. })));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "hunter2\n");
    }
}
