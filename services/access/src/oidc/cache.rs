//! Keys of one issuer: fetched once for all callers, refreshed in the background, kept during an outage.
//!
//! A fetch runs in its own task, so a caller that stops waiting does not stop it. Every decision is taken under one
//! lock that is never held across an `await`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use metrics::counter;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::error::OidcError;
use super::fetch::{Failure, Fetcher};
use super::jwks::{KeySet, Search};
use super::token::Unverified;

/// Minimum time between two fetches that unknown keys cause.
pub(super) const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(10);
/// Age at which keys are refreshed in the background.
pub(super) const REFRESH_AGE: Duration = Duration::from_secs(10 * 60);
/// Age up to which keys are used while the issuer is unreachable.
pub(super) const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Initial delay after a failed fetch. It doubles with each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Maximum delay after a failed fetch.
pub(super) const MAX_RETRY: Duration = Duration::from_secs(60);

/// Maximum number of tokens whose signatures are not verified again.
const MAX_VERIFIED: usize = 4_096;

/// Keys of one issuer. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Cache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    issuer: String,
    /// `None` if the keys are fixed.
    fetcher: Option<Fetcher>,
    state: Mutex<State>,
    verified: Mutex<Verified>,
    /// Number of finished fetches.
    finished: watch::Sender<u64>,
}

/// Tokens whose signatures were verified with one set of keys. A client sends the same token with every request, and
/// verifying its signature takes longer than the rest of its checks.
#[derive(Debug, Default)]
struct Verified {
    keys: Option<Arc<KeySet>>,
    /// Hashes of the whole tokens.
    tokens: HashSet<[u8; 32]>,
}

impl Verified {
    fn has(&self, keys: &Arc<KeySet>, token: &[u8; 32]) -> bool {
        self.keys.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys)) && self.tokens.contains(token)
    }

    /// Adds a token. Forgets all if there are too many, or if the keys are others.
    fn add(&mut self, keys: &Arc<KeySet>, token: [u8; 32]) {
        let is_same = self.keys.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys));
        if !is_same || self.tokens.len() >= MAX_VERIFIED {
            self.tokens.clear();
            self.keys = Some(Arc::clone(keys));
        }
        self.tokens.insert(token);
    }
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Keys>,
    is_fetching: bool,
    /// Start of the last fetch.
    started: Option<Instant>,
    /// Number of failed fetches since the last successful one.
    failures: u32,
    /// Earliest start of the next fetch after a failed one.
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Keys {
    set: Arc<KeySet>,
    /// `None`: they are fixed, and do not age.
    fetched: Option<Instant>,
}

impl Keys {
    fn age(&self, now: Instant) -> Duration {
        self.fetched.map_or(Duration::ZERO, |fetched| now.saturating_duration_since(fetched))
    }
}

/// Next step of a verification.
enum Step {
    /// Verify with these keys.
    Verify(Arc<KeySet>),
    /// The token is refused.
    Refuse(OidcError),
    /// Wait for the end of the running fetch.
    Wait,
}

impl Cache {
    /// Returns a cache that is filled at the first use.
    pub(super) fn fetched(issuer: &str, fetcher: Fetcher) -> Self {
        Self::new(issuer, Some(fetcher), State::default())
    }

    /// Returns keys that never change.
    pub(super) fn fixed(issuer: &str, keys: KeySet) -> Self {
        let keys = Some(Keys { set: Arc::new(keys), fetched: None });
        Self::new(issuer, None, State { keys, ..State::default() })
    }

    fn new(issuer: &str, fetcher: Option<Fetcher>, state: State) -> Self {
        let (finished, _) = watch::channel(0);
        let (issuer, state, verified) = (issuer.to_owned(), Mutex::new(state), Mutex::default());
        Self(Arc::new(Shared { issuer, fetcher, state, verified, finished }))
    }

