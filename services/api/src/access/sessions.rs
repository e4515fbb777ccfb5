//! Sessions of browsers, in the database: each works on every process, and ends on all of them at once.
//!
//! The database has only the hash of a secret. A session names a principal and ends at a fixed time. It grants nothing:
//! every request checks the principal's rights.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_access::SessionSecret;
use ledger_api_types::PrincipalBody;
use ledger_domain::access::SecretHash;
use ledger_domain::{Principal, PrincipalKind, ShortText, error_chain};
use ledger_projections::{Error, Projections, SessionRecord};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use crate::problem::{Kind, Problem};

/// Maximum number of sessions of one principal. A further one ends the oldest.
const MAX_SESSIONS: u32 = 20;
/// Time limit of a statement, with the wait for a connection.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of concurrent statements for addresses that have sent too many wrong secrets. Such an address may be that
/// of a proxy, so its right secrets are accepted, but its statements must not use up the connections to the database.
const SUSPICIOUS_STATEMENTS: usize = 2;

/// Database of the sessions, by the hashes of their secrets.
#[async_trait]
trait SessionStore: Send + Sync {
    async fn begin(&self, hash: &[u8; 32], session: &SessionRecord) -> Result<(), Error>;
    async fn find(&self, hash: &[u8; 32], now: DateTime<Utc>) -> Result<Option<SessionRecord>, Error>;
    /// Returns false if there is no session with this hash.
    async fn end(&self, hash: &[u8; 32]) -> Result<bool, Error>;
}

#[async_trait]
impl SessionStore for Projections {
    async fn begin(&self, hash: &[u8; 32], session: &SessionRecord) -> Result<(), Error> {
        self.begin_session(hash, session, MAX_SESSIONS).await
    }

    async fn find(&self, hash: &[u8; 32], now: DateTime<Utc>) -> Result<Option<SessionRecord>, Error> {
        self.find_session(hash, now).await
    }

    async fn end(&self, hash: &[u8; 32]) -> Result<bool, Error> {
        self.end_session(hash).await
    }
}

/// A session of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The principal when the session began.
    pub(crate) principal: Principal,
    /// Hash of the API token with which it began; `None` if it began otherwise.
    pub(crate) token: Option<SecretHash>,
}

/// The sessions of browsers.
pub struct Sessions {
    store: Box<dyn SessionStore>,
    lifetime: TimeDelta,
    clock: fn() -> DateTime<Utc>,
    suspicious: Semaphore,
}

impl Sessions {
    /// Creates the sessions in the database of these projections, which must be the primary, each with a lifetime.
    /// Connects to nothing.
    #[must_use]
    pub fn new(projections: &Projections, lifetime: TimeDelta, clock: fn() -> DateTime<Utc>) -> Self {
        Self::over(Box::new(projections.clone()), lifetime, clock)
    }

    fn over(store: Box<dyn SessionStore>, lifetime: TimeDelta, clock: fn() -> DateTime<Utc>) -> Self {
        Self { store, lifetime, clock, suspicious: Semaphore::new(SUSPICIOUS_STATEMENTS) }
    }

    /// Returns the lifetime of a session, in seconds.
    pub(crate) const fn seconds(&self) -> i64 {
        self.lifetime.num_seconds()
    }

    /// Begins a session, and returns its secret. Ends the oldest session of a principal with too many.
    pub(crate) async fn begin(&self, session: &Session) -> Result<SessionSecret, Problem> {
        let secret = SessionSecret::generate().map_err(|error| {
            warn!(%error, "no random numbers for a session");
            unavailable()
        })?;
        let record = record(session, (self.clock)(), self.lifetime)?;
        in_time(self.store.begin(&secret.hash(), &record)).await?;
        Ok(secret)
    }

    /// Returns the session with a secret; `None` if there is none, or it has ended. `is_suspicious`: the secret comes from
    /// an address that has sent too many wrong ones.
    pub(crate) async fn find(
        &self,
        secret: &SessionSecret,
        is_suspicious: bool,
    ) -> Result<Option<Session>, Problem> {
        let now = (self.clock)();
        let hash = secret.hash();
        let found = in_time(self.in_turn(is_suspicious, self.store.find(&hash, now))).await?;
        // The lifetime may have been longer when the session began.
        let is_in_force = |record: &SessionRecord| record.ends_at.min(record.began_at + self.lifetime) > now;
        Ok(found.filter(is_in_force).and_then(|record| {
            let session = session(&record);
            if session.is_none() {
                warn!(issuer = record.issuer, "a stored session has a principal of another form");
            }
            session
        }))
    }

    /// Ends the session with a secret; returns false if there is none. `is_suspicious`: as for [`Self::find`].
    pub(crate) async fn end(&self, secret: &SessionSecret, is_suspicious: bool) -> Result<bool, Problem> {
        let hash = secret.hash();
        in_time(self.in_turn(is_suspicious, self.store.end(&hash))).await
    }

