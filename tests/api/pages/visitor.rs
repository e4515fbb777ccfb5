//! A visitor of pages: a client that follows no redirect, and reads what pages show.

use ledger_access::ApiToken;
use ledger_tests::{Client, Guarded, InProcess, Response};
use reqwest::Method;
use reqwest::redirect::Policy;

const FORM: &str = "application/x-www-form-urlencoded";

/// A visitor with the credentials of a token, or without.
pub(crate) struct Visitor {
    http: reqwest::Client,
    url: String,
    token: Option<ApiToken>,
    /// A client of the API with the same credentials.
    pub(crate) api: Client,
}

impl Visitor {
    /// Creates a token with a grant in the tenant `default`, and returns a visitor with it.
    pub(crate) async fn new(
        guarded: &Guarded,
        name: &str,
        kind: &str,
        environments: &[&str],
        verbs: &[&str],
    ) -> Self {
        let token = guarded.create_token(name, kind).await;
        guarded.grant(name, &token, environments, verbs).await;
        let api = guarded.service.client_with(token.expose());
        Self { api, token: Some(token), ..Self::stranger(&guarded.service) }
    }

    /// Allows the visitor everything in another tenant.
    pub(crate) async fn grant_in(&self, guarded: &Guarded, tenant: &str) {
        let token = self.token.as_ref().expect("a visitor with a token");
        guarded.grant_in(tenant, &format!("{tenant}-{}", token.id()), token, &["*"], &["*"]).await;
    }

    /// Returns a visitor without credentials.
    pub(crate) fn stranger(service: &InProcess) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { http, url: service.url().to_owned(), token: None, api: service.client() }
    }

    /// Requests a page.
    pub(crate) async fn get(&self, path: &str) -> Response {
        Client::send(self.request(Method::GET, path)).await
    }

    /// Requests only the headers of a page.
    pub(crate) async fn head(&self, path: &str) -> Response {
        Client::send(self.request(Method::HEAD, path)).await
    }

    /// Requests a page, and asserts that the answer is a page.
    pub(crate) async fn page(&self, path: &str) -> String {
        let page = self.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert_eq!(page.content_type, "text/html; charset=utf-8", "{path}");
        page.text
    }

    /// Sends the form of a page.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        self.send(path, FORM, pairs.collect::<Vec<_>>().join("&")).await
    }

    /// Sends a body from a page.
    pub(crate) async fn send(&self, path: &str, content_type: &str, body: String) -> Response {
        let request = self.request(Method::POST, path).header("sec-fetch-site", "same-origin");
        Client::send(request.header("content-type", content_type).body(body)).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Returns the text of a page without the escapes of HTML.
pub(crate) fn unescaped(page: &str) -> String {
    let escapes = [
        ("&#60;", "<"),
        ("&lt;", "<"),
        ("&#62;", ">"),
        ("&gt;", ">"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    escapes.iter().fold(page.to_owned(), |page, (escape, text)| page.replace(escape, text))
}

/// Returns the path of the API that a page names.
pub(crate) fn api_path(page: &str) -> String {
    let page = unescaped(page);
    let (_, rest) = page.split_once("$RELEASE_LEDGER_URL\"").expect("a page names its path of the API");
    let (path, _) = rest.split_once("</code>").expect("the path ends");
    path.trim_matches('\'').to_owned()
}

/// Returns the event id in the form of a page.
pub(crate) fn form_event_id(page: &str) -> String {
    hidden_field(page, "event_id").expect("a page with a form")
}

/// Returns the value of a field that a page gives its form.
pub(crate) fn hidden_field(page: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("type=\"hidden\" name=\"{name}\" value=\""))?;
    Some(unescaped(rest.split('"').next()?))
}

/// Asserts that an answer is the page of a problem of the API.
#[track_caller]
pub(crate) fn assert_shows_problem(page: &Response, problem: &Response) {
    assert_eq!(page.status, problem.status, "{}", page.text);
    assert_eq!(page.content_type, "text/html; charset=utf-8");
    let text = unescaped(&page.text);
    for member in ["title", "detail"] {
        let words = problem.body[member].as_str().expect("a problem");
        assert!(text.contains(words), "{words}: {text}");
    }
}
