//! `release-ledger up`: the ledger with a private NATS and a private Postgres, in one folder.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use ledger_domain::TenantName;
use ledger_projections::SchemaVersion;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::app::App;
use crate::config::{Config, Flags};
use crate::serve::{start_log, until_signalled};
use ledger_client::environment;
use ledger_client::{self, Client};
use ledger_devstack::{Options, Stack};

/// Serve the ledger with a private NATS and Postgres in a folder
///
/// Starts both servers on free ports of this machine, makes what is missing, serves, and stops both when
/// it ends. What is in the folder is kept.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// Where the ledger is kept [default: /var/lib/release-ledger for root, else ~/.local/share/release-ledger]
    #[arg(long, value_name = "FOLDER", env = "RELEASE_LEDGER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Whose ledgers are served, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tenants: Option<Vec<String>>,
    /// Play the demo history into the ledger
    #[arg(long)]
    demo: bool,
    /// What is logged: a tracing filter
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log_filter: String,
}

impl Up {
    /// Serves until SIGTERM or SIGINT, or until one of the servers dies.
    ///
    /// # Errors
    /// A server cannot be started, or died.
    pub async fn run(self, schema_version: SchemaVersion) -> anyhow::Result<()> {
        let search = environment::search_path();
        let data = self.data_dir.clone().map_or_else(environment::data_dir, Ok)?;
        let ending = until_signalled()?;
        std::fs::create_dir_all(&data)
            .with_context(|| format!("the folder {} cannot be made", data.display()))?;
        let mut stack = Stack::start(&data, &Options::found_in(search)).await?;
        let flags = Flags::for_local(self.listen, self.tenants.clone(), self.log_filter.clone(), &stack);
        let served = self.serve(&flags, schema_version, &mut stack, ending).await;
        let stopped = stack.stop().await;
        served?;
        Ok(stopped?)
    }

    async fn serve(
        &self,
        flags: &Flags,
        schema_version: SchemaVersion,
        stack: &mut Stack,
        ending: CancellationToken,
    ) -> anyhow::Result<()> {
        let config = Config::read(flags)?;
        start_log(&config.log)?;
        let app = tokio::select! {
            app = App::build(&config, schema_version) => app?,
            () = ending.cancelled() => return Ok(()),
        };
        let address = app.address();
        let serving = tokio::spawn(app.serve(ending.clone()));
        writeln!(
            std::io::stdout().lock(),
            "release-ledger is up at http://{address} (API: http://{address}/docs)"
        )?;
        let demo = self.demo.then(|| play_demo(address, ending.clone()));
        let died = tokio::select! {
            () = ending.cancelled() => None,
            died = stack.failure() => Some(died),
        };
        ending.cancel();
        if let Some(demo) = demo {
            demo.abort();
        }
        serving.await?;
        died.map_or(Ok(()), |died| Err(died.into()))
    }
}

fn play_demo(address: SocketAddr, ending: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let played = async {
            let url = format!("http://{address}").parse()?;
            ledger_client::play(&Client::new(url, &TenantName::default()), None).await
        };
        if let Err(failed) = played.await
            && !ending.is_cancelled()
        {
            error!(error = format!("{failed:#}"), "the demo history could not be played");
        }
    })
}
