//! Retries of requests that fail temporarily.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::Error;

/// Delay before the first retry; it doubles with each further retry.
pub(super) const FIRST_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Upper bound of the delay before a retry.
pub(super) const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Sends a request again while it fails temporarily, for `retry_for` at most. The request must be safe to
/// repeat.
pub(super) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    retry_for: Duration,
    request: impl Fn() -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + retry_for;
    let mut delay = FIRST_RETRY_DELAY;
    loop {
        let failure = match request().await {
            Err(error) if error.is_temporary() => error,
            result => return result,
        };
        if Instant::now() + delay > deadline {
            return Err(failure);
        }
        sleep(delay).await;
        delay = (delay * 2).min(MAX_RETRY_DELAY);
    }
}
