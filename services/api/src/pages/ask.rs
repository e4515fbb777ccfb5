//! Requests of pages to the API, within the process.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderValue, Method, Uri, header};
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use ledger_api_types::ProblemBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::error;

use crate::App;
use crate::access::Sent;
use crate::budget::Share;
use crate::limits::in_time;
use crate::parameters::LEDGER_POSITION;
use crate::peer::Peer;
use crate::problem::{Kind, Problem};
use crate::rates::Metered;
use crate::request_stats::RequestStats;

/// Maximum size of an answer of the API that a page shows, in bytes.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Router of the API that pages request: an extension of every request of a page.
#[derive(Clone)]
pub(crate) struct InnerApi(TowerToHyperService<Router>);

impl InnerApi {
    pub(crate) fn new(api: Router) -> Self {
        Self(TowerToHyperService::new(api))
    }
}

/// Client of the API in the name of the sender of a page's request.
pub(crate) struct PageApi {
    app: Arc<App>,
    api: InnerApi,
    /// Answers of which the page is made. They count for the budget of answers until the page is made.
    held: Mutex<Held>,
    /// Extensions that the middleware added to the request of the page, without the parameters of its path.
    extensions: Extensions,
}

/// Bytes of the answers of which a page is made.
struct Held {
    share: Share,
    bytes: usize,
}

impl FromRequestParts<Arc<App>> for PageApi {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let missing =
            || Problem::new(Kind::Internal, "the page has no router of the API; report this as a defect");
        let api = parts.extensions.get::<InnerApi>().cloned().ok_or_else(missing)?;
        let mut extensions = Extensions::new();
        carry::<Sent>(&parts.extensions, &mut extensions);
        carry::<Arc<RequestStats>>(&parts.extensions, &mut extensions);
        carry::<Metered>(&parts.extensions, &mut extensions);
        carry::<Peer>(&parts.extensions, &mut extensions);
        let held = Mutex::new(Held { share: app.bounds.answers.share(), bytes: 0 });
        Ok(Self { app: Arc::clone(app), api, held, extensions })
    }
}

fn carry<T: Clone + Send + Sync + 'static>(from: &Extensions, to: &mut Extensions) {
    if let Some(value) = from.get::<T>() {
        to.insert(value.clone());
    }
}

impl PageApi {
    /// Gets a path of the API with its query.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        Ok(self.get_with_position(path).await?.0)
    }

    /// Gets a path of the API with its query, and the position that the answer reflects, if it states one.
    pub(super) async fn get_with_position<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, Option<u64>), Problem> {
        let answer = async {
            let answer = self.send(Method::GET, path, None).await?;
            let position = answer.headers().get(LEDGER_POSITION);
            let position = position.and_then(|position| position.to_str().ok()?.parse().ok());
            Ok((self.parse(answer).await?, position))
        };
        in_time(self.app.limits.question_timeout, answer).await
    }

    /// Posts a body to a path of the API. The only time limit is that of the handler, since it may record an event.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        content_type: &'static str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| Problem::new(Kind::Internal, error))?;
        self.parse(self.send(Method::POST, path, Some((content_type, body))).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Response, Problem> {
        let uri: Uri = path.parse().map_err(|error| Problem::parameter("path", error))?;
        let (content_type, body) = content.map_or((None, Body::empty()), |(content_type, body)| {
            (Some(HeaderValue::from_static(content_type)), Body::from(body))
        });
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.extensions_mut() = self.extensions.clone();
        if let Some(content_type) = content_type {
            request.headers_mut().insert(header::CONTENT_TYPE, content_type);
            request.headers_mut().insert("prefer", HeaderValue::from_static("return=minimal"));
        }
        Ok(self.api.0.call(request).await.unwrap_or_else(|never| match never {}))
    }

    /// Counts the bytes of an answer for the budget of answers until the page is made.
    fn hold(&self, bytes: usize) -> Result<(), Problem> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = held.bytes.saturating_add(bytes);
        held.share.resize(bytes)?;
        held.bytes = bytes;
        Ok(())
    }

    /// Parses an answer.
    async fn parse<T: DeserializeOwned>(&self, answer: Response) -> Result<T, Problem> {
        let is_success = answer.status().is_success();
        let too_large = |_| {
            let detail = format!("the answer exceeds {MAX_ANSWER_BYTES} bytes; request it from the API");
            Problem::new(Kind::Internal, detail)
        };
        let bytes = to_bytes(answer.into_body(), MAX_ANSWER_BYTES).await.map_err(too_large)?;
        self.hold(bytes.len())?;
        if is_success {
            return serde_json::from_slice(&bytes).map_err(|error| unreadable(&error));
        }
        let problem: ProblemBody = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        Err(Problem::from(Box::new(problem)))
    }
}

fn unreadable(error: &serde_json::Error) -> Problem {
    error!(%error, "a page cannot read the answer of the API");
    Problem::new(Kind::Internal, "a page cannot read the answer of the API; the service log has the cause")
}
