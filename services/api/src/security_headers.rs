//! Headers of every answer that limit what a browser does with it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::App;
use crate::page_paths::{is_page, is_public_page};

/// Type of the content of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Data: a browser has nothing to load or run.
    Data,
    /// The pages below `/docs`: they load their own scripts, styles and images, and send requests to the API.
    Documentation,
    /// The pages for people: they load a style sheet, and send forms to this service. They have no scripts.
    Page,
}

impl Content {
    /// Returns the type of the content at a path. `has_pages`: the service has pages for people.
    fn at(path: &str, has_pages: bool) -> Self {
        let below = path.strip_prefix("/docs");
        let is_documentation = below.is_some_and(|below| below.is_empty() || below.starts_with('/'));
        match is_documentation {
            true => Self::Documentation,
            false if has_pages && (is_page(path) || is_public_page(path)) => Self::Page,
            false => Self::Data,
        }
    }

    const fn policy(self) -> &'static str {
        match self {
            Self::Data => "default-src 'none'; frame-ancestors 'none'",
            // Swagger UI sets styles on its elements, and has images in its style sheet.
            Self::Documentation => {
                "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                 connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            }
            Self::Page => {
                "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                 frame-ancestors 'none'"
            }
        }
    }
}

/// Headers of pages for people, which replace those of every answer. With `no-referrer`, browsers would send forms with
/// `Origin: null`.
const OF_PAGES: [(HeaderName, &str); 2] = [
    (REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Headers of every answer.
const ALWAYS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (X_FRAME_OPTIONS, "DENY"),
];

/// One year, in seconds. Other names below the host's may have no TLS: they are not included.
const TRANSPORT_SECURITY: &str = "max-age=31536000";

/// Adds the headers to the headers of an answer.
pub(crate) fn add(headers: &mut HeaderMap, content: Content, is_encrypted: bool) {
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let of_pages = OF_PAGES.into_iter().filter(|_| content == Content::Page);
    for (name, value) in of_pages {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(content.policy()));
    if is_encrypted {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TRANSPORT_SECURITY));
    }
}

/// Adds the headers to the answer to a request.
pub(crate) async fn add_to_answer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let content = Content::at(request.uri().path(), app.pages.is_some());
    let mut response = next.run(request).await;
    add(response.headers_mut(), content, app.is_encrypted);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::StatusCode;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        AllowedHosts, Authentication, Bounds, Ledgers, Limits, MAX_HISTORY_SCANS, RateLimits, Rates,
    };

    fn app(is_encrypted: bool) -> Arc<App> {
        let limits = Limits {
            batch_bytes: 1 << 20,
            events: 100,
            read_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            min_bytes_per_second: 1,
            question_timeout: Duration::from_secs(10),
            connections: 8,
            body_bytes: 1 << 20,
            answer_bytes: 1 << 20,
            followers: 1,
            followers_of_principal: 1,
        };
        Arc::new(App {
            hooks: BTreeMap::new(),
            read_log: None,
            cdevents: ledger_adapters::cdevents::Settings::default(),
            ledgers: Ledgers::default(),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            limits,
            bounds: Bounds::new(&limits),
            rates: Rates::new(RateLimits::default()),
            authentication: Authentication::Off,
            allowed_hosts: AllowedHosts::default(),
            is_encrypted,
            checks: Vec::new(),
            pages: None,
            history_scans: Semaphore::new(MAX_HISTORY_SCANS),
        })
    }

    async fn answer(app: Arc<App>, path: &str, host: Option<&str>) -> Response {
        let request = Request::builder().uri(path);
        let request = host.into_iter().fold(request, |request, host| request.header("host", host));
        let request = request.body(Body::empty()).expect("a request");
        TowerToHyperService::new(crate::router(app)).call(request).await.expect("an answer")
    }

    fn header<'r>(response: &'r Response, name: &str) -> &'r str {
        response.headers().get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    #[tokio::test]
    async fn every_answer_has_the_headers() {
        let cases = [
            ("/livez", Some("a"), StatusCode::OK),
            ("/openapi.json", Some("a"), StatusCode::OK),
            ("/none", Some("a"), StatusCode::NOT_FOUND),
            ("/livez", None, StatusCode::BAD_REQUEST),
        ];
        for (path, host, status) in cases {
            let response = answer(app(false), path, host).await;

            assert_eq!(response.status(), status, "{path}");
            for (name, value) in ALWAYS {
                assert_eq!(header(&response, name.as_str()), value, "{path}");
            }
            let policy = "default-src 'none'; frame-ancestors 'none'";
            assert_eq!(header(&response, "content-security-policy"), policy, "{path}");
            assert_eq!(header(&response, "strict-transport-security"), "", "{path}");
        }
    }

    #[tokio::test]
    async fn an_encrypted_service_forbids_plain_http() {
        let response = answer(app(true), "/livez", Some("a")).await;

        assert_eq!(header(&response, "strict-transport-security"), TRANSPORT_SECURITY);
    }

    /// Every source that the page of Swagger UI names is one that its policy allows: files of this service.
    #[tokio::test]
    async fn the_policy_of_the_documentation_allows_what_its_page_loads() {
        let response = answer(app(false), "/docs/", Some("a")).await;
        let policy = header(&response, "content-security-policy").to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        let page = String::from_utf8(body.to_vec()).expect("UTF-8");

        assert!(
            policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        let sources: Vec<_> = ["src=\"", "href=\""]
            .iter()
            .flat_map(|name| page.split(name).skip(1).filter_map(|rest| rest.split('"').next()))
            .collect();
        assert!(sources.iter().any(|source| source.ends_with(".js")), "{page}");
        assert!(sources.iter().all(|source| !source.contains("//")), "{sources:?}");
        assert!(!page.contains("<script>"), "an inline script needs another policy: {page}");
    }

    #[test]
    fn only_paths_below_docs_are_documentation() {
        assert_eq!(Content::at("/docs", true), Content::Documentation);
        assert_eq!(Content::at("/docs/swagger-ui.css", true), Content::Documentation);
        assert_eq!(Content::at("/docsx", true), Content::Data);
        assert_eq!(Content::at("/v1/docs", true), Content::Data);
    }

    #[test]
    fn a_page_loads_only_styles_and_images_and_sends_its_forms_with_their_origin_to_this_service_only() {
        for path in ["/", "/t/default", "/signin/callback", "/signout", "/assets/0/pages.css"] {
            assert_eq!(Content::at(path, true), Content::Page, "{path}");
            assert_eq!(Content::at(path, false), Content::Data, "{path}");
        }
        let mut headers = HeaderMap::new();

        add(&mut headers, Content::Page, false);

        let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
        assert!(policy.contains("form-action 'self'") && !policy.contains("script-src"), "{policy}");
        assert_eq!(headers[REFERRER_POLICY], "same-origin");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
    }
}
