//! Questions: their parameters, asking them, with patience where it is due, and reading the answer.

use anyhow::Context as _;
use bytes::Bytes;
use reqwest::Url;
use serde::de::DeserializeOwned;

use super::answer::PositionBody;
use super::connection::Client;
use super::output::{show, show_text};

/// What every question takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct QueryArgs {
    #[command(flatten)]
    waiting: Waiting,
    /// Print the service's answer as it is
    #[arg(long)]
    json: bool,
}

/// What a question waits for before it is answered.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Waiting {
    /// Wait until the projections have this position, such as the one that an emitted event was answered with
    #[arg(long, value_name = "POSITION")]
    wait_for: Option<u64>,
}

/// Adds a parameter to a URL, if it is given.
pub(super) fn with(mut url: Url, name: &str, value: Option<impl ToString>) -> Url {
    if let Some(value) = value {
        url.query_pairs_mut().append_pair(name, &value.to_string());
    }
    url
}

impl QueryArgs {
    /// Shows an answer: as it is, or in words.
    pub(super) fn answer<T: DeserializeOwned>(
        &self,
        body: Bytes,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let shown = if self.json { show(&body) } else { show_text(&render(&read(&body)?)) };
        Ok(shown?)
    }

    pub(super) const fn wait_for(&self) -> Option<u64> {
        self.waiting.wait_for
    }

    /// Adds what is waited for to a URL.
    pub(super) fn waiting(&self, url: Url) -> Url {
        with(url, "wait_for", self.waiting.wait_for)
    }

    /// Asks, and shows the answer: as it is, or in words.
    pub(super) async fn show<T: DeserializeOwned>(
        &self,
        client: &Client,
        url: Url,
        render: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        self.answer(self.waiting.ask(client, url).await?, render)
    }
}

impl Waiting {
    pub(super) async fn ask(&self, client: &Client, url: Url) -> anyhow::Result<Bytes> {
        Ok(client.get(with(url, "wait_for", self.wait_for)).await?)
    }
}

/// The position of the ledger's last entry: who acts on an answer waits for it, and so knows what was
/// recorded a moment ago.
pub(super) async fn head(client: &Client) -> anyhow::Result<u64> {
    let body: PositionBody = read(&client.get(client.url(&["position"])).await?)?;
    Ok(body.head)
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the service's answer is not understood; is it of another version?")
}
