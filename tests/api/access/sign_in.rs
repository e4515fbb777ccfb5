//! Sign-in of people with a browser, their sessions, and what a page of another site cannot do.

use std::collections::BTreeMap;

use futures::future::join_all;
use ledger_access::ApiToken;
use ledger_tests::{Client, Guarded, InProcess, Issuer, Response, new_token};
use reqwest::RequestBuilder;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use sqlx::Connection as _;

/// Address of the service for browsers, which only the issuer sees: the tests send its answers to the service.
const URL: &str = "http://127.0.0.1:9";
/// Cookie of a session.
const SESSION: &str = "__Host-release-ledger";
/// Cookie of a sign-in that is in progress.
const SIGN_IN: &str = "__Host-release-ledger-sign-in";

/// Returns the settings of the pages, and of issuers of people with which they sign in.
fn settings(issuers: &[&Issuer]) -> String {
    let of_issuer = |issuer: &&Issuer| {
        format!(
            "[[access.issuers]]\nissuer = {:?}\naudience = \"ledger\"\nkind = \"person\"\n\
             sign_in = {{ client_id = \"ledger\" }}\n",
            issuer.url()
        )
    };
    let issuers: String = issuers.iter().map(of_issuer).collect();
    format!("[pages]\nurl = {URL:?}\n{issuers}")
}

/// A service with an issuer of people.
struct Stage {
    guarded: Guarded,
    issuer: Issuer,
}

impl Stage {
    async fn start() -> Self {
        let issuer = Issuer::start().await;
        issuer.set_user("4711", "mia");
        let settings = settings(&[&issuer]);
        Self { guarded: Guarded::start(&["--only=http,projector"], &settings).await, issuer }
    }

    fn browser(&self) -> Browser {
        Browser::new(self.guarded.service.url())
    }
}

/// A browser: it keeps cookies, follows no redirect, and sends forms from pages of the service.
struct Browser {
    http: reqwest::Client,
    url: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { http, url: url.to_owned(), cookies: BTreeMap::new() }
    }

    async fn send(&mut self, request: RequestBuilder) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = Client::send(request.header("cookie", cookies.join("; "))).await;
        for cookie in response.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().expect("ASCII");
            let (name, rest) = cookie.split_once('=').expect("a name");
            let (value, attributes) = rest.split_once(';').expect("attributes");
            assert!(attributes.contains("; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
            if attributes.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    async fn get(&mut self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        self.send(request).await
    }

    fn form(&self, path: &str, form: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url));
        request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned())
    }

    async fn post(&mut self, path: &str, form: &str) -> Response {
        let request = self.form(path, form).header("origin", &self.url);
        self.send(request).await
    }

    /// Begins a sign-in with the issuer, and returns the address to which the issuer sends the browser back.
    async fn ask_issuer(&mut self, to: &str) -> String {
        let begun = self.get(&format!("/signin/0?to={to}")).await;
        assert_eq!(begun.status, 303, "{}", begun.text);
        let asked = Client::send(self.http.get(begun.header("location"))).await;
        assert_eq!(asked.status, 303, "{}", asked.text);
        asked.header("location").to_owned()
    }

    /// Delivers the answer of the issuer to the service.
    async fn deliver(&mut self, answer: &str) -> Response {
        self.get(answer.strip_prefix(URL).expect("an answer to the service")).await
    }

    async fn sign_in(&mut self) -> Response {
        let answer = self.ask_issuer("/t/default").await;
        self.deliver(&answer).await
    }

    async fn sign_in_with(&mut self, token: &ApiToken) -> Response {
        self.post("/signin", &format!("token={}&to=%2Ft%2Fdefault", token.expose())).await
    }

    async fn is_signed_in(&mut self) -> bool {
        let status = self.get("/t/default").await.status;
        assert!(status < 500, "{status}");
        !matches!(status, 303 | 401)
    }
}

/// Asserts that an answer is the page of a failed sign-in, which begins no session.
fn assert_failed(browser: &Browser, response: &Response, status: u16, reason: &str) {
    assert_eq!(response.status, status, "{}", response.text);
    assert!(response.content_type.starts_with("text/html"), "{}", response.content_type);
    assert!(response.text.contains(reason), "{reason}: {}", response.text);
    assert!(!browser.cookies.contains_key(SESSION), "{reason}");
}

