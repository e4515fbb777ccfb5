//! All metrics with their meanings, and the counters that start at zero.

use ledger_domain::TenantName;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Commit that the program was built from, if the build states it.
const COMMIT: Option<&str> = option_env!("LEDGER_BUILD_COMMIT");

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// A value that only increases.
    Counter,
    /// A value of now.
    Gauge,
    /// A distribution of values.
    Histogram,
}

/// A metric of the service.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub metric_type: MetricType,
    /// Meaning, the text of its `HELP` line.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, metric_type: MetricType::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, metric_type: MetricType::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, metric_type: MetricType::Histogram, help }
}

/// All metrics, as in the guide for operators.
pub const METRICS: &[Metric] = &[
    gauge("ledger_build_info", "1; the labels name the program."),
    gauge("ledger_up", "1 if the part (journal, projections) answers; for projections, as of a second ago."),
    gauge("ledger_head_position", "Position of the stream's last entry."),
    gauge(
        "ledger_projections_position",
        "Position up to which this process's projector has applied the stream.",
    ),
    gauge(
        "ledger_projections_lag_entries",
        "Entries that the projections are behind; counts on while Postgres is away. Without a projector \
         in the process, includes what was appended within 200 ms.",
    ),
    gauge("ledger_projector_stopped", "1 if a generation needs an operator, as far as this process knows."),
    counter(
        "ledger_projector_fenced_total",
        "Batches that found that another projector had advanced the position.",
    ),
    counter("ledger_projector_entries_total", "Entries that the projector applied."),
    histogram("ledger_projector_commit_seconds", "Time to write a batch."),
    counter("ledger_gaps_total", "Entries that the stream lost."),
    counter(
        "ledger_foreign_entries_total",
        "Entries that are no events of a ledger: something else writes to the stream.",
    ),
    counter("ledger_repeated_entries_total", "Entries that repeat an earlier one, without effect."),
    gauge("ledger_stream_fits", "0 if the stream's settings were changed so that entries may be lost."),
    counter("ledger_events_total", "Results: recorded, duplicate, conflict, refused."),
    histogram("ledger_append_seconds", "Time to append a group of reports; no labels."),
    histogram("ledger_append_group_events", "Reports in a group; no labels."),
    counter(
        "ledger_ingest_filtered_total",
        "Events whose identity is new by the identities in memory, so that Postgres was not asked for it.",
    ),
    counter(
        "ledger_ingest_unchecked_total",
        "Events that were appended without a look-up of their identity, while Postgres was away.",
    ),
    counter(
        "ledger_requests_judged_again_total",
        "Commands that were decided again because an entry concerned their decision.",
    ),
    counter("ledger_rollback_controller_answers_total", "Failed checks that the controller answered."),
    counter(
        "ledger_http_requests_total",
        "Requests whose answer has ended, by route as in the OpenAPI document, with its server; none without a \
         route or an answer.",
    ),
    gauge("ledger_http_connections", "Open connections."),
    gauge(
        "ledger_http_held_bytes",
        "Counted bytes in memory: bodies, deliveries of webhooks, and answers that clients have not \
         taken yet.",
    ),
    gauge("ledger_http_followers", "Clients that follow entries by server-sent events."),
    counter("ledger_authentications_total", "Credentials that were checked: accepted or rejected."),
    gauge(
        "ledger_access_following",
        "1 if tokens and grants follow their stream; 0: those that were read before hold.",
    ),
    counter(
        "ledger_reads_recorded_total",
        "Records of reads of the history that were stored: one at the end of each, and one at the \
         beginning of exports and streams.",
    ),
    counter(
        "ledger_reads_unrecorded_total",
        "Reads of the history whose record, or whose end, could not be stored.",
    ),
    counter("ledger_exports_refused_total", "Exports that could not be recorded and were refused."),
    counter(
        "ledger_http_refused_total",
        "Requests and connections beyond a bound: connections, bodies, deliveries, answers, followers; \
         of one client followers_of_principal, requests, events, concurrency, authentications.",
    ),
    counter("ledger_http_idle_closed_total", "Idle connections that were closed for new ones."),
    counter(
        "ledger_http_slow_clients_total",
        "Connections and requests that ended because a client did not finish the handshake of TLS in \
         time, sent the body too slowly, or took the answer too slowly.",
    ),
    counter(
        "ledger_http_streams_closed_total",
        "Event streams that the service closed: slow_client, whose client read too slowly (the log has its address); \
         memory, because unread responses took too much; forbidden, because the client lost the right to read; \
         replaced, because the projections have another history; unreadable, because the entries could not be read.",
    ),
    counter(
        "ledger_tls_handshake_errors_total",
        "TLS handshakes that failed: clients of plain HTTP, that do not trust the certificate, or whose \
         own one is refused.",
    ),
    gauge("ledger_tls_not_after_seconds", "Unix time at which the certificate in use expires."),
    gauge(
        "ledger_tls_reload_failed",
        "1 if the files of TLS cannot be used, and the previous certificate stays in use.",
    ),
    counter(
        "ledger_oidc_key_fetches_total",
        "Fetches of an issuer's keys: ok, empty (no usable key), unreachable, timeout, status, \
         too_large, file, discovery, not_a_key_set, interrupted.",
    ),
    counter(
        "ledger_quarantined_total",
        "Messages of other tools that were quarantined; by hook: and the webhook's name, cdevents, or \
         events for a broker.",
    ),
    counter(
        "ledger_broker_messages_total",
        "Messages of brokers: recorded, ignored, quarantined, rejected, or retry (delivered again \
         later).",
    ),
    gauge(
        "ledger_quarantine_messages",
        "Messages in quarantine, of at most 100,000, including those that were retried or discarded \
         within the last hour.",
    ),
    gauge(
        "ledger_quarantine_bytes",
        "Size of the quarantine, of at most 268,435,456 bytes: beyond it, such messages are refused, \
         and their senders get 507.",
    ),
    gauge(
        "ledger_follower_lag_entries",
        "Entries that a follower, such as that of a kafka.out, has not delivered yet; set by the \
         process that delivers.",
    ),
    counter("ledger_follower_entries_total", "Entries that a follower delivered."),
    counter("ledger_follower_failures_total", "Failures after which a follower tries again."),
    counter(
        "ledger_kafka_messages_total",
        "Messages by outcome: recorded, ignored, quarantined, rejected, retried.",
    ),
    gauge(
        "ledger_kafka_lag_messages",
        "Messages of an assigned partition that are not committed yet, as of the last statistics.",
    ),
    gauge("ledger_kafka_buffered_bytes", "Size of the messages that are received and not recorded yet."),
    counter("ledger_kafka_dead_letters_total", "Messages that the dead-letter topic acknowledged."),
    counter("ledger_kafka_rebalances_total", "Assignments and revocations of partitions."),
    counter("ledger_kafka_records_total", "Records that the output topic acknowledged."),
    counter(
        "ledger_kafka_errors_total",
        "Errors that the client reports, failed commits and failed deliveries.",
    ),
    counter("ledger_webhook_attempts_total", "Attempts to deliver an entry: delivered or failed."),
    histogram("ledger_webhook_attempt_seconds", "Time of an attempt."),
    gauge("ledger_webhook_failures", "Failed attempts since the last success, in the process that delivers."),
    counter(
        "ledger_webhook_disabled_total",
        "Subscriptions that were disabled because their deliveries failed.",
    ),
    gauge("ledger_drift_lanes", "Lanes for which the observed release differs from the recorded one."),
    gauge("ledger_uneven_services", "Services that run different releases at the targets."),
    gauge(
        "ledger_drift_environments",
        "Environments in which some observed release differs from the recorded one.",
    ),
    gauge(
        "ledger_drift_environments_omitted",
        "Environments without the two metrics with a label environment: more than \
         http.metrics_environments.",
    ),
    gauge(
        "ledger_drift_updated_timestamp_seconds",
        "Unix time at which the four before were last determined: every 5 s while entries arrive.",
    ),
    gauge("process_cpu_seconds_total", "Processor time of the process, in seconds; it only increases."),
    gauge("process_resident_memory_bytes", "Resident memory of the process."),
    gauge("process_open_fds", "Open file descriptors of the process."),
    gauge("process_start_time_seconds", "Unix time at which the process started."),
];

