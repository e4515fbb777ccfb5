//! nats-servers, one alone or a cluster of three. Each can be killed, paused and restarted.

use std::path::{Path, PathBuf};
use std::process::Command;

use ledger_tests::free_ports;
use rustix::process::Signal;

use crate::process::{Process, signal};

/// User of all clients.
pub(crate) const USER: &str = "ledger";
/// Password of [`USER`]. The servers listen on 127.0.0.1 and exist for one run.
pub(crate) const PASSWORD: &str = "faults";

/// One nats-server.
pub(crate) struct Node {
    config: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Node {
    /// Starts this many nats-servers, each with a folder `nats-N` in `folder`.
    pub(crate) fn start_all(folder: &Path, count: usize) -> Vec<Self> {
        let ports = free_ports(2 * count);
        let (clients, routes) = ports.split_at(count);
        let peers: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let nodes = clients.iter().zip(routes).enumerate().map(|(number, (client, route))| {
            let folder = folder.join(format!("nats-{number}"));
            std::fs::create_dir_all(&folder).expect("create the folder");
            // A single server syncs before it acknowledges; of three, two have the entry.
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
            std::fs::write(&config, text).expect("write the configuration");
            let mut node = Self { config, log: folder.join("nats.log"), port: *client, process: None };
            node.start();
            node
        });
        nodes.collect()
    }

    /// Returns the port for clients on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the server with the data that it has stored.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new("nats-server");
        command.arg("--config").arg(&self.config);
        self.process = Some(Process::spawn(&mut command, &self.log));
    }

    /// Sends SIGSTOP.
    pub(crate) fn pause(&mut self) {
        signal(&mut self.process, Signal::STOP);
    }

    /// Sends SIGCONT.
    pub(crate) fn resume(&mut self) {
        signal(&mut self.process, Signal::CONT);
    }

    /// Restarts the server if it exited, and returns a note about its exit status.
    pub(crate) fn restart_if_exited(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.exit_status()?;
        self.start();
        Some(format!("a nats-server exited: {status}"))
    }
}

/// Returns the folder of the streams of a server with this folder.
pub(crate) fn store(folder: &Path) -> PathBuf {
    folder.join("store")
}