#[tokio::test]
async fn a_person_signs_in_with_an_issuer_and_returns_to_the_page() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    let first = browser.get("/t/default?at=-1").await;
    assert_eq!((first.status, first.header("location")), (303, "/signin?to=%2Ft%2Fdefault%3Fat%3D%2D1"));
    let page = browser.get(first.header("location")).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("/signin/0?to="), "{}", page.text);

    let answer = browser.ask_issuer("%2Ft%2Fdefault%3Fat%3D-1").await;
    let signed_in = browser.deliver(&answer).await;

    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/t/default?at=-1"));
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), [SESSION], "the other cookie is removed");
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn each_sign_in_begins_a_new_session_and_ends_the_one_before() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    browser.sign_in().await;
    let mut other = stage.browser();
    other.cookies = browser.cookies.clone();
    assert!(other.is_signed_in().await);

    browser.sign_in().await;

    assert_ne!(browser.cookies[SESSION], other.cookies[SESSION]);
    assert!(browser.is_signed_in().await);
    assert!(!other.is_signed_in().await, "a known secret is worth nothing after the next sign-in");
}

#[tokio::test]
async fn a_session_counts_for_pages_only() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    browser.sign_in().await;

    for path in ["/v1/whoami", "/v1/tenants/default/overview", "/metrics"] {
        let response = browser.get(path).await;
        assert_eq!((response.status, response.problem()), (401, "unauthenticated"), "{path}");
    }
}

#[tokio::test]
async fn without_a_session_a_page_leads_to_the_sign_in_and_a_form_is_rejected() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    for path in ["/", "/t/default", "/t/none"] {
        assert_eq!(browser.get(path).await.status, 303, "{path}");
    }
    assert_eq!(browser.post("/t/default/approvals", "decision=approve").await.status, 401);

    for wrong in ["", "x", &"A".repeat(43)] {
        browser.cookies.insert(SESSION.to_owned(), wrong.to_owned());
        assert_eq!(browser.get("/t/default").await.status, 303, "{wrong}");
        assert!(!browser.cookies.contains_key(SESSION), "a wrong cookie is removed");
    }
}

#[tokio::test]
async fn a_session_of_an_api_token_ends_with_the_token_and_with_its_secret() {
    let stage = Stage::start().await;
    let (revoked, rotated) =
        (stage.guarded.create_token("ada", "person").await, stage.guarded.create_token("bo", "person").await);
    let (mut ada, mut bo) = (stage.browser(), stage.browser());
    let signed_in = ada.sign_in_with(&revoked).await;
    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/t/default"));
    bo.sign_in_with(&rotated).await;
    assert!(ada.is_signed_in().await && bo.is_signed_in().await);

    stage.guarded.change("token.revoked", "revoke", json!({"token": revoked.id().as_str()})).await;
    let next = ApiToken::generate_for(rotated.id().clone()).expect("random numbers");
    let rotation = json!({
        "token": rotated.id().as_str(), "hash": next.hash().to_string(), "previous_until": "2026-01-01T00:00:00Z",
    });
    stage.guarded.change("token.rotated", "rotate", rotation).await;

    assert!(!ada.is_signed_in().await);
    assert!(!bo.is_signed_in().await, "the former secret is not accepted any more");
    // A process that has not read a new token yet gives the same answer: that must not end the session.
    assert!(ada.cookies.contains_key(SESSION) && bo.cookies.contains_key(SESSION));
    bo.sign_in_with(&next).await;
    assert!(bo.is_signed_in().await);
}

#[tokio::test]
async fn a_wrong_token_begins_no_session_and_is_not_shown() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    let unknown = new_token();

    let response = browser.sign_in_with(&unknown).await;
    assert_failed(&browser, &response, 401, "the token is unknown");
    assert!(!response.text.contains(unknown.expose()), "{}", response.text);
    let jwt = browser.post("/signin", "token=eyJhbGciOiJub25lIn0.e30.&to=%2F").await;
    assert_failed(&browser, &jwt, 401, "it is not a token of a release ledger");
    assert!(!jwt.text.contains("eyJ"), "{}", jwt.text);
    for form in ["", "to=%2F", "token=a&token=b", "token=a&actor=ada"] {
        assert_eq!(browser.post("/signin", form).await.status, 422, "{form}");
    }
}

#[tokio::test]
async fn a_sign_out_ends_the_session_everywhere() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    browser.sign_in().await;
    let mut copy = stage.browser();
    copy.cookies = browser.cookies.clone();

    let signed_out = browser.post("/signout", "").await;

    assert_eq!((signed_out.status, signed_out.header("location")), (303, "/signin"));
    assert!(browser.cookies.is_empty());
    assert!(!copy.is_signed_in().await);
    assert_eq!(browser.post("/signout", "").await.status, 303, "twice is once");
}