/// Counters without labels that start at zero.
const PLAIN_COUNTERS: [&str; 5] = [
    "ledger_exports_refused_total",
    "ledger_http_idle_closed_total",
    "ledger_reads_recorded_total",
    "ledger_reads_unrecorded_total",
    "ledger_tls_handshake_errors_total",
];

/// Counters whose one label has fixed values: they start at zero.
const LABELLED_COUNTERS: [(&str, &str, &[&str]); 4] = [
    ("ledger_authentications_total", "outcome", &["accepted", "rejected"]),
    (
        "ledger_http_refused_total",
        "bound",
        &[
            "connections",
            "bodies",
            "deliveries",
            "answers",
            "followers",
            "requests",
            "events",
            "concurrency",
            "authentications",
        ],
    ),
    ("ledger_http_slow_clients_total", "direction", &["handshake", "body", "answer"]),
    (
        "ledger_http_streams_closed_total",
        "reason",
        &["slow_client", "memory", "forbidden", "replaced", "unreadable"],
    ),
];

/// Counters of each tenant that start at zero.
const TENANT_COUNTERS: [&str; 10] = [
    "ledger_projector_fenced_total",
    "ledger_projector_entries_total",
    "ledger_gaps_total",
    "ledger_foreign_entries_total",
    "ledger_repeated_entries_total",
    "ledger_ingest_filtered_total",
    "ledger_ingest_unchecked_total",
    "ledger_requests_judged_again_total",
    "ledger_rollback_controller_answers_total",
    "ledger_webhook_disabled_total",
];

