//! Queries: flags, requests and output.

use anyhow::Context as _;
use bytes::Bytes;
use ledger_api_types::PositionBody;
use reqwest::Url;
use serde::de::DeserializeOwned;

use super::connection::Client;
use super::output::{print_json, print_text};

/// Flags of every query.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    wait: WaitArgs,
    /// Print the service's response as JSON
    #[arg(long)]
    json: bool,
}

/// The position that a query waits for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct WaitArgs {
    /// Wait until the projections have applied this position, such as the one returned for an emitted event
    #[arg(long, value_name = "POSITION")]
    wait_for: Option<u64>,
}

/// Adds a query parameter to a URL, if it has a value.
pub(super) fn with_param(mut url: Url, name: &str, value: Option<impl ToString>) -> Url {
    if let Some(value) = value {
        url.query_pairs_mut().append_pair(name, &value.to_string());
    }
    url
}

impl QueryArgs {
    /// Prints a response body: as JSON with `--json`, else rendered as text.
    pub(super) fn print<T: DeserializeOwned>(
        &self,
        body: Bytes,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        print_body(self.json, &body, render)
    }

    /// Returns true if the output is JSON.
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    pub(super) const fn wait_for(&self) -> Option<u64> {
        self.wait.wait_for
    }

    /// Adds the position to wait for to a URL.
    pub(super) fn with_wait_for(&self, url: Url) -> Url {
        with_param(url, "wait_for", self.wait.wait_for)
    }

    /// Fetches a URL and prints the response body: as JSON with `--json`, else rendered as text.
    pub(super) async fn fetch_and_print<T: DeserializeOwned>(
        &self,
        client: &Client,
        url: Url,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        self.print(self.wait.fetch(client, url).await?, render)
    }
}

impl WaitArgs {
    pub(super) async fn fetch(&self, client: &Client, url: Url) -> anyhow::Result<Bytes> {
        Ok(client.get(with_param(url, "wait_for", self.wait_for)).await?)
    }
}

/// Prints a response body: as JSON, or rendered as text.
pub(super) fn print_body<T: DeserializeOwned>(
    json: bool,
    body: &[u8],
    render: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let printed = if json { print_json(body) } else { print_text(&render(&read(body)?)) };
    Ok(printed?)
}

/// Returns the position of the ledger's last entry. A command that acts on a response waits for this position
/// first, so that the response includes everything recorded before the command.
pub(super) async fn head(client: &Client) -> anyhow::Result<u64> {
    let body: PositionBody = read(&client.get(client.url(&["position"])).await?)?;
    Ok(body.head)
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body)
        .context("cannot parse the service's response; client and service may be of different versions")
}
