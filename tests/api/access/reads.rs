//! The log of reads: what is recorded of each read of the history, who may see it, and exports, which are refused while
//! they cannot be recorded.

use chrono::{DateTime, TimeDelta, Utc};
use ledger_projections::{ReadFilter, ReadRecord, Reader};
use ledger_tests::{Client, EventStream, Guarded, InProcess, Response, deploy};
use serde_json::{Value, json};
use sqlx::Connection as _;
use uuid::Uuid;

/// Entries of a page of the usual size: one more makes an export.
const PAGE: usize = 100;

async fn start(settings: &str) -> Guarded {
    Guarded::start(&["--only=http,projector"], settings).await
}

/// Records deploys to staging.
async fn record(guarded: &Guarded, number: usize) {
    let event = |id| deploy(&format!("d{id}"), "2026-08-01T10:00:00Z", "staging", "web", &format!("v{id}"));
    let lines: Vec<String> = (1..=number).map(|id| event(id).to_string()).collect();
    guarded.admin.record_all(&lines).await;
}

async fn list(guarded: &Guarded, query: &str) -> Vec<Value> {
    let body = guarded.admin.get(&format!("/v1/access/reads?{query}")).await.ok();
    body["reads"].as_array().expect("reads").clone()
}

/// Waits until the log has reads that meet a condition, and returns all of the query, latest first.
async fn wait_for(guarded: &Guarded, query: &str, is_met: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    loop {
        let reads = list(guarded, query).await;
        if is_met(&reads) {
            return reads;
        }
        tokio::task::yield_now().await;
    }
}

/// Changes the table of the log.
async fn rename(guarded: &Guarded, from: &str, to: &str) {
    let url = guarded.service.postgres_url();
    let mut connection = sqlx::PgConnection::connect(url).await.expect("connected");
    let rename = sqlx::AssertSqlSafe(format!("ALTER TABLE release_ledger.{from} RENAME TO {to}"));
    sqlx::query(rename).execute(&mut connection).await.expect("renamed");
}

fn status(response: &Response) -> (u16, &str) {
    (response.status, response.problem())
}

