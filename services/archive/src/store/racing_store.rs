//! A folder in which something is written while it is looked through.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Store;

/// What of that is seen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen {
    /// Nothing.
    Nothing,
    /// The newest, and not what was written before it: a folder may be read so.
    Newest,
}

/// The store, in which something is written while it is listed for the first time.
pub(crate) fn racing_store(
    store: Store,
    seen: Seen,
    written: impl Future<Output = ()> + Send + 'static,
) -> Store {
    let written = Arc::new(Mutex::new(Some(Box::pin(written) as BoxFuture<'static, ()>)));
    Store { objects: Arc::new(RacingStore { inner: store.objects, seen, written }), ..store }
}

struct RacingStore {
    inner: Arc<dyn ObjectStore>,
    seen: Seen,
    written: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl fmt::Debug for RacingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meanwhile").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl fmt::Display for RacingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for RacingStore {
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        let (seen, written) = (self.seen, Arc::clone(&self.written));
        let listed = async move {
            let mut found: Vec<_> = inner.list(prefix.as_ref()).collect().await;
            let written = written.lock().expect("no other panics").take();
            if let Some(written) = written {
                written.await;
                let newest = inner.list(prefix.as_ref()).filter_map(async |object| object.ok());
                let newest = newest.collect::<Vec<_>>().await;
                let newest = newest.into_iter().max_by(|a, b| a.location.cmp(&b.location));
                match seen {
                    Seen::Nothing => {}
                    Seen::Newest => found.extend(newest.map(Ok)),
                }
            }
            stream::iter(found)
        };
        stream::once(listed).flatten().boxed()
    }

    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
