//! Passwords of private servers: random, in files that only their owner can read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::Error;
use super::account::Account;
use super::error::file;

/// Length of a password, in random bytes.
const PASSWORD_BYTES: usize = 24;

/// Returns random bytes from the operating system.
///
/// # Errors
/// `/dev/urandom` cannot be read.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; N];
    File::open(source).and_then(|mut open| open.read_exact(&mut bytes)).map_err(file("read", source))?;
    Ok(bytes)
}

/// Loads the password from the file at `path`, or creates one if the file is missing. Makes `owner` the owner of the
/// file, if given.
///
/// # Errors
/// The file cannot be read or written, or has unexpected contents.
pub(super) fn load_or_create(path: &Path, owner: Option<&Account>) -> Result<SecretString, Error> {
    let password = match fs::read_to_string(path) {
        Ok(text) if text.len() == 2 * PASSWORD_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit()) => text,
        Ok(_) => return Err(Error::InvalidPasswordFile { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = hex::encode(random::<PASSWORD_BYTES>()?);
            write_private_file(path, &text)?;
            text
        }
        Err(error) => return Err(file("read", path)(error)),
    };
    if let Some(account) = owner {
        account.take_ownership(path)?;
    }
    Ok(password.into())
}

/// Writes a file that only its owner can read. The write is atomic, even if this process is killed.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_private_file(path: &Path, text: &str) -> Result<(), Error> {
    let draft = path.with_extension("draft");
    let write_file = || -> io::Result<()> {
        let mut output =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // A draft left by an earlier run may have another mode.
        output.set_permissions(Permissions::from_mode(0o600))?;
        output.write_all(text.as_bytes())?;
        output.sync_all()?;
        fs::rename(&draft, path)
    };
    write_file().map_err(file("write", path))
}

/// Derives a unique server name from the server's password and its directory: a copy of the directory has the same
/// password, and another name. The name is the same at every start. It identifies the server, its processes and the
/// listener on a port. It does not reveal the password, which is too long to guess.
pub(super) fn server_name(password: &SecretString, directory: &Path) -> String {
    let digest = Sha256::new()
        .chain_update(password.expose_secret())
        .chain_update(directory.as_os_str().as_encoded_bytes())
        .finalize();
    format!("release-ledger-{}", hex::encode(&digest[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_created_once_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("password");

        let created = load_or_create(&path, None).expect("created");
        let loaded = load_or_create(&path, None).expect("loaded");

        assert_eq!(created.expose_secret(), loaded.expose_secret());
        assert_eq!(created.expose_secret().len(), 48);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_server_of_a_copied_directory_has_another_name() {
        let password = SecretString::from("secret");
        let name = |directory: &str| server_name(&password, Path::new(directory));
        assert_eq!(name("/data/nats"), name("/data/nats"));
        assert_ne!(name("/data/nats"), name("/copy/nats"));
        assert!(!name("/data/nats").contains("secret"));
    }

    #[test]
    fn a_file_with_unexpected_contents_is_rejected_and_unchanged() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("password");
        fs::write(&path, "hunter2\n").expect("written");

        assert!(matches!(load_or_create(&path, None), Err(Error::InvalidPasswordFile { .. })));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "hunter2\n");
    }
}
