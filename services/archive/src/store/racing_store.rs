//! A store that another archiver writes to during a listing.

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

/// Objects of the concurrent write that the first listing returns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Visibility {
    /// None of them.
    None,
    /// Only the newest, without those written before it, as the listing of a directory may return.
    Newest,
}

/// Wraps a store so that `concurrent_write` runs during its first listing.
pub(crate) fn racing_store(
    store: Store,
    visibility: Visibility,
    concurrent_write: impl Future<Output = ()> + Send + 'static,
) -> Store {
    let concurrent_write = Box::pin(concurrent_write) as BoxFuture<'static, ()>;
    let concurrent_write = Arc::new(Mutex::new(Some(concurrent_write)));
    Store { objects: Arc::new(RacingStore { inner: store.objects, visibility, concurrent_write }), ..store }
}

struct RacingStore {
    inner: Arc<dyn ObjectStore>,
    visibility: Visibility,
    concurrent_write: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl fmt::Debug for RacingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RacingStore").field("visibility", &self.visibility).finish_non_exhaustive()
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
        let (visibility, concurrent_write) = (self.visibility, Arc::clone(&self.concurrent_write));
        let listed = async move {
            let mut found: Vec<_> = inner.list(prefix.as_ref()).collect().await;
            let concurrent_write = concurrent_write.lock().expect("not poisoned").take();
            if let Some(concurrent_write) = concurrent_write {
                concurrent_write.await;
                let newest = inner.list(prefix.as_ref()).filter_map(async |object| object.ok());
                let newest = newest.collect::<Vec<_>>().await;
                let newest = newest.into_iter().max_by(|a, b| a.location.cmp(&b.location));
                match visibility {
                    Visibility::None => {}
                    Visibility::Newest => found.extend(newest.map(Ok)),
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
