//! Where archives are kept: a folder, or a bucket of a storage that speaks S3.
//!
//! What is written is there whole or not at all, and durable: in a folder by a rename after a sync, in a
//! bucket by the storage itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig};

/// How long a request to a storage is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often.
const RETRIES: usize = 5;

/// Why what is kept cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place cannot be read.
    #[error("{0} is neither a folder nor s3://bucket/prefix")]
    Place(String),
    /// The folder is not there, or cannot be used.
    #[error("the folder {folder} cannot be used")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The storage's settings cannot be used.
    #[error("the settings of {place} cannot be used")]
    Settings {
        /// The place.
        place: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// An object cannot be read or written. It may be tried again.
    #[error("{object} in {place} cannot be reached")]
    Object {
        /// The place.
        place: String,
        /// The object.
        object: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
}

/// What is wanted of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To write: a folder is made where there is none.
    Write,
    /// To read what is there.
    Read,
}

/// A place with objects in it.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    place: String,
}

impl Store {
    /// Opens a folder, or `s3://bucket/prefix` with settings by their usual names (`AWS_ENDPOINT_URL`,
    /// `AWS_ACCESS_KEY_ID` …). Names that are not known are passed over.
    ///
    /// # Errors
    /// The place or its settings cannot be used. Whether a storage answers is seen later.
    pub fn open(
        place: &str,
        access: Access,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        match place.split_once("://") {
            Some(("s3", path)) => bucket(place, path, settings),
            Some(_) => Err(Error::Place(place.to_owned())),
            None => folder(place, access),
        }
    }

    /// Its place, as it was given.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// An object; `None` if there is none.
    pub(crate) async fn get(&self, object: &str) -> Result<Option<Bytes>, Error> {
        let read = async { self.objects.get(&self.path(object)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(object, source)),
        }
    }

    /// Writes an object where there is none; whether it did.
    pub(crate) async fn create(&self, object: &str, bytes: Bytes) -> Result<bool, Error> {
        match self.put(object, bytes.clone(), PutMode::Create).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            // A storage that knows no conditions: two who write at once are not told apart.
            Err(object_store::Error::NotImplemented { .. }) => match self.get(object).await? {
                Some(_) => Ok(false),
                None => self.replace(object, bytes).await.map(|()| true),
            },
            Err(source) => Err(self.failed(object, source)),
        }
    }

    /// Writes an object, whatever is there.
    pub(crate) async fn replace(&self, object: &str, bytes: Bytes) -> Result<(), Error> {
        self.put(object, bytes, PutMode::Overwrite).await.map_err(|source| self.failed(object, source))
    }

    /// The names of the objects in a folder, sorted; without the folder's name.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        let path = self.path(folder);
        let found = self.objects.list(Some(&path)).try_collect::<Vec<_>>().await;
        let found = found.map_err(|source| self.failed(folder, source))?;
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

    fn failed(&self, object: &str, source: object_store::Error) -> Error {
        Error::Object { place: self.place.clone(), object: object.to_owned(), source }
    }
}

fn folder(place: &str, access: Access) -> Result<Store, Error> {
    let folder = PathBuf::from(place);
    let unusable = |source| Error::Folder { folder: folder.clone(), source };
    match access {
        Access::Write => std::fs::create_dir_all(&folder).map_err(unusable)?,
        Access::Read => drop(std::fs::read_dir(&folder).map_err(unusable)?),
    }
    let objects = LocalFileSystem::new_with_prefix(&folder)
        .map_err(|source| Error::Settings { place: place.to_owned(), source })?
        .with_fsync(true);
    Ok(Store { objects: Arc::new(objects), prefix: Path::default(), place: place.to_owned() })
}

fn bucket(
    place: &str,
    path: &str,
    settings: impl IntoIterator<Item = (String, String)>,
) -> Result<Store, Error> {
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    if bucket.is_empty() {
        return Err(Error::Place(place.to_owned()));
    }
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
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
        .map_err(|source| Error::Settings { place: place.to_owned(), source })?;
    Ok(Store { objects: Arc::new(objects), prefix: Path::from(prefix), place: place.to_owned() })
}

#[cfg(test)]
pub(crate) mod racing_store;

#[cfg(test)]
mod tests {
    use super::*;

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(&folder.path().to_string_lossy(), Access::Write, []).expect("a folder")
    }

    #[tokio::test]
    async fn what_is_there_is_not_created_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);

        assert!(store.create("segments/1", Bytes::from_static(b"first")).await.expect("created"));
        assert!(!store.create("segments/1", Bytes::from_static(b"second")).await.expect("refused"));

        assert_eq!(store.get("segments/1").await.expect("read").expect("there"), "first");
        store.replace("segments/1", Bytes::from_static(b"third")).await.expect("replaced");
        assert_eq!(store.get("segments/1").await.expect("read").expect("there"), "third");
    }

    #[tokio::test]
    async fn what_is_not_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(&folder);

        assert_eq!(store.get("checkpoint").await.expect("read"), None);
        assert_eq!(store.list("segments").await.expect("listed"), [""; 0]);
    }

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        for wrong in ["gs://bucket/prefix", "s3://", "s3:///prefix"] {
            assert!(matches!(Store::open(wrong, Access::Read, []), Err(Error::Place(_))), "{wrong}");
        }
        assert!(matches!(Store::open("/no/such/folder", Access::Read, []), Err(Error::Folder { .. })));
        let settings = [("AWS_REGION", "eu-central-1"), ("AWS_NOBODY_KNOWS", "1")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Store::open("s3://bucket/some/prefix", Access::Read, settings).expect("a bucket");
    }
}