#[tokio::test]
async fn a_page_and_an_entry_are_recorded_with_their_reader_and_with_what_they_showed() {
    let guarded = start("").await;
    record(&guarded, 3).await;
    let ada = guarded.client("ada", "person", &["*"], &["read"]).await;

    let page = ada.get("/v1/events?environment=staging&after=1").await;
    let request_id = page.header("request-id").to_owned();
    page.ok();
    ada.get("/v1/tenants/default/events/2").await.ok();
    let reads = wait_for(&guarded, "principal=ada", |reads| reads.len() == 2).await;

    let [entry, page] = &reads[..] else { panic!("{reads:?}") };
    assert_eq!(page["principal"]["name"], "ada");
    assert_eq!(page["principal"]["issuer"], "release-ledger");
    assert_eq!(
        (&page["route"], &page["query"], &page["tenant"]),
        (&json!("/v1/events"), &json!("environment=staging&after=1"), &json!("default"))
    );
    assert_eq!((&page["status"], &page["export"]), (&json!(200), &json!(false)));
    assert_eq!(
        (&page["entries"], &page["first_position"], &page["last_position"]),
        (&json!(2), &json!(2), &json!(3))
    );
    assert_eq!(page["request_id"], request_id);
    assert!(page["began_at"].is_string() && page["ended_at"].is_string(), "{page}");
    assert_eq!(entry["route"], "/v1/tenants/{tenant}/events/{position}");
    assert_eq!((&entry["entries"], &entry["first_position"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn reads_are_filtered_and_paged_latest_first() {
    let guarded = start("").await;
    record(&guarded, 1).await;
    let ada = guarded.client("ada", "person", &["*"], &["read"]).await;
    let noa = guarded.client("noa", "person", &["*"], &["read"]).await;
    for path in ["/v1/events?limit=1", "/v1/events?limit=2", "/v1/events?limit=3"] {
        ada.get(path).await.ok();
    }
    noa.get("/v1/events").await.ok();
    wait_for(&guarded, "tenant=default", |reads| reads.len() == 4).await;

    let first = guarded.admin.get("/v1/access/reads?principal=ada&limit=2").await.ok();
    let next = first["next"].as_str().expect("another page");
    let second = list(&guarded, &format!("principal=ada&limit=2&before={next}")).await;

    let queries = |reads: &[Value]| reads.iter().map(|read| read["query"].clone()).collect::<Vec<_>>();
    assert_eq!(queries(first["reads"].as_array().expect("reads")), ["limit=3", "limit=2"]);
    assert_eq!(queries(&second), ["limit=1"]);
    assert_eq!(list(&guarded, "principal=noa&since=2020-01-01T00:00:00Z").await.len(), 1);
    for none in ["until=2020-01-01T00:00:00Z", "tenant=other", "principal=nemo", "exports=true"] {
        assert_eq!(list(&guarded, none).await, Vec::<Value>::new(), "{none}");
    }
    for wrong in ["limit=0", "limit=1001", "before=1", "since=someday", "principal=", "exports=yes", "x=1"] {
        let response = guarded.admin.get(&format!("/v1/access/reads?{wrong}")).await;
        assert_eq!(status(&response), (400, "invalid-parameter"), "{wrong}");
    }
}

#[tokio::test]
async fn an_export_is_recorded_before_it_is_answered() {
    let guarded = start("").await;
    record(&guarded, PAGE + 1).await;
    let ci = guarded.client("ci", "workload", &["*"], &["read"]).await;

    let answer = ci.get("/v1/events?limit=1000").await.ok();
    let reads = list(&guarded, "principal=ci&exports=true").await;

    assert_eq!(answer["events"].as_array().map(Vec::len), Some(PAGE + 1));
    assert_eq!(reads.len(), 1, "{reads:?}");
    assert_eq!(
        (&reads[0]["entries"], &reads[0]["first_position"], &reads[0]["last_position"]),
        (&json!(PAGE + 1), &json!(1), &json!(PAGE + 1))
    );
}

#[tokio::test]
async fn exports_are_refused_and_pages_are_answered_while_the_log_cannot_be_stored() {
    let guarded = start("").await;
    record(&guarded, PAGE + 1).await;
    let ci = guarded.client("ci", "workload", &["*"], &["read"]).await;
    rename(&guarded, "reads", "reads_away").await;

    for path in ["/v1/events?limit=1000", "/v1/events/stream?after=0", "/v1/rollbacks/stream?after=0"] {
        let refused = ci.get(path).await;
        assert_eq!(status(&refused), (503, "read-log-unavailable"), "{path}");
        assert_eq!(refused.header("retry-after"), "1", "{path}");
        assert!(!refused.text.contains("deploy.succeeded"), "{path}: {}", refused.text);
    }
    ci.get("/v1/events?limit=100").await.ok();
    EventStream::open(&ci, "/v1/events/stream?after=1").await;
    assert_eq!(guarded.admin.get("/v1/access/reads").await.status, 503);

    rename(&guarded, "reads_away", "reads").await;
    let is_complete =
        |reads: &[Value]| reads.len() == 5 && reads.iter().all(|read| read["ended_at"].is_string());
    let reads = wait_for(&guarded, "principal=ci", is_complete).await;
    let exports: Vec<&Value> = reads.iter().filter(|read| read["export"] == true).collect();
    assert_eq!(exports.len(), 3, "{reads:?}");
    for export in exports {
        assert_eq!((&export["status"], &export["entries"]), (&json!(503), &json!(0)), "{export}");
    }
    ci.get("/v1/events?limit=1000").await.ok();
}

#[tokio::test]
async fn a_stream_is_recorded_when_it_begins_and_when_it_ends() {
    let guarded = start("").await;
    record(&guarded, 2).await;
    let ci = guarded.client("ci", "workload", &["*"], &["read"]).await;

    let mut stream = EventStream::open(&ci, "/v1/events/stream?after=0").await;
    let begun = wait_for(&guarded, "principal=ci", |reads| !reads.is_empty()).await;
    while stream.next().await.expect("an event").id != Some(2) {}
    drop(stream);
    let ended = wait_for(&guarded, "principal=ci", |reads| reads[0]["ended_at"].is_string()).await;

    assert_eq!((begun[0].get("ended_at"), &begun[0]["export"]), (None, &json!(false)));
    assert_eq!((ended.len(), &ended[0]["read"]), (1, &begun[0]["read"]));
    assert_eq!(
        (&ended[0]["status"], &ended[0]["entries"], &ended[0]["last_position"]),
        (&json!(200), &json!(2), &json!(2))
    );
}

#[tokio::test]
async fn only_administrators_of_access_see_the_log() {
    let guarded = start("").await;
    let reader = guarded.client("reader", "person", &["*"], &["read", "export", "admin"]).await;
    let auditor = guarded.create_token("auditor", "person").await;
    guarded.grant_in("_admin", "auditor", &auditor, &["*"], &["admin"]).await;
    let auditor = guarded.service.client_with(auditor.expose());

    let refused = reader.get("/v1/access/reads").await;

    assert_eq!(status(&refused), (403, "forbidden"));
    assert_eq!(auditor.get("/v1/access/reads").await.status, 200);
}

#[tokio::test]
async fn an_export_needs_its_verb_if_the_settings_say_so() {
    let guarded = start("[access]\nexports_need_grant = true\n").await;
    record(&guarded, PAGE + 1).await;
    let reader = guarded.client("reader", "workload", &["*"], &["read"]).await;
    let exporter = guarded.client("exporter", "workload", &["staging"], &["read", "export"]).await;
    let exports = |environment: &str| format!("/v1/events?limit=1000{environment}");

    let refused = reader.get(&exports("")).await;

    assert_eq!(status(&refused), (403, "forbidden"));
    assert!(refused.text.contains("export"), "{}", refused.text);
    assert_eq!(stream_status(&reader, "/v1/events/stream?after=0").await, 403);
    assert_eq!(reader.get("/v1/events").await.status, 200);
    assert_eq!(exporter.get(&exports("&environment=staging")).await.status, 200);
}

async fn stream_status(client: &Client, path: &str) -> u16 {
    client.request(reqwest::Method::GET, path).send().await.expect("a response").status().as_u16()
}

fn start_of_day(day: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(day)
}

/// Returns a read of a day; its number is the day.
fn read_of_day(day: u8) -> ReadRecord {
    let text = str::to_owned;
    ReadRecord {
        id: Uuid::from_u128(day.into()),
        began_at: start_of_day(day.into()),
        ended_at: None,
        tenant: text("default"),
        reader: Reader {
            kind: text("person"),
            issuer: text("proxy"),
            subject: text("ada"),
            name: text("ada"),
        },
        request_id: text("r"),
        route: text("/v1/events"),
        query: String::new(),
        is_export: false,
        status: None,
        entries: 0,
        span: None,
    }
}

#[tokio::test]
async fn the_oldest_reads_are_forgotten_by_age_and_beyond_a_number_a_few_at_a_time() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let projections = service.projections().await;
    let records: Vec<ReadRecord> = (1..=6).map(read_of_day).collect();
    projections.record_reads(&records).await.expect("recorded");

    assert_eq!(projections.forget_old_reads(start_of_day(3), 1).await.expect("forgotten"), 1);
    assert_eq!(projections.forget_old_reads(start_of_day(3), 10).await.expect("forgotten"), 1);
    assert_eq!(projections.forget_excess_reads(2, 1).await.expect("forgotten"), 1);
    assert_eq!(projections.forget_excess_reads(2, 10).await.expect("forgotten"), 1);
    assert_eq!(projections.forget_excess_reads(2, 10).await.expect("forgotten"), 0);

    let left = projections.reads(&ReadFilter::default(), 10).await.expect("reads");
    assert_eq!(left, [read_of_day(6), read_of_day(5)]);
}

#[tokio::test]
async fn the_end_of_a_read_is_kept_whichever_record_arrives_last() {
    let service = InProcess::start(&["--only=http,projector"]).await;
    let projections = service.projections().await;
    let ended =
        ReadRecord { ended_at: Some(start_of_day(1)), status: Some(200), entries: 5, ..read_of_day(1) };

    for record in [read_of_day(1), ended.clone(), read_of_day(1)] {
        projections.record_reads(&[record]).await.expect("recorded");
    }

    assert_eq!(projections.reads(&ReadFilter::default(), 10).await.expect("reads"), [ended]);
}
