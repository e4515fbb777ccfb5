//! Storage of archives: a directory, or a bucket of an S3-compatible object storage.
//!
//! Writes are atomic and durable: a directory syncs a temporary file and renames it, a bucket relies on its storage.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig};

/// Time after which a request to an object storage is not retried any more.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of retries of a request to an object storage.
const MAX_RETRIES: usize = 5;

/// Reason why a storage cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The location has an unsupported form.
    #[error("invalid archive location {0}: pass a directory or s3://bucket/prefix")]
    InvalidLocation(String),
    /// The directory does not exist, or is not accessible.
    #[error("cannot open the directory {path}")]
    Directory {
        /// Path of the directory.
        path: PathBuf,
        /// Underlying error.
        #[source]
        source: std::io::Error,
    },
    /// The settings of the storage are invalid or incomplete.
    #[error("cannot open {location} with the given settings")]
    Settings {
        /// Location of the archive.
        location: String,
        /// Underlying error.
        #[source]
        source: object_store::Error,
    },
    /// An object cannot be read, written or listed; a retry may succeed.
    #[error("cannot access {object} in {location}")]
    Object {
        /// Location of the archive.
        location: String,
        /// Name of the object.
        object: String,
        /// Underlying error.
        #[source]
        source: object_store::Error,
    },
}

/// Access to a store that a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and write: creates a missing directory.
    Write,
    /// Read only: a missing directory is an error.
    Read,
}

/// A directory or bucket that holds the objects of an archive.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
}

impl Store {
    /// Opens a directory, or `s3://bucket/prefix` with settings under their usual names (`AWS_ENDPOINT_URL`,
    /// `AWS_ACCESS_KEY_ID` …). Ignores unknown names.
    ///
    /// # Errors
    /// The location or its settings are invalid, or the directory is not accessible. Does not connect to a bucket.
    pub fn open(
        location: &str,
        access: Access,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        match location.split_once("://") {
            Some(("s3", path)) => open_bucket(location, path, settings),
            Some(_) => Err(Error::InvalidLocation(location.to_owned())),
            None => open_directory(location, access),
        }
    }

    /// Returns the location as passed to [`Store::open`].
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Reads an object; `None` if it does not exist.
    pub(crate) async fn get(&self, object: &str) -> Result<Option<Bytes>, Error> {
        let read = async { self.objects.get(&self.path(object)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.object_error(object, source)),
        }
    }

    /// Writes an object unless it exists. Returns true if it wrote the object.
    pub(crate) async fn create(&self, object: &str, bytes: Bytes) -> Result<bool, Error> {
        match self.put(object, bytes.clone(), PutMode::Create).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            // The storage does not support conditional writes: two concurrent writers may both succeed.
            Err(object_store::Error::NotImplemented { .. }) => match self.get(object).await? {
                Some(_) => Ok(false),
                None => self.replace(object, bytes).await.map(|()| true),
            },
            Err(source) => Err(self.object_error(object, source)),
        }
    }

    /// Writes an object, and overwrites an existing one.
    pub(crate) async fn replace(&self, object: &str, bytes: Bytes) -> Result<(), Error> {
        self.put(object, bytes, PutMode::Overwrite).await.map_err(|source| self.object_error(object, source))
    }

    /// Lists the objects in a folder by name, sorted. The names do not include the folder.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.path(folder);
        let found = self.objects.list(Some(&path)).try_collect::<Vec<_>>().await;
        let found = found.map_err(|source| self.object_error(folder, source))?;
        let mut names: Vec<String> =
            found.iter().filter_map(|object| object.location.filename()).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn put(&self, object: &str, bytes: Bytes, mode: PutMode) -> Result<(), object_store::Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        self.objects.put_opts(&self.path(object), bytes.into(), options).await.map(drop)
    }

    fn path(&self, object: &str) -> Path {
        object.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn object_error(&self, object: &str, source: object_store::Error) -> Error {
        Error::Object { location: self.location.clone(), object: object.to_owned(), source }
    }
}

fn open_directory(location: &str, access: Access) -> Result<Store, Error> {
    let path = PathBuf::from(location);
    let inaccessible = |source| Error::Directory { path: path.clone(), source };
    match access {
        Access::Write => std::fs::create_dir_all(&path).map_err(inaccessible)?,
        Access::Read => drop(std::fs::read_dir(&path).map_err(inaccessible)?),
    }
    let objects = LocalFileSystem::new_with_prefix(&path)
        .map_err(|source| Error::Settings { location: location.to_owned(), source })?
        .with_fsync(true);
    Ok(Store { objects: Arc::new(objects), prefix: Path::default(), location: location.to_owned() })
}

fn open_bucket(
    location: &str,
    path: &str,
    settings: impl IntoIterator<Item = (String, String)>,
) -> Result<Store, Error> {
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.is_empty() {
        return Err(Error::InvalidLocation(location.to_owned()));
    }
    let retry =
        RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let builder = AmazonS3Builder::new().with_retry(retry);
    let builder = settings.into_iter().fold(builder, |builder, (name, value)| {
        match name.to_ascii_lowercase().parse() {
            Ok(key) => builder.with_config(key, value),
            Err(_) => builder,
        }
    });
    let objects = builder
        .with_bucket_name(bucket)
        .build()
        .map_err(|source| Error::Settings { location: location.to_owned(), source })?;
    Ok(Store { objects: Arc::new(objects), prefix: Path::from(prefix), location: location.to_owned() })
}

#[cfg(test)]
pub(crate) mod racing_store;

#[cfg(test)]
mod tests {
    use super::*;

    fn store(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().to_string_lossy(), Access::Write, []).expect("a store")
    }

    #[tokio::test]
    async fn create_does_not_overwrite_but_replace_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(&directory);

        assert!(store.create("segments/1", Bytes::from_static(b"first")).await.expect("created"));
        assert!(!store.create("segments/1", Bytes::from_static(b"second")).await.expect("not created"));

        assert_eq!(store.get("segments/1").await.expect("read").expect("exists"), "first");
        store.replace("segments/1", Bytes::from_static(b"third")).await.expect("replaced");
        assert_eq!(store.get("segments/1").await.expect("read").expect("exists"), "third");
    }

    #[tokio::test]
    async fn a_missing_object_is_none_and_a_missing_folder_is_empty() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = store(&directory);

        assert_eq!(store.get("checkpoint").await.expect("read"), None);
        assert_eq!(store.list("segments").await.expect("listed"), [""; 0]);
    }

    #[test]
    fn a_location_is_a_directory_or_a_bucket() {
        for invalid in ["gs://bucket/prefix", "s3://", "s3:///prefix"] {
            let opened = Store::open(invalid, Access::Read, []);
            assert!(matches!(opened, Err(Error::InvalidLocation(_))), "{invalid}");
        }
        assert!(matches!(Store::open("/no/such/folder", Access::Read, []), Err(Error::Directory { .. })));
        let settings = [("AWS_REGION", "eu-central-1"), ("AWS_UNKNOWN_SETTING", "1")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Store::open("s3://bucket/some/prefix", Access::Read, settings).expect("a bucket");
    }
}