    /// Verifies the signature of a token. Waits for at most one fetch.
    pub(super) async fn verify(&self, token: &Unverified<'_>) -> Result<(), OidcError> {
        let (mut step, mut finished) = self.step(token, true);
        if matches!(step, Step::Wait) {
            // The sender lives as long as `self`.
            let _ = finished.changed().await;
            step = self.step(token, false).0;
        }
        let keys = match step {
            Step::Verify(keys) => keys,
            Step::Refuse(error) => return Err(error),
            Step::Wait => return Err(OidcError::KeysUnavailable),
        };
        let hash = hash(token);
        if self.verified().has(&keys, &hash) {
            return Ok(());
        }
        match keys.find(token.key_id.as_deref(), token.algorithm) {
            Search::Found(key) => key.verify(token.algorithm, token.signed, token.signature)?,
            Search::WrongAlgorithm => return Err(OidcError::Algorithm),
            Search::Ambiguous | Search::Absent => return Err(OidcError::UnknownKey),
        }
        self.verified().add(&keys, hash);
        Ok(())
    }

    fn verified(&self) -> MutexGuard<'_, Verified> {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides the next step and starts a fetch if one is due. The receiver changes when the running fetch ends.
    fn step(&self, token: &Unverified<'_>, may_wait: bool) -> (Step, watch::Receiver<u64>) {
        let mut state = self.state();
        let was_fetching = state.is_fetching;
        let (id, can_fetch) = (token.key_id.as_deref(), self.0.fetcher.is_some());
        let step = state.decide(id, token.algorithm, Instant::now(), may_wait, can_fetch);
        let is_start = state.is_fetching && !was_fetching;
        // Subscribe under the lock: `finish` notifies under the lock, too.
        let finished = self.0.finished.subscribe();
        // A runtime that shuts down drops the task at once, which takes the lock.
        drop(state);
        if is_start {
            self.launch();
        }
        (step, finished)
    }

    fn launch(&self) {
        let mut flight = Flight { cache: self.clone(), result: Err(Failure::Interrupted) };
        tokio::spawn(async move {
            if let Some(fetcher) = &flight.cache.0.fetcher {
                let result = fetcher.fetch().await;
                flight.record(result);
            }
        });
    }

