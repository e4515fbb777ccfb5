//! Requests that are made again while the service does not answer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::Error;

/// How long is waited before a request is made again: doubled every time, from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Asks again for some time, as long as it fails in ways that pass by themselves. What is asked must be
/// safe to be asked twice.
pub(super) async fn retry<T, F: Future<Output = Result<T, Error>>>(
    retry_for: Duration,
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + retry_for;
    let mut pause = PAUSE.0;
    loop {
        let failure = match ask().await {
            Err(error) if error.is_temporary() => error,
            answered => return answered,
        };
        if Instant::now() + pause > deadline {
            return Err(failure);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