#[tokio::test]
async fn an_answer_belongs_to_the_browser_that_asked_and_counts_once() {
    let stage = Stage::start().await;
    let (mut attacker, mut victim) = (stage.browser(), stage.browser());
    let answer = attacker.ask_issuer("/").await;

    let without_sign_in = victim.deliver(&answer).await;
    assert_failed(&victim, &without_sign_in, 400, "another browser");
    let own_answer = victim.ask_issuer("/").await;
    let of_another = victim.deliver(&answer).await;
    assert_failed(&victim, &of_another, 400, "does not belong to this sign-in");
    assert_eq!(victim.deliver(&own_answer).await.status, 303, "a foreign answer does not end a sign-in");

    let cookie = attacker.cookies[SIGN_IN].clone();
    assert_eq!(attacker.deliver(&answer).await.status, 303);
    let mut replay = stage.browser();
    replay.cookies.insert(SIGN_IN.to_owned(), cookie);
    let again = replay.deliver(&answer).await;
    assert_failed(&replay, &again, 400, "invalid_grant");
}

#[tokio::test]
async fn an_answer_of_another_issuer_or_of_none_is_refused() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    let own = format!("iss={}", stage.issuer.url().replace(':', "%3A").replace('/', "%2F"));
    for replacement in ["iss=https%3A%2F%2Fevil.example", "x=y"] {
        let answer = browser.ask_issuer("/").await;
        assert!(answer.contains(&own), "{answer}");
        let response = browser.deliver(&answer.replace(&own, replacement)).await;
        assert_failed(&browser, &response, 400, "another issuer");
    }
}

#[tokio::test]
async fn a_process_with_another_order_of_the_issuers_takes_the_answer_of_the_one_that_was_asked() {
    let (stage, first) = (Stage::start().await, Issuer::start().await);
    let restarted = Guarded::start(&["--only=http,projector"], &settings(&[&first, &stage.issuer])).await;
    let mut browser = stage.browser();
    let answer = browser.ask_issuer("/").await;

    browser.url = restarted.service.url().to_owned();
    let signed_in = browser.deliver(&answer).await;

    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/"), "{}", signed_in.text);
}

#[tokio::test]
async fn an_id_token_of_another_request_or_for_another_client_is_refused() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    let cases: [(Value, &str); 6] = [
        (json!({"nonce": "another"}), "nonce"),
        (json!({"nonce": null}), "nonce"),
        (json!({"aud": "another"}), "another audience"),
        (json!({"aud": ["ledger", "another"]}), "azp"),
        (json!({"iss": "https://evil.example"}), "iss"),
        (json!({"exp": 1_000_000_000}), "expired"),
    ];
    for (claims, reason) in cases {
        stage.issuer.replace_claims(claims);
        let response = browser.sign_in().await;
        assert_failed(&browser, &response, 400, reason);
    }
    stage.issuer.replace_claims(json!({}));
    assert_eq!(browser.sign_in().await.status, 303);
}

#[tokio::test]
async fn a_failure_that_the_issuer_reports_is_shown_as_text() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    let answer = browser.ask_issuer("/").await;
    let query = answer.split_once("state=").expect("a state").1;
    let state = query.split('&').next().expect("a value");

    let denied = format!(
        "{URL}/signin/callback?error=access_denied&error_description=%3Cb%3Eno%3C%2Fb%3E&state={state}"
    );
    let response = browser.deliver(&denied).await;

    assert_failed(&browser, &response, 400, "access_denied");
    assert!(!response.text.contains("<b>no"), "{}", response.text);
    assert!(browser.cookies.is_empty(), "the sign-in has ended");
}