    /// Takes over the result of a fetch.
    fn finish(&self, result: Result<KeySet, Failure>) {
        let issuer = self.0.issuer.as_str();
        let outcome = match &result {
            Ok(keys) if keys.is_empty() => "empty",
            Ok(_) => "ok",
            Err(failure) => failure.outcome(),
        };
        counter!("ledger_oidc_key_fetches_total", "issuer" => issuer.to_owned(), "outcome" => outcome)
            .increment(1);
        let is_usable = result.as_ref().is_ok_and(|keys| !keys.is_empty());
        match &result {
            Ok(keys) if is_usable => debug!(issuer, keys = keys.len(), "keys fetched"),
            Ok(_) => warn!(issuer, "the issuer publishes no usable key; refusing its tokens"),
            Err(error) => warn!(issuer, %error, "fetching keys failed; keeping the known ones and retrying"),
        }
        let now = Instant::now();
        let mut state = self.state();
        state.is_fetching = false;
        if is_usable {
            state.failures = 0;
            state.retry_at = None;
        } else {
            state.failures = state.failures.saturating_add(1);
            state.retry_at = Some(now + retry_delay(state.failures));
        }
        // A set without keys replaces the keys as well: the issuer has withdrawn them.
        if let Ok(keys) = result {
            state.keys = Some(Keys { set: Arc::new(keys), fetched: Some(now) });
        }
        self.0.finished.send_modify(|finished| *finished += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every value of the state is valid.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Decides the next step. Sets [`is_fetching`](Self::is_fetching) if a fetch must start. `may_wait` is false after
    /// a fetch has ended.
    fn decide(
        &mut self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
        may_wait: bool,
        can_fetch: bool,
    ) -> Step {
        let can_fetch = can_fetch && may_wait;
        let usable = self.keys.as_ref().filter(|keys| keys.age(now) < MAX_AGE && !keys.set.is_empty());
        let Some(keys) = usable else {
            let is_running = can_fetch && self.ensure_fetch(now);
            return if is_running { Step::Wait } else { Step::Refuse(OidcError::KeysUnavailable) };
        };
        let set = Arc::clone(&keys.set);
        let is_old = keys.age(now) >= REFRESH_AGE;
        match set.find(id, algorithm) {
            Search::Found(_) | Search::WrongAlgorithm => {
                if is_old && can_fetch {
                    self.ensure_fetch(now);
                }
                Step::Verify(set)
            }
            Search::Ambiguous => Step::Refuse(OidcError::UnknownKey),
            Search::Absent => {
                let is_due = self.started.is_none_or(|started| now - started >= UNKNOWN_KEY_INTERVAL);
                let is_running = can_fetch && (self.is_fetching || (is_due && self.ensure_fetch(now)));
                if is_running { Step::Wait } else { Step::Refuse(self.absent()) }
            }
        }
    }

    /// Starts a fetch unless one is running, or the delay after a failure has not passed. Returns true if one is
    /// running.
    fn ensure_fetch(&mut self, now: Instant) -> bool {
        if !self.is_fetching && self.retry_at.is_none_or(|retry_at| now >= retry_at) {
            self.is_fetching = true;
            self.started = Some(now);
        }
        self.is_fetching
    }

    /// Returns the error for a key that the set does not have: temporary if the set could not be refreshed.
    const fn absent(&self) -> OidcError {
        if self.failures > 0 { OidcError::KeysUnavailable } else { OidcError::UnknownKey }
    }
}

/// Returns the hash of a token: of its header, claims and signature.
fn hash(token: &Unverified<'_>) -> [u8; 32] {
    let hash = Sha256::new().chain_update(token.signed).chain_update(".").chain_update(token.signature);
    hash.finalize().into()
}

/// Returns the delay after a number of failures in a row.
fn retry_delay(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(MAX_RETRY)
}

/// A running fetch. Its end is recorded even if its task panics or is dropped: otherwise callers would wait forever.
struct Flight {
    cache: Cache,
    result: Result<KeySet, Failure>,
}

impl Flight {
    fn record(&mut self, result: Result<KeySet, Failure>) {
        self.result = result;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(Failure::Interrupted));
        self.cache.finish(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_after_failures_doubles_up_to_a_minute() {
        let seconds: Vec<_> = (1..=8).map(|failures| retry_delay(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry_delay(u32::MAX), MAX_RETRY);
    }

    fn keys() -> Arc<KeySet> {
        Arc::new(KeySet::parse(br#"{"keys":[]}"#).expect("a set"))
    }

    #[test]
    fn a_signature_is_verified_again_with_other_keys() {
        let (old, new) = (keys(), keys());
        let mut verified = Verified::default();

        verified.add(&old, [1; 32]);
        assert!(verified.has(&old, &[1; 32]));
        assert!(!verified.has(&new, &[1; 32]), "the new keys may not have the token's");
        assert!(!verified.has(&old, &[2; 32]));

        verified.add(&new, [2; 32]);
        assert!(verified.has(&new, &[2; 32]));
        assert!(!verified.has(&new, &[1; 32]), "it was verified with the old keys");
    }

    #[test]
    fn the_number_of_verified_tokens_is_bounded() {
        let keys = keys();
        let mut verified = Verified::default();
        for number in 0..3 * MAX_VERIFIED as u64 {
            let mut token = [0; 32];
            token[..8].copy_from_slice(&number.to_be_bytes());
            verified.add(&keys, token);
            assert!(verified.has(&keys, &token));
            assert!(verified.tokens.len() <= MAX_VERIFIED);
        }
    }
}
