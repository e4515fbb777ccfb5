//! Queries: flags, requests and output.

use anyhow::Context as _;
use bytes::Bytes;
use ledger_api_types::PositionBody;
use reqwest::Url;
use serde::de::DeserializeOwned;

use super::connection::Client;
use super::found::FoundArgs;
use super::output::{print_json, print_text};
use super::pager::Pager;
use super::report::{OutputArgs, Report};
use super::spool::print_waiting;

/// Flags of every query.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    output: OutputArgs,
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
    /// Prints a response body in the format of the flags.
    pub(super) fn print<T: DeserializeOwned, R: Into<Report>>(
        &self,
        body: Bytes,
        render: impl FnOnce(&T) -> R,
    ) -> anyhow::Result<()> {
        self.output.print(&body, || Ok(render(&read(&body)?).into()))
    }

    /// Returns stdout for [`QueryArgs::print_page`], through the pager if it is a terminal.
    pub(super) fn pager(&self) -> Pager {
        self.output.pager()
    }

    /// Prints one of several response bodies in the format of the flags, with column names only for the first.
    pub(super) fn print_page<T: DeserializeOwned, R: Into<Report>>(
        &self,
        pager: &mut Pager,
        body: &[u8],
        is_first: bool,
        render: impl FnOnce(&T) -> R,
    ) -> anyhow::Result<()> {
        let output = if is_first { self.output } else { self.output.without_headers() };
        output.print_to(pager, body, || Ok(render(&read(body)?).into()))
    }

    /// Prints a response body unless the flags say not to, and returns the result that they ask for.
    ///
    /// # Errors
    /// [`Found`](super::found::Found) if something was found and the flags ask for the exit code; otherwise that of
    /// printing.
    pub(super) fn print_found<T: DeserializeOwned, R: Into<Report>>(
        &self,
        body: Bytes,
        found: FoundArgs,
        render: impl FnOnce(&T) -> R,
        is_found: impl FnOnce(&T) -> bool,
    ) -> anyhow::Result<()> {
        let is_found = is_found(&read(&body)?);
        if found.prints() {
            self.print(body, render)?;
        }
        found.result(is_found)
    }

    /// Returns true if the output is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.output.is_json()
    }

    /// Returns true if the output is YAML.
    pub(super) const fn is_yaml(&self) -> bool {
        self.output.is_yaml()
    }

    /// Returns true if people read the table.
    pub(super) const fn is_text(&self) -> bool {
        self.output.is_text()
    }

    /// Returns true if programs read the rows of the table.
    pub(super) const fn is_rows(&self) -> bool {
        self.output.is_rows()
    }

    pub(super) const fn wait_for(&self) -> Option<u64> {
        self.wait.wait_for
    }

    /// Adds the position to wait for to a URL.
    pub(super) fn with_wait_for(&self, url: Url) -> Url {
        with_param(url, "wait_for", self.wait.wait_for)
    }

    /// Fetches a URL, waiting for the position of the flags.
    pub(super) async fn fetch(&self, client: &Client, url: Url) -> anyhow::Result<Bytes> {
        self.wait.fetch(client, url).await
    }

    /// Fetches a URL and prints the response body in the format of the flags.
    pub(super) async fn fetch_and_print<T: DeserializeOwned, R: Into<Report>>(
        &self,
        client: &Client,
        url: Url,
        render: impl FnOnce(&T) -> R,
    ) -> anyhow::Result<()> {
        self.print(self.wait.fetch(client, url).await?, render)
    }
}

impl WaitArgs {
    pub(super) async fn fetch(&self, client: &Client, url: Url) -> anyhow::Result<Bytes> {
        print_waiting(client);
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