    /// Runs a statement, which waits for its turn if its secret comes from a suspicious address.
    async fn in_turn<T>(&self, is_suspicious: bool, statement: impl Future<Output = T>) -> T {
        let _permit = if is_suspicious { self.suspicious.acquire().await.ok() } else { None };
        statement.await
    }
}

async fn in_time<T>(statement: impl Future<Output = Result<T, Error>>) -> Result<T, Problem> {
    match timeout(STORE_TIMEOUT, statement).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            warn!(error = error_chain(&error), "the database of the sessions failed");
            Err(unavailable())
        }
        Err(_) => {
            warn!(limit = ?STORE_TIMEOUT, "the database of the sessions does not answer");
            Err(unavailable())
        }
    }
}

fn unavailable() -> Problem {
    let detail = "the sessions of browsers are not available, as the database does not answer; retry later";
    Problem::new(Kind::AccessUnavailable, detail)
}

/// Returns the stored form of a session that begins.
fn record(session: &Session, began_at: DateTime<Utc>, lifetime: TimeDelta) -> Result<SessionRecord, Problem> {
    let Principal { kind, issuer, subject, name, claims } = &session.principal;
    let claims = claims.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let body = PrincipalBody {
        kind: kind.name().to_owned(),
        name: name.to_string(),
        issuer: issuer.to_string(),
        subject: subject.to_string(),
        claims: claims.collect(),
    };
    let principal = serde_json::to_string(&body).map_err(|error| Problem::new(Kind::Internal, error))?;
    let token_hash = session.token.map(|hash| *hash.bytes());
    let PrincipalBody { issuer, subject, .. } = body;
    Ok(SessionRecord { issuer, subject, principal, token_hash, began_at, ends_at: began_at + lifetime })
}

