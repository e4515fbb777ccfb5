//! `release-ledger revoke` and `reinstate`: artifacts that must not be used any more.

use anyhow::{Context as _, anyhow};
use ledger_api_types::{GateBody, GateRequest, ReleaseRequest};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Artifact, EnvironmentName, Kind, LongText, ServiceName, ShortText};
use serde_json::{Map, Value, json};

use super::author::{ActorArgs, Author};
use super::compose::{Attributes, Places, compose_event};
use super::connection::Connection;
use super::output::print_notice;
use super::query::{head, read, with_param};
use super::session::CommandArgs;

/// The arguments of the members that these commands set.
const PLACES: &Places =
    &[("/data/artifact", "ARTIFACT"), ("/data/advisory", "--advisory"), ("/data/actor", "--by")];

/// Revoke an artifact: it must not be deployed any more
///
/// The gate denies releases with the artifact, and no rollback deploys it. Give the artifact, or a version of a service
/// in an environment, for which the ledger knows the artifact.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  release-ledger revoke v948 --environment production --service web --reason 'It leaks.'
  release-ledger revoke pkg:cargo/rand@0.9.1 --reason 'It leaks.' --advisory CVE-2026-1")]
pub struct Revoke {
    #[command(flatten)]
    artifact: ArtifactArgs,
    /// A public reference to the reason, such as a CVE
    #[arg(long, value_name = "REFERENCE", value_parser = ShortText::parse)]
    advisory: Option<ShortText>,
    /// The artifact was deleted from its registry, and can no longer be pulled
    #[arg(long)]
    deleted: bool,
}

/// Withdraw the revocation of an artifact: it may be deployed again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  release-ledger reinstate pkg:cargo/rand@0.9.1 --reason 'It does not leak.'")]
pub struct Reinstate {
    #[command(flatten)]
    artifact: ArtifactArgs,
}

/// The artifact, and flags that both commands take.
#[derive(Debug, clap::Args)]
struct ArtifactArgs {
    /// The artifact: a package URL, or an OCI reference by digest; or the version of a service
    #[arg(value_name = "ARTIFACT|VERSION")]
    artifact: String,
    /// With a version: the environment in which it means the artifact
    #[arg(long, value_name = "NAME", requires = "service")]
    environment: Option<EnvironmentName>,
    /// With a version: its service
    #[arg(long, value_name = "NAME", requires = "environment")]
    service: Option<ServiceName>,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    #[command(flatten)]
    by: ActorArgs,
    #[command(flatten)]
    sending: CommandArgs,
}

impl Revoke {
    /// Runs the command.
    ///
    /// # Errors
    /// It is unknown which artifact is meant, or the revocation is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut data = Map::new();
        if let Some(advisory) = &self.advisory {
            data.insert("advisory".to_owned(), advisory.as_str().into());
        }
        if self.deleted {
            data.insert("deleted".to_owned(), json!(true));
        }
        self.artifact.record(Kind::ArtifactRevoked, data).await
    }
}

impl Reinstate {
    /// Runs the command.
    ///
    /// # Errors
    /// It is unknown which artifact is meant, or the withdrawal is not recorded.
    pub async fn run(self) -> anyhow::Result<()> {
        self.artifact.record(Kind::ArtifactReinstated, Map::new()).await
    }
}

impl ArtifactArgs {
    async fn record(self, kind: Kind, data: Map<String, Value>) -> anyhow::Result<()> {
        let author = self.by.author()?;
        let artifact = self.resolve().await?;
        let event = self.event(kind, &author, &artifact, data)?;
        self.sending.send(&event).await
    }

    fn event(
        &self,
        kind: Kind,
        author: &Author,
        artifact: &str,
        mut data: Map<String, Value>,
    ) -> anyhow::Result<Envelope> {
        data.insert("artifact".to_owned(), artifact.into());
        data.insert("reason".to_owned(), self.reason.as_str().into());
        author.add_to(&mut data);
        let attributes = Attributes { source: Some(&author.source), ..Attributes::default() };
        compose_event(kind, attributes, data, PLACES)
    }

    /// Returns the artifact: that given, or the one that the version means.
    async fn resolve(&self) -> anyhow::Result<String> {
        if let (Some(environment), Some(service)) = (&self.environment, &self.service) {
            let connection = self.sending.connection().clone();
            let artifact = artifact_of(connection, environment, service, &self.artifact).await?;
            print_notice(&format!("{} of {service} is {artifact}", self.artifact));
            return Ok(artifact);
        }
        match Artifact::parse(&self.artifact) {
            Ok(_) => Ok(self.artifact.clone()),
            Err(error) => Err(anyhow!(
                "{} is not an artifact ({error}); with a version, set --environment and --service",
                self.artifact
            )),
        }
    }
}

/// Asks the gate which artifact the version of a service means.
async fn artifact_of(
    connection: Connection,
    environment: &EnvironmentName,
    service: &ServiceName,
    version: &str,
) -> anyhow::Result<String> {
    let client = connection.client()?;
    let request = GateRequest {
        service: service.to_string(),
        target: None,
        release: ReleaseRequest {
            version: version.to_owned(),
            artifact: None,
            config: None,
            infrastructure: None,
            commit: None,
        },
        requester: None,
        rollback_id: None,
        new: false,
    };
    let url = client.url(&["environments", environment.as_str(), "gate"]);
    let url = with_param(url, "wait_for", Some(head(&client).await?));
    let body: GateBody = read(&client.post(url, &request, None).await?)?;
    body.release.and_then(|release| release.artifact).with_context(|| {
        format!("it is unknown which artifact {version} of {service} in {environment} is; give the artifact")
    })
}
