//! A visitor of the pages: an HTTP client with cookies, which sends the forms of the pages as a browser does.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger_tests::{Client, Response};
use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Url};

/// Maximum number of redirects that lead to a page.
const MAX_REDIRECTS: usize = 10;
/// Maximum time of an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Type of the body of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// A browser of one person. It sends its cookies to each server: all are on one host, and a cookie has no port.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

/// An answer, with the URL that it was asked from.
#[derive(Debug)]
pub(crate) struct Page {
    /// URL of the page.
    pub(crate) url: Url,
    /// Status, headers and text.
    pub(crate) response: Response,
}

impl Visitor {
    /// Creates a visitor without cookies.
    pub(crate) fn new() -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build();
        Self { http: http.expect("a client"), cookies: BTreeMap::new() }
    }

    /// Requests a URL, and does not follow a redirect.
    pub(crate) async fn get(&mut self, url: &str) -> Page {
        self.send(url, self.http.get(url)).await
    }

    /// Requests a URL, and follows redirects to a page.
    pub(crate) async fn visit(&mut self, url: &str) -> Page {
        let mut page = self.get(url).await;
        for _ in 0..MAX_REDIRECTS {
            if page.response.header(LOCATION.as_str()).is_empty() {
                return page;
            }
            page = self.get(&page.location()).await;
        }
        panic!("more than {MAX_REDIRECTS} redirects from {url}");
    }

    /// Sends a form from a page of the same server, and does not follow the redirect.
    pub(crate) async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Page {
        let origin = Url::parse(url).expect("a URL").origin().ascii_serialization();
        self.submit_with(url, fields, &[("sec-fetch-site", "same-origin"), (ORIGIN.as_str(), &*origin)]).await
    }

    /// Sends a form with these headers, and does not follow the redirect.
    pub(crate) async fn submit_with(
        &mut self,
        url: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let encoded = Url::parse_with_params("http://form/", fields).expect("fields");
        let body = encoded.query().unwrap_or_default().to_owned();
        let mut request = self.http.post(url).header("content-type", FORM).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(url, request).await
    }

    /// Returns the value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    /// Returns the value of the `Cookie` header.
    pub(crate) fn cookies(&self) -> String {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        cookies.collect::<Vec<_>>().join("; ")
    }

    /// Sends a request with the cookies, and keeps those that the answer sets.
    async fn send(&mut self, url: &str, request: RequestBuilder) -> Page {
        let request = if self.cookies.is_empty() { request } else { request.header(COOKIE, self.cookies()) };
        let response = Client::send(request).await;
        for cookie in response.headers.get_all(SET_COOKIE) {
            self.set(cookie.to_str().expect("text"));
        }
        Page { url: Url::parse(url).expect("a URL"), response }
    }

    fn set(&mut self, cookie: &str) {
        let mut parts = cookie.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
        if parts.any(|part| part.eq_ignore_ascii_case("max-age=0")) {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

impl Page {
    /// Returns the status of the answer.
    pub(crate) const fn status(&self) -> u16 {
        self.response.status
    }

    /// Returns the text of the answer.
    pub(crate) fn text(&self) -> &str {
        &self.response.text
    }

    /// Returns the absolute URL to which the answer redirects.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        let to = self.response.header(LOCATION.as_str());
        assert!(!to.is_empty(), "{}: {} {}", self.url, self.status(), self.text());
        self.url.join(to).expect("a URL").into()
    }

    /// Returns the path and the query of the URL to which the answer redirects.
    #[track_caller]
    pub(crate) fn redirected_to(&self) -> String {
        path_and_query(&Url::parse(&self.location()).expect("a URL"))
    }

    /// Returns the path and the query of the page.
    pub(crate) fn path_and_query(&self) -> String {
        path_and_query(&self.url)
    }

    /// Returns the absolute URL of the first link to a path that starts with a prefix.
    #[track_caller]
    pub(crate) fn link(&self, prefix: &str) -> String {
        let mut links = elements(self.text(), "a").filter_map(|element| attribute(element, "href"));
        let found = links.find(|href| href.starts_with(prefix));
        let found = found.unwrap_or_else(|| panic!("no link to {prefix} on {}: {}", self.url, self.text()));
        self.url.join(&found).expect("a URL").into()
    }

    /// Returns the value of the first input with a name.
    #[track_caller]
    pub(crate) fn input(&self, name: &str) -> String {
        let named = |element: &&str| attribute(element, "name").is_some_and(|found| found == name);
        let found = elements(self.text(), "input").find(named).and_then(|found| attribute(found, "value"));
        found.unwrap_or_else(|| panic!("no input {name} on {}: {}", self.url, self.text()))
    }
}

fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// Returns the attributes of all elements with a name, as they are written. Pages escape `>` in values.
fn elements<'t>(html: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let start = format!("<{name}");
    let found: Vec<&str> = html.split(&*start).skip(1).collect();
    let attributes = found.into_iter().filter(|rest| rest.starts_with(char::is_whitespace));
    attributes.filter_map(|rest| rest.split('>').next())
}

/// Returns the value of an attribute.
fn attribute(element: &str, name: &str) -> Option<String> {
    let start = format!("{name}=\"");
    let mut found = element.match_indices(&*start);
    let (at, _) = found.find(|(at, _)| element[..*at].ends_with(char::is_whitespace))?;
    let value = element[at + start.len()..].split('"').next()?;
    Some(value.replace("&#38;", "&").replace("&amp;", "&"))
}

#[test]
fn links_and_inputs_are_found_with_their_values() {
    let html = "<abbr title=\"x\">a</abbr><a class=\"b\"\n href=\"/x?a=1&#38;b=2\">x</a><input type=\"hidden\" \
                name=\"event_id\" value=\"1\">";
    let links: Vec<_> = elements(html, "a").filter_map(|element| attribute(element, "href")).collect();
    assert_eq!(links, ["/x?a=1&b=2"]);
    let inputs: Vec<_> = elements(html, "input").filter_map(|element| attribute(element, "value")).collect();
    assert_eq!(inputs, ["1"]);
}
