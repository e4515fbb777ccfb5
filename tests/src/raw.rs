//! Direct access to the stream and to the tables of the projections, bypassing the service.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, ServerAddr};
use ledger_devstack::nats::User;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{sleep, timeout};

use crate::Servers;
use crate::client::POLL_INTERVAL;
use crate::limits::WAIT_LIMIT;

/// Connects to NATS with the permissions of the user in the URL.
pub async fn nats_client(url: &str) -> async_nats::Client {
    let addresses: Vec<ServerAddr> =
        url.split(',').map(|address| address.parse().expect("an address")).collect();
    let (user, password) = (addresses[0].username(), addresses[0].password());
    let (user, password) = (user.expect("a user").to_owned(), password.expect("a password").to_owned());
    let options = ConnectOptions::with_user_and_password(user, password).custom_inbox_prefix("_INBOX_LEDGER");
    // Leave a paused server soon for another one.
    let options = options.ping_interval(Duration::from_secs(1)).connection_timeout(Duration::from_secs(1));
    options.connect(addresses).await.expect("connected to NATS")
}

/// Returns a JetStream context with the service's permissions.
pub async fn jetstream(servers: &Servers) -> Context {
    jetstream::new(nats_client(&servers.nats_url()).await)
}

/// Returns a JetStream context with the operator's permissions (break-glass access).
pub async fn jetstream_as_operator(servers: &Servers) -> Context {
    jetstream::new(nats_client(&servers.nats_url_of(User::Operator)).await)
}

/// The name of the default tenant's stream.
pub const STREAM: &str = "LEDGER_default";

/// Returns the number of entries in the default tenant's stream; 0 before the stream exists.
pub async fn stream_entries(operator: &Context) -> u64 {
    let stream = operator.get_stream(STREAM).await;
    stream.map_or(0, |stream| stream.cached_info().state.messages)
}

/// Waits until the default tenant's stream has at least this many entries. The service need not answer.
pub async fn wait_for_entries(operator: &Context, entries: u64) {
    let reached = async {
        while stream_entries(operator).await < entries {
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(WAIT_LIMIT, reached).await.expect("the stream gets the entries");
}

/// Deletes the default tenant's stream and returns its configuration.
pub async fn delete_stream(servers: &Servers) -> Config {
    let operator = jetstream_as_operator(servers).await;
    let config = operator.get_stream(STREAM).await.expect("a stream").cached_info().config.clone();
    operator.delete_stream(STREAM).await.expect("the stream is deleted");
    config
}

/// Creates an empty stream with this configuration.
pub async fn create_stream(servers: &Servers, config: Config) {
    jetstream_as_operator(servers).await.create_stream(config).await.expect("the stream is created");
}

/// Connects to the database of this URL, with the schema of a tenant's live projections as search path.
pub async fn projections_connection(url: &str, tenant: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.expect("connected to Postgres");
    let schema = projections_schema(&mut connection, tenant).await;
    let path = AssertSqlSafe(format!("SET search_path TO \"{schema}\""));
    sqlx::query(path).execute(&mut connection).await.expect("the tenant's schema");
    connection
}

/// Returns the schema of a tenant's live projections, of the newest schema version.
pub async fn projections_schema(connection: &mut PgConnection, tenant: &str) -> String {
    let query = "SELECT version, number FROM release_ledger.generations
        WHERE tenant = $1 AND state = 'live' ORDER BY version DESC LIMIT 1";
    let live: (i32, i32) =
        sqlx::query_as(query).bind(tenant).fetch_one(connection).await.expect("live projections");
    format!("ledger_{tenant}_v{}_{}", live.0, live.1)
}

/// Returns the names of the tables of a tenant's projections.
pub async fn projection_tables(connection: &mut PgConnection) -> Vec<String> {
    let query = "SELECT table_name::text FROM information_schema.tables
        WHERE table_schema = current_schema() AND table_name NOT LIKE '\\_%' ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(connection).await.expect("tables")
}

/// Returns the row count of each table of a tenant's projections and a digest over its rows. Leaves out the stream's
/// identity: a restored stream has another one with the same entries.
pub async fn digests(url: &str, tenant: &str) -> BTreeMap<String, (i64, String)> {
    let mut connection = projections_connection(url, tenant).await;
    let mut digests = BTreeMap::new();
    for table in projection_tables(&mut connection).await {
        let row = if table == "projection" { "(t.position, t.leaf_hash, t.root)" } else { "t" };
        let query = AssertSqlSafe(format!(
            "SELECT count(*), md5(coalesce(string_agg(md5(({row})::text), '' ORDER BY md5(({row})::text)), ''))
            FROM {table} t"
        ));
        let digest = sqlx::query_as(query).fetch_one(&mut connection).await.expect("a digest");
        digests.insert(table, digest);
    }
    digests
}
