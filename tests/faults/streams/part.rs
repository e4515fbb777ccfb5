//! Services with sections of Kafka, and what their metrics say about them.

use std::path::Path;
use std::time::Duration;

use ledger_tests::{Client, Servers, Service};
use tokio::time::{sleep, timeout};

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_ledger-under-test");
/// Upper bound of every wait; only a failing story reaches it.
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(90);
/// Interval at which a state is polled that sends no notification.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Section that reads the topic `releases`.
pub(super) const IN: &str = "[kafka.in.releases]\ntopics = [\"releases\"]\ngroup = \"ledger\"\n";
/// Section that writes the topic `entries`.
pub(super) const OUT: &str = "[kafka.out.entries]\ntopic = \"entries\"\n";
/// Counter of the messages that `IN` has recorded, with the labels that select them.
pub(super) const RECORDED: (&str, &[&str]) =
    ("ledger_kafka_messages_total", &["part=\"kafka.in.releases\"", "outcome=\"recorded\""]);
/// Counter of the rebalances of `IN`.
pub(super) const REBALANCES: (&str, &[&str]) =
    ("ledger_kafka_rebalances_total", &["part=\"kafka.in.releases\""]);
/// Counter of the entries that `OUT` has delivered.
pub(super) const DELIVERED: (&str, &[&str]) =
    ("ledger_follower_entries_total", &["follower=\"kafka/entries\""]);

/// Writes the settings of sections that use brokers at an address, and returns the flag that names their file.
///
/// The session is as short as the settings allow: the broker soon gives the partitions of a killed process to another.
pub(super) fn config(folder: &Path, brokers: &str, sections: &str) -> String {
    let file = folder.join("ledger.toml");
    let text = format!(
        "[kafka.properties]\n\"bootstrap.servers\" = \"{brokers}\"\n\"session.timeout.ms\" = 6000\n\
         \"heartbeat.interval.ms\" = 500\n{sections}"
    );
    std::fs::write(&file, text).expect("write the settings");
    format!("--config={}", file.display())
}

/// Starts a service with these flags.
pub(super) async fn start(servers: &Servers, flags: &[&str]) -> Service {
    Service::start(PROGRAM, servers, flags).await
}

/// Returns the sum of a counter's series that have all these labels.
pub(super) async fn counted(client: &Client, (name, labels): (&str, &[&str])) -> f64 {
    let metrics = client.text("/metrics").await;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// Waits until a counter of a process is above zero.
pub(super) async fn wait_until_counted(client: &Client, counter: (&str, &[&str])) {
    let counts = async {
        while counted(client, counter).await == 0.0 {
            sleep(POLL_INTERVAL).await;
        }
    };
    let counts = timeout(WAIT_LIMIT, counts).await;
    counts.unwrap_or_else(|_| panic!("{} stays at zero", counter.0));
}