/// Returns a stored session; `None` if its principal has another form.
fn session(record: &SessionRecord) -> Option<Session> {
    let body: PrincipalBody = serde_json::from_str(&record.principal).ok()?;
    if body.issuer != record.issuer || body.subject != record.subject {
        return None;
    }
    // The name of an API token may be older than the rule that rejects format characters.
    let text = |text: &str| ShortText::stored(text).ok();
    let claim = |(name, value): (&String, &String)| Some((Box::<str>::from(name.as_str()), text(value)?));
    let principal = Principal {
        kind: PrincipalKind::named(&body.kind)?,
        issuer: text(&body.issuer)?,
        subject: text(&body.subject)?,
        name: text(&body.name)?,
        claims: body.claims.iter().map(claim).collect::<Option<_>>()?,
    };
    Some(Session { principal, token: record.token_hash.map(SecretHash::new) })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    use futures::future::join_all;

    use super::*;

    type ByHash = HashMap<[u8; 32], SessionRecord>;

    /// Sessions in memory; `None`: the database does not answer.
    #[derive(Clone, Default)]
    struct Store(Arc<Mutex<Option<ByHash>>>);

    impl Store {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(Some(ByHash::new()))))
        }

        async fn with<T>(&self, action: impl FnOnce(&mut ByHash) -> T) -> T {
            let done = self.0.lock().expect("unlocked").as_mut().map(action);
            match done {
                Some(done) => done,
                None => pending().await,
            }
        }
    }

    #[async_trait]
    impl SessionStore for Store {
        async fn begin(&self, hash: &[u8; 32], session: &SessionRecord) -> Result<(), Error> {
            self.with(|sessions| sessions.insert(*hash, session.clone())).await;
            Ok(())
        }

        async fn find(&self, hash: &[u8; 32], _: DateTime<Utc>) -> Result<Option<SessionRecord>, Error> {
            Ok(self.with(|sessions| sessions.get(hash).cloned()).await)
        }

        async fn end(&self, hash: &[u8; 32]) -> Result<bool, Error> {
            Ok(self.with(|sessions| sessions.remove(hash)).await.is_some())
        }
    }

    fn text(text: &str) -> ShortText {
        ShortText::parse(text).expect("a text")
    }

    fn ada() -> Session {
        let principal = Principal {
            kind: PrincipalKind::Person,
            issuer: text("https://login.example"),
            subject: text("4711"),
            name: text("ada"),
            claims: BTreeMap::from([("groups".into(), text("release \"managers\""))]),
        };
        Session { principal, token: None }
    }

    fn sessions(store: &Store, lifetime: TimeDelta) -> Sessions {
        Sessions::over(Box::new(store.clone()), lifetime, || DateTime::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn a_session_has_its_principal_until_it_is_ended() {
        let sessions = sessions(&Store::new(), TimeDelta::hours(1));
        let by_token = Session { token: Some(SecretHash::new([7; 32])), ..ada() };

        for session in [ada(), by_token] {
            let secret = sessions.begin(&session).await.expect("a secret");
            assert_eq!(sessions.find(&secret, true).await.expect("an answer"), Some(session));
            assert!(sessions.end(&secret, true).await.expect("an answer"));
            assert_eq!(sessions.find(&secret, false).await.expect("an answer"), None);
            assert!(!sessions.end(&secret, false).await.expect("an answer"), "it has ended");
        }
    }

    #[tokio::test]
    async fn a_name_from_before_the_rule_about_format_characters_begins_a_session() {
        let sessions = sessions(&Store::new(), TimeDelta::hours(1));
        let name = ShortText::stored("ad\u{200b}a").expect("a text");
        let session = Session { principal: Principal { name, ..ada().principal }, token: None };

        let secret = sessions.begin(&session).await.expect("a secret");

        assert_eq!(sessions.find(&secret, false).await.expect("an answer"), Some(session));
    }

    /// A database that does not answer, with the number of statements that it received.
    #[derive(Clone, Default)]
    struct Hanging(Arc<Mutex<usize>>);

    impl Hanging {
        async fn receive<T>(&self) -> T {
            *self.0.lock().expect("unlocked") += 1;
            pending().await
        }
    }

    #[async_trait]
    impl SessionStore for Hanging {
        async fn begin(&self, _: &[u8; 32], _: &SessionRecord) -> Result<(), Error> {
            self.receive().await
        }

        async fn find(&self, _: &[u8; 32], _: DateTime<Utc>) -> Result<Option<SessionRecord>, Error> {
            self.receive().await
        }

        async fn end(&self, _: &[u8; 32]) -> Result<bool, Error> {
            self.receive().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicious_address_uses_few_connections_for_sign_outs_and_pages_together() {
        let store = Hanging::default();
        let sessions = Sessions::over(Box::new(store.clone()), TimeDelta::hours(1), || DateTime::UNIX_EPOCH);
        let secret = SessionSecret::generate().expect("random");

        let ends = join_all((0..5).map(|_| sessions.end(&secret, true)));
        let finds = join_all((0..5).map(|_| sessions.find(&secret, true)));
        let _ = timeout(STORE_TIMEOUT / 2, async { tokio::join!(ends, finds) }).await;

        assert_eq!(*store.0.lock().expect("unlocked"), SUSPICIOUS_STATEMENTS);
    }

    #[tokio::test]
    async fn a_session_past_its_end_does_not_count_even_if_it_is_stored() {
        let sessions = sessions(&Store::new(), TimeDelta::zero());

        let secret = sessions.begin(&ada()).await.expect("a secret");

        assert_eq!(sessions.find(&secret, false).await.expect("an answer"), None);
    }

    #[tokio::test]
    async fn a_shorter_lifetime_counts_for_the_sessions_that_have_begun() {
        let store = Store::new();
        let before = sessions(&store, TimeDelta::days(365));
        let after = Sessions::over(Box::new(store.clone()), TimeDelta::hours(12), || {
            DateTime::UNIX_EPOCH + TimeDelta::hours(12)
        });

        let secret = before.begin(&ada()).await.expect("a secret");

        assert_eq!(before.find(&secret, false).await.expect("an answer"), Some(ada()));
        assert_eq!(after.find(&secret, false).await.expect("an answer"), None);
    }

    #[tokio::test]
    async fn only_the_hash_of_a_secret_is_stored() {
        let store = Store::new();
        let secret = sessions(&store, TimeDelta::hours(1)).begin(&ada()).await.expect("a secret");

        let stored = format!("{:?}", store.0.lock().expect("unlocked"));

        assert!(!stored.contains(secret.expose()), "{stored}");
        assert!(stored.contains("4711"), "{stored}");
    }

    #[tokio::test]
    async fn a_principal_that_its_columns_contradict_does_not_count() {
        let store = Store::new();
        let sessions = sessions(&store, TimeDelta::hours(1));
        let secret = sessions.begin(&ada()).await.expect("a secret");
        store.with(|stored| stored.values_mut().for_each(|record| record.subject = "4712".to_owned())).await;

        assert_eq!(sessions.find(&secret, false).await.expect("an answer"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_is_a_problem() {
        let sessions = sessions(&Store::default(), TimeDelta::hours(1));
        let secret = SessionSecret::generate().expect("random");

        let found = sessions.find(&secret, false).await.expect_err("a problem");
        let begun = sessions.begin(&ada()).await.expect_err("a problem");
        let ended = sessions.end(&secret, false).await.expect_err("a problem");

        assert_eq!([found, begun, ended].map(|problem| problem.into_body().status), [503; 3]);
    }
}
