//! `release-ledger up`: runs the service with a private NATS and Postgres in one data directory.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use figment::value::{Dict, Value};
use ledger_access::ApiToken;
use ledger_domain::{PrincipalKind, TenantName};
use ledger_projections::SchemaVersion;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::app::App;
use crate::config::{Config, Flags, Local, check_plain};
use crate::serve::{init_logging, shutdown_on_signal};
use ledger_client::environment;
use ledger_client::{self, Client, LocalContext, Url};
use ledger_devstack::{Options, Stack};

/// Longest wait for the projections before the ledger counts as up: a question at once would fail.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Serve the ledger with a private NATS and Postgres in a data directory
///
/// Starts both servers on free local ports, creates missing data, serves, and stops both servers at the end. Keeps the
/// contents of the directory.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// Settings file, such as for webhooks
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory [default: /var/lib/release-ledger for root, else ~/.local/share/release-ledger]
    #[arg(long, value_name = "FOLDER", env = "RELEASE_LEDGER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Tenants to serve, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tenants: Option<Vec<String>>,
    /// Hosts by which clients may reach the service, separated by commas: names, addresses, `loopback` or `addresses`
    /// [default: loopback, and addresses if it listens on no loopback address]
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    allowed_hosts: Option<Vec<String>>,
    /// A proxy encrypts the connections of clients: listening on another address than a loopback one is possible
    #[arg(long)]
    behind_proxy: bool,
    /// Play the demo history into the ledger
    #[arg(long)]
    demo: bool,
    /// Log filter, in the syntax of tracing
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log_filter: String,
}

impl Up {
    /// Serves until SIGTERM or SIGINT, or until one of the servers fails.
    ///
    /// # Errors
    /// A server cannot start, or failed.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        check_plain(self.listen, self.behind_proxy)?;
        let local = self.local();
        local.check()?;
        let search = environment::search_path();
        let data = self.data_dir.clone().map_or_else(environment::data_dir, Ok)?;
        let shutdown = shutdown_on_signal()?;
        let mut options = Options::found_in(search);
        options.nats.environment = environment::servers_dir();
        let mut stack = Stack::start(&data, &options).await?;
        // A new one at each start: while the ledger is down, another program may listen on its port and receive the token.
        let token = ApiToken::generate()?;
        let flags = local.flags(local_administrator(&token), &stack)?;
        let served = self.serve(&flags, &token, schema_version, &mut stack, shutdown).await;
        let stopped = stack.stop().await;
        served?;
        Ok(stopped?)
    }

    fn local(&self) -> Local {
        Local {
            config: self.config.clone(),
            listen: self.listen,
            is_behind_proxy: self.behind_proxy,
            tenants: self.tenants.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
            log_filter: self.log_filter.clone(),
        }
    }

    async fn serve(
        &self,
        flags: &Flags,
        token: &ApiToken,
        schema_version: SchemaVersion,
        stack: &mut Stack,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let config = Config::read_for_serving(flags)?.with_schema_version(schema_version);
        init_logging(&config.log)?;
        let app = tokio::select! {
            app = App::build(&config) => app?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let address = app.address();
        let serving = tokio::spawn(app.serve(shutdown.clone()));
        let url = local_url(address);
        let saved = ledger_client::save_local_context(&url, token);
        if let Err(error) = &saved {
            let text = format!(
                "no command can authenticate, since no context could be written; set XDG_CONFIG_HOME to a folder of your \
                 own and start again: {error:#}"
            );
            // A closed stderr leaves nowhere to report it.
            let _ = writeln!(std::io::stderr().lock(), "warning: {}", ledger_client::printable(&text));
        }
        let pages = config.pages.enabled.then(|| url.clone());
        let client = Client::with_token(url, &TenantName::default(), token);
        tokio::select! {
            () = client.wait_until_ready(READY_TIMEOUT) => {}
            () = shutdown.cancelled() => {}
        }
        announce(address, saved.ok().as_ref(), pages.as_ref())?;
        let demo = self.demo.then(|| load_demo(client, shutdown.clone()));
        let failure = tokio::select! {
            () = shutdown.cancelled() => None,
            failure = stack.failure() => Some(failure),
        };
        shutdown.cancel();
        if let Some(demo) = demo {
            demo.abort();
        }
        serving.await?;
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// Prints the address of the ledger, the context of its commands and, if it has pages, how to sign in to them.
fn announce(address: SocketAddr, context: Option<&LocalContext>, pages: Option<&Url>) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "release-ledger is up at http://{address} (API: http://{address}/docs)")?;
    let Some(LocalContext { summary, token_file }) = context else { return Ok(()) };
    writeln!(stdout, "{}", ledger_client::printable(summary))?;
    let Some(pages) = pages else { return Ok(()) };
    let sign_in = format!("pages: {pages} (sign in with the API token in {})", token_file.display());
    writeln!(stdout, "{}", ledger_client::printable(&sign_in))
}

/// Returns the settings of the user who started the ledger.
fn local_administrator(token: &ApiToken) -> Dict {
    let name = environment::user().unwrap_or_else(|| "local".to_owned());
    let members = [
        ("name", name),
        ("kind", PrincipalKind::Local.name().to_owned()),
        ("token", token.id().to_string()),
        ("hash", token.hash().to_string()),
    ];
    members.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

/// Returns the URL of a service that listens on an address, for clients on this machine.
fn local_url(address: SocketAddr) -> Url {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(host, address.port()));
    url.parse().expect("an address and a port are a URL")
}

fn load_demo(client: Client, shutdown: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        match ledger_client::play(&client, None).await {
            Ok(summary) => {
                let left_out = summary.skipped.map(|skipped| {
                    format!("; {skipped} are left out, since other events were recorded in between")
                });
                let left_out = left_out.unwrap_or_default();
                // A closed stdout leaves nowhere to say it.
                let _ = writeln!(
                    std::io::stdout().lock(),
                    "the demo history is complete: {} events{left_out}",
                    summary.rows
                );
            }
            Err(error) if !shutdown.is_cancelled() => {
                error!(error = format!("{error:#}"), "cannot load the demo history");
            }
            Err(_) => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_this_machine_use_its_loopback_address() {
        for (address, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080/"),
            ("[::]:81", "http://[::1]:81/"),
            ("192.0.2.7:80", "http://192.0.2.7/"),
        ] {
            assert_eq!(local_url(address.parse().expect("an address")).as_str(), url);
        }
    }
}