#[tokio::test]
async fn a_sign_in_never_leads_to_another_site() {
    let stage = Stage::start().await;
    let token = stage.guarded.create_token("ada", "person").await;
    for to in
        ["%2F%2Fevil.example", "https%3A%2F%2Fevil.example", "%2F%5Cevil.example", "%2F%09%2Fevil.example"]
    {
        let mut browser = stage.browser();
        let answer = browser.ask_issuer(to).await;
        assert_eq!(browser.deliver(&answer).await.header("location"), "/", "{to}");
        let form = format!("token={}&to={to}", token.expose());
        assert_eq!(browser.post("/signin", &form).await.header("location"), "/", "{to}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_rejected_before_it_has_an_effect() {
    let stage = Stage::start().await;
    let token = stage.guarded.create_token("ada", "person").await;
    let mut browser = stage.browser();
    browser.sign_in().await;
    let session = browser.cookies.clone();
    let form = format!("token={}&to=%2F", token.expose());
    for (path, form) in [("/signin", &*form), ("/signout", ""), ("/t/default/approvals", "decision=approve")]
    {
        let headers = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("x-none", ""),
        ];
        for (name, value) in headers {
            let request = browser.form(path, form).header(name, value);
            let response = browser.send(request).await;
            assert_eq!(response.status, 403, "{path} {name}: {value}: {}", response.text);
        }
    }
    assert_eq!(browser.cookies, session);
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn a_further_session_of_a_principal_ends_its_oldest() {
    let stage = Stage::start().await;
    let token = stage.guarded.create_token("ada", "person").await;
    let mut browsers = Vec::new();
    for _ in 0..21 {
        let mut browser = stage.browser();
        assert_eq!(browser.sign_in_with(&token).await.status, 303);
        browsers.push(browser);
    }

    assert!(!browsers[0].is_signed_in().await);
    assert!(browsers[1].is_signed_in().await && browsers[20].is_signed_in().await);
}

#[tokio::test]
async fn sign_ins_of_one_principal_at_the_same_time_do_not_lock_each_other_out() {
    let stage = Stage::start().await;
    let token = stage.guarded.create_token("ada", "person").await;
    for _ in 0..10 {
        let sign_in = async || stage.browser().sign_in_with(&token).await;
        for signed_in in join_all((0..12).map(|_| sign_in())).await {
            assert_eq!(signed_in.status, 303, "{}", signed_in.text);
        }
    }
}

#[tokio::test]
async fn without_the_database_of_the_sessions_a_page_is_not_available() {
    let stage = Stage::start().await;
    let mut browser = stage.browser();
    browser.sign_in().await;
    let url = stage.guarded.service.postgres_url();
    let mut connection = sqlx::PgConnection::connect(url).await.expect("connected");
    let rename = sqlx::query("ALTER TABLE release_ledger.sessions RENAME TO sessions_away");
    rename.execute(&mut connection).await.expect("renamed");

    for path in ["/t/default", "/"] {
        assert_eq!(browser.get(path).await.status, 503, "{path}");
    }
    assert_eq!(browser.post("/signout", "").await.status, 503);
    assert!(browser.cookies.contains_key(SESSION), "the sign-out can be tried again");
    assert_eq!(stage.browser().sign_in().await.status, 503);
    assert_eq!(stage.guarded.admin.get("/v1/whoami").await.status, 200, "the API needs no session");
}

#[tokio::test]
async fn a_page_accepts_the_credentials_of_the_api_too() {
    let stage = Stage::start().await;
    let token = stage.guarded.create_token("ada", "person").await;
    let mut browser = stage.browser();

    let right = browser.http.get(format!("{}/t/default", browser.url)).bearer_auth(token.expose());
    let wrong = browser.http.get(format!("{}/t/default", browser.url)).bearer_auth(new_token().expose());

    assert!(!matches!(browser.send(right).await.status, 303 | 401));
    assert_eq!(browser.send(wrong).await.status, 401);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_a_failure_for_the_moment() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let issuer = format!("http://{}", silent.local_addr().expect("an address"));
    let settings = format!(
        "[pages]\nurl = {URL:?}\n[[access.issuers]]\nissuer = {issuer:?}\naudience = \"ledger\"\n\
         kind = \"person\"\nsign_in = {{ client_id = \"ledger\" }}\n"
    );
    let guarded = Guarded::start(&["--only=http,projector"], &settings).await;
    let mut browser = Browser::new(guarded.service.url());

    for _ in 0..3 {
        let response = browser.get("/signin/0").await;
        assert_failed(&browser, &response, 503, "does not answer");
    }
    assert_eq!(browser.get("/signin/1").await.status, 404);
    assert_eq!(browser.get("/signin/x").await.status, 404);
}

#[tokio::test]
async fn without_pages_or_without_authentication_there_is_no_sign_in() {
    let guarded = Guarded::start(&["--only=http,projector", "--pages-enabled=false"], "").await;
    let mut browser = Browser::new(guarded.service.url());
    for path in ["/", "/t/default", "/signin"] {
        assert_eq!(browser.get(path).await.status, 401, "{path}");
        assert_eq!(guarded.admin.get(path).await.status, 404, "{path}");
    }

    let open = InProcess::start(&["--only=http,projector"]).await;
    let mut browser = Browser::new(open.url());
    for path in ["/signin", "/signin/0"] {
        let response = browser.get(path).await;
        assert_eq!((response.status, response.header("location")), (303, "/"), "{path}");
    }
    assert_ne!(browser.get("/t/default").await.status, 303, "no session is needed");
}