/// Values of the label `status` of `ledger_events_total`.
const EVENT_STATUSES: [&str; 4] = ["recorded", "duplicate", "conflict", "refused"];

/// Describes all metrics to the recorder, states the program, and starts the counters of fixed labels at zero: without
/// a zero, the first increase after a start is none to a monitoring system.
pub(crate) fn register(tenants: &[TenantName]) {
    for Metric { name, metric_type, help } in METRICS.iter().copied() {
        match metric_type {
            MetricType::Counter => describe_counter!(name, help),
            MetricType::Gauge => describe_gauge!(name, help),
            MetricType::Histogram => describe_histogram!(name, help),
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    gauge!("ledger_build_info", "version" => version, "commit" => COMMIT.unwrap_or("unknown")).set(1.0);
    for name in PLAIN_COUNTERS {
        counter!(name).increment(0);
    }
    for (name, label, values) in LABELLED_COUNTERS {
        for value in values {
            counter!(name, label => *value).increment(0);
        }
    }
    tenants.iter().for_each(register_tenant);
}

/// Starts the counters of a tenant at zero.
pub(crate) fn register_tenant(tenant: &TenantName) {
    for name in TENANT_COUNTERS {
        counter!(name, "tenant" => tenant.to_string()).increment(0);
    }
    for status in EVENT_STATUSES {
        counter!("ledger_events_total", "tenant" => tenant.to_string(), "status" => status).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn rendered() -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || register(&[TenantName::default()]));
        handle.render()
    }

    #[test]
    fn counters_of_fixed_labels_start_at_zero_with_their_meaning() {
        let text = rendered();
        for line in [
            r#"ledger_events_total{tenant="default",status="conflict"} 0"#,
            r#"ledger_http_refused_total{bound="followers"} 0"#,
            r#"ledger_gaps_total{tenant="default"} 0"#,
            "ledger_http_idle_closed_total 0",
            "# HELP ledger_gaps_total Entries that the stream lost.",
            "# TYPE ledger_gaps_total counter",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn every_counter_that_starts_at_zero_is_in_the_catalog() {
        let labelled = LABELLED_COUNTERS.map(|(name, ..)| name);
        for name in PLAIN_COUNTERS.into_iter().chain(labelled).chain(TENANT_COUNTERS) {
            let found = METRICS.iter().find(|metric| metric.name == name);
            assert_eq!(found.map(|metric| metric.metric_type), Some(MetricType::Counter), "{name}");
        }
    }

    #[test]
    fn the_program_is_stated_with_its_version() {
        let version = format!("ledger_build_info{{version=\"{}\",commit=", env!("CARGO_PKG_VERSION"));
        assert!(rendered().contains(&version));
    }
}
