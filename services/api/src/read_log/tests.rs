//! Tests of the log of reads over a database in memory, which can fail.

use std::sync::atomic::{AtomicBool, Ordering};

use ledger_projections::Reader;

use super::*;

const SETTINGS: ReadLogSettings =
    ReadLogSettings { keep_for: TimeDelta::days(90), max_records: 1_000, exports_need_grant: false };

/// Calls of the log to the database.
#[derive(Debug, Default)]
struct Calls {
    is_down: AtomicBool,
    batches: Mutex<Vec<Vec<ReadRecord>>>,
    forgotten: Mutex<Vec<(DateTime<Utc>, u32)>>,
}

impl Calls {
    fn check(&self) -> Result<(), Error> {
        match self.is_down.load(Ordering::Relaxed) {
            true => Err(Error::NotReady("down".to_owned())),
            false => Ok(()),
        }
    }

    fn batches(&self) -> Vec<Vec<ReadRecord>> {
        self.batches.lock().expect("batches").clone()
    }
}

struct Fake(Arc<Calls>);

#[async_trait]
impl ReadStore for Fake {
    async fn record(&self, records: &[ReadRecord]) -> Result<(), Error> {
        self.0.check()?;
        self.0.batches.lock().expect("batches").push(records.to_vec());
        Ok(())
    }

    async fn list(&self, _filter: &ReadFilter, _limit: u32) -> Result<Vec<ReadRecord>, Error> {
        self.0.check()?;
        Ok(self.0.batches().concat())
    }

    async fn forget(&self, before: DateTime<Utc>, max_records: u32) -> Result<u64, Error> {
        self.0.check()?;
        self.0.forgotten.lock().expect("calls").push((before, max_records));
        Ok(0)
    }
}

fn now() -> DateTime<Utc> {
    "2026-08-01T12:00:00Z".parse().expect("a time")
}

fn log() -> (ReadLog, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    (ReadLog::over(Box::new(Fake(Arc::clone(&calls))), SETTINGS, now), calls)
}

fn record(number: u128) -> ReadRecord {
    let text = str::to_owned;
    ReadRecord {
        id: Uuid::from_u128(number),
        began_at: now(),
        ended_at: None,
        tenant: text("default"),
        reader: Reader {
            kind: text("person"),
            issuer: text("proxy"),
            subject: text("ada"),
            name: text("ada"),
        },
        request_id: number.to_string(),
        route: text("/v1/events"),
        query: String::new(),
        is_export: false,
        status: None,
        entries: 0,
        span: None,
    }
}

#[tokio::test]
async fn records_are_written_in_batches_of_bounded_size_the_oldest_first() {
    let (log, calls) = log();
    for number in (0..BATCH as u128 + 7).rev() {
        log.add(record(number));
    }

    log.write_pending().await.expect("written");

    let batches = calls.batches();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH, 7]);
    assert_eq!(batches[0][0], record(0));
    assert!(log.pending().is_empty());
}

#[tokio::test]
async fn the_end_of_a_read_replaces_its_beginning_while_both_wait() {
    let (log, calls) = log();
    let ended = ReadRecord { ended_at: Some(now()), status: Some(200), entries: 3, ..record(1) };

    log.add(record(1));
    log.add(ended.clone());
    log.write_pending().await.expect("written");

    assert_eq!(calls.batches(), [vec![ended]]);
}

#[tokio::test]
async fn records_wait_while_the_database_fails_and_are_written_afterwards() {
    let (log, calls) = log();
    calls.is_down.store(true, Ordering::Relaxed);
    log.add(record(1));
    log.write_pending().await.expect_err("the database is down");
    log.add(record(2));

    calls.is_down.store(false, Ordering::Relaxed);
    log.write_pending().await.expect("written");

    assert_eq!(calls.batches(), [vec![record(1), record(2)]]);
}

#[tokio::test]
async fn records_beyond_the_bound_are_dropped_and_those_that_wait_stay() {
    let (log, calls) = log();
    calls.is_down.store(true, Ordering::Relaxed);
    for number in 0..MAX_PENDING as u128 + 100 {
        log.add(record(number));
    }
    log.write_pending().await.expect_err("the database is down");

    assert_eq!(log.pending().len(), MAX_PENDING);
    assert!(log.pending().contains_key(&Uuid::from_u128(0)));
    // The end of a read that waits needs no room.
    let ended = ReadRecord { status: Some(200), ..record(0) };
    log.add(ended.clone());
    assert_eq!(log.pending()[&ended.id], ended);
}

#[tokio::test]
async fn an_export_is_stored_at_once_or_refused() {
    let (log, calls) = log();
    log.store_export(record(1)).await.expect("stored");
    assert_eq!(calls.batches(), [vec![record(1)]]);

    calls.is_down.store(true, Ordering::Relaxed);
    let problem = log.store_export(record(2)).await.expect_err("refused").into_body();

    assert_eq!(problem.status, 503);
    assert!(problem.kind.ends_with(":read-log-unavailable"), "{}", problem.kind);
    assert!(!problem.detail.contains("down"), "{}", problem.detail);
}

#[tokio::test]
async fn records_are_kept_for_the_time_and_up_to_the_number_of_the_settings() {
    let (log, calls) = log();

    assert!(log.forget().await);

    let expected = (now() - TimeDelta::days(90), 1_000);
    assert_eq!(*calls.forgotten.lock().expect("calls"), [expected]);
}

#[tokio::test]
async fn the_last_records_are_written_when_the_process_stops() {
    let (log, calls) = log();
    let log = Arc::new(log);
    log.add(record(1));
    let stop = CancellationToken::new();
    stop.cancel();

    Arc::clone(&log).run(stop).await;

    assert_eq!(calls.batches(), [vec![record(1)]]);
}
