//! The test harness: real servers on free ports, the program as a process, and an HTTP client.
//!
//! Nothing here sleeps for a fixed time: the harness polls for the state it needs, up to a limit that only a
//! failing test reaches.

mod access;
mod ci;
mod client;
mod cluster;
mod command;
mod connection;
mod event_stream;
mod files;
mod history;
mod in_process;
mod issuer;
mod kafka;
mod limits;
mod memory;
mod port;
mod proxy;
mod random;
mod raw;
mod replica;
mod servers;
mod service;
mod statements;
mod storage;
mod story;
mod template;

pub use access::{AccessSettings, Guarded, UNLIMITED, administrator, new_token};
pub use ci::no_ci;
pub use client::{Client, Response, deploy, event};
pub use cluster::{Cluster, Node};
pub use command::{Command, Outcome, run};
pub use connection::{RawAnswer, RawConnection};
pub use event_stream::{EventStream, SentEvent, follow_over_restarts};
pub use files::copy_folder;
pub use history::{RealHistory, Row, RunningVersions, digest};
pub use in_process::InProcess;
pub use issuer::Issuer;
pub use kafka::KafkaBroker;
pub use port::{free_port, free_ports};
pub use proxy::Proxy;
pub use random::Random;
pub use raw::{
    STREAM, create_stream, delete_stream, digests, jetstream, jetstream_as_operator, nats_client,
    projection_tables, projections_connection, projections_schema, stream_entries, wait_for_entries,
};
pub use replica::Replica;
pub use servers::Servers;
pub use service::Service;
pub use statements::{statement, statement_paths};
pub use storage::Storage;
pub use story::{Story, at, controller_decisions, issues, rollback_events, rollback_request, text};
