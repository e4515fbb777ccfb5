//! The harness: real servers on free ports, the program as a process, and a client that asks it.
//!
//! Nothing here waits for a fixed time: it waits for what it needs, up to a limit that only a failure
//! reaches.

mod behind;
mod client;
mod cluster;
mod command;
mod history;
mod port;
mod proxy;
mod random;
mod replica;
mod servers;
mod service;
mod storage;

pub use behind::{
    STREAM, create_stream, delete_stream, digests, jetstream, jetstream_of_operator, nats_client,
    projection_tables, projections_connection, projections_schema,
};
pub use client::{Answer, Client, deploy, event};
pub use cluster::{Cluster, Node};
pub use command::{Command, Outcome, run};
pub use history::{RealHistory, Row, Running, digest};
pub use port::{free_port, free_ports};
pub use proxy::Proxy;
pub use random::Random;
pub use replica::Replica;
pub use servers::Servers;
pub use service::Service;
pub use storage::Storage;
