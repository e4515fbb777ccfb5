//! nats-servers, one alone or three that keep the same: each can be killed, stopped and started again.

use std::path::{Path, PathBuf};
use std::process::Command;

use ledger_tests::free_ports;
use rustix::process::Signal;

use crate::process::{Process, signal};

/// Whom the servers let in.
pub(crate) const USER: &str = "ledger";
/// The password of [`USER`], on servers that listen on 127.0.0.1 for one run.
pub(crate) const PASSWORD: &str = "faults";

/// One nats-server.
pub(crate) struct Node {
    config: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Node {
    /// Starts so many nats-servers, each with a folder `nats-N` in this one.
    pub(crate) fn start_all(folder: &Path, count: usize) -> Vec<Self> {
        let ports = free_ports(2 * count);
        let (clients, routes) = ports.split_at(count);
        let peers: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let nodes = clients.iter().zip(routes).enumerate().map(|(number, (client, route))| {
            let folder = folder.join(format!("nats-{number}"));
            std::fs::create_dir_all(&folder).expect("a folder");
            // What one server alone acknowledges is on its disk; of three, two have it.
            let (sync, cluster) = if count == 1 {
                ("sync_interval: always", String::new())
            } else {
                let peers = peers.join(", ");
                let cluster = format!(
                    "cluster {{ name: faults, listen: \"127.0.0.1:{route}\", routes: [{peers}], no_advertise: true }}"
                );
                ("", cluster)
            };
            let config = folder.join("nats.conf");
            let text = format!(
                "server_name: \"n{number}\"\nlisten: \"127.0.0.1:{client}\"\n\
                 authorization {{ user: \"{USER}\", password: \"{PASSWORD}\" }}\n\
                 jetstream {{ store_dir: \"{}\", max_file_store: 1TB\n {sync} }}\n{cluster}\n",
                store(&folder).display()
            );
            std::fs::write(&config, text).expect("a configuration");
            let mut node = Self { config, log: folder.join("nats.log"), port: *client, process: None };
            node.start();
            node
        });
        nodes.collect()
    }

    /// The port for clients on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again, with what it had stored.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new("nats-server");
        command.arg("--config").arg(&self.config);
        self.process = Some(Process::spawn(&mut command, &self.log));
    }

    /// SIGSTOP.
    pub(crate) fn stop(&mut self) {
        signal(&mut self.process, Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        signal(&mut self.process, Signal::CONT);
    }

    /// Starts it again if it ended by itself, and says how it did.
    pub(crate) fn mind(&mut self) -> Option<String> {
        let ended = self.process.as_mut()?.ended()?;
        self.start();
        Some(format!("a nats-server ended by itself: {ended}"))
    }
}

/// Where a server with this folder keeps its streams.
pub(crate) fn store(folder: &Path) -> PathBuf {
    folder.join("store")
}
