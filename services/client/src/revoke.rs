//! `release-ledger revoke` and `reinstate`: artifacts that must not be used any more.

use std::collections::BTreeMap;

use anyhow::bail;
use ledger_api_types::{EventsBody, GateBody, GateRequest, ReleaseRequest};
use ledger_codec::cloudevents::Envelope;
use ledger_domain::{Artifact, EnvironmentName, Kind, LongText, ServiceName, ShortText};
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::author::{ActorArgs, Author};
use super::compose::{Attributes, Places, compose_event};
use super::connection::{Client, Connection};
use super::invalid::invalid;
use super::output::print_notice;
use super::query::{head, read, with_param};
use super::session::CommandArgs;

/// The arguments of the members that these commands set.
const PLACES: &Places =
    &[("/data/artifact", "ARTIFACT"), ("/data/advisory", "--advisory"), ("/data/actor", "--by")];

/// Revoke an artifact: it must not be deployed any more
///
/// The gate denies releases with the artifact, and no rollback deploys it. Give the artifact, or a version of a service
/// in an environment, for which the ledger knows the artifact. If the version meant several artifacts, nothing is
/// revoked, and they are listed: give each artifact.
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
        let artifact = self.artifact().await?;
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
    async fn artifact(&self) -> anyhow::Result<String> {
        if let (Some(environment), Some(service)) = (&self.environment, &self.service) {
            let connection = self.sending.connection().clone();
            let artifact = artifact_of_version(connection, environment, service, &self.artifact).await?;
            print_notice(&format!("{} of {service} is {artifact}", self.artifact));
            return Ok(artifact);
        }
        match Artifact::parse(&self.artifact) {
            Ok(_) => Ok(self.artifact.clone()),
            Err(error) => Err(invalid(format!(
                "{} is not an artifact ({error}); with a version, set --environment and --service",
                self.artifact
            ))),
        }
    }
}

/// Entries per page.
const PAGE: u32 = 1000;

/// The artifacts that releases of a version may have, by their identity: each with where the ledger knows it from.
#[derive(Debug, Default)]
struct PossibleArtifacts(BTreeMap<String, (Artifact, String)>);

/// Returns the only artifact that the version of a service meant.
async fn artifact_of_version(
    connection: Connection,
    environment: &EnvironmentName,
    service: &ServiceName,
    version: &str,
) -> anyhow::Result<String> {
    let client = connection.client()?;
    let head = head(&client).await?;
    let mut possible = PossibleArtifacts::default();
    if let Some(artifact) = ask_gate(&client, head, environment, service, version).await? {
        possible.add(&artifact, "it is what the version means now".to_owned());
    }
    let lanes = client.url(&["events"]);
    let lanes = with_param(lanes, "environment", Some(environment));
    let lanes = with_param(with_param(lanes, "service", Some(service)), "type", Some("deploy"));
    each_event(&client, lanes, head, |position, data| {
        possible.add_deploy(position, data, version);
    })
    .await?;
    let builds = with_param(client.url(&["events"]), "type", Some("artifact.built"));
    let mut built = Vec::new();
    each_event(&client, builds, head, |position, data| {
        if data["version"] == version
            && let Some(artifact) = data["artifact"].as_str()
        {
            built.push((position, artifact.to_owned()));
        }
    })
    .await?;
    possible.add_builds(service, &built);
    possible.only(environment, service, version)
}

/// Asks the gate which artifact the version of a service means now.
async fn ask_gate(
    client: &Client,
    head: u64,
    environment: &EnvironmentName,
    service: &ServiceName,
    version: &str,
) -> anyhow::Result<Option<String>> {
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
    let body: GateBody = read(&client.post(with_param(url, "wait_for", Some(head)), &request, None).await?)?;
    Ok(body.release.and_then(|release| release.artifact))
}

/// Reads every entry at a URL that is not corrected: its position and its data.
async fn each_event(
    client: &Client,
    url: Url,
    head: u64,
    mut read_event: impl FnMut(u64, &Value),
) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let page = with_param(url.clone(), "after", Some(after));
        let page = with_param(with_param(page, "limit", Some(PAGE)), "wait_for", Some(head));
        let page: EventsBody<Value> = read(&client.get(page).await?)?;
        for entry in page.events.iter().filter(|entry| entry.corrected_by.is_none()) {
            read_event(entry.position, &entry.event["data"]);
        }
        match page.next.filter(|next| *next > after) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

impl PossibleArtifacts {
    /// Adds an artifact, unless the same one is known from elsewhere.
    fn add(&mut self, artifact: &str, known_from: String) {
        if let Ok(artifact) = Artifact::stored(artifact) {
            self.0.entry(artifact.identity()).or_insert((artifact, known_from));
        }
    }

    /// Adds the artifact of a deploy, if it is one of the version.
    fn add_deploy(&mut self, position: u64, data: &Value, version: &str) {
        let release = &data["release"];
        if release["version"] == version
            && let Some(artifact) = release["artifact"].as_str()
        {
            self.add(artifact, format!("deployed at position {position}"));
        }
    }

    /// Adds the builds that have no name, that of the service, or that of an artifact that the version meant:
    /// other services have the same versions.
    fn add_builds(&mut self, service: &ServiceName, builds: &[(u64, String)]) {
        let mut names: Vec<String> = self.0.values().filter_map(|(artifact, _)| artifact.name()).collect();
        names.push(service.to_string());
        for (position, artifact) in builds {
            let name = Artifact::stored(artifact).ok().and_then(|artifact| artifact.name());
            if name.is_none_or(|name| names.contains(&name)) {
                self.add(artifact, format!("built at position {position}"));
            }
        }
    }

    /// Returns the artifact if there is exactly one.
    fn only(
        self,
        environment: &EnvironmentName,
        service: &ServiceName,
        version: &str,
    ) -> anyhow::Result<String> {
        let artifacts: Vec<_> = self.0.into_values().collect();
        match &artifacts[..] {
            [] => bail!(
                "it is unknown which artifact {version} of {service} in {environment} is; give the artifact"
            ),
            [(artifact, _)] => Ok(artifact.as_str().to_owned()),
            several => {
                let list: Vec<_> = several
                    .iter()
                    .map(|(artifact, known)| format!("{} ({known})", artifact.as_str()))
                    .collect();
                bail!(
                    "{version} of {service} in {environment} is several artifacts; give one at a time: {}",
                    list.join(", ")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn deploy(version: &str, artifact: &str) -> Value {
        json!({"release": {"version": version, "artifact": artifact}})
    }

    fn only(possible: PossibleArtifacts) -> Result<String, String> {
        let (environment, service) = (EnvironmentName::parse("dev"), ServiceName::parse("web"));
        possible
            .only(&environment.expect("a name"), &service.expect("a name"), "v1")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_version_means_the_artifact_of_its_deploys_wherever_it_is_stored() {
        let mut possible = PossibleArtifacts::default();
        possible.add_deploy(1, &deploy("v1", &format!("pkg:oci/web@{}", digest("a"))), "v1");
        possible.add_deploy(2, &deploy("v1", &format!("registry.example/web@{}", digest("a"))), "v1");
        possible.add_deploy(3, &deploy("v2", &format!("pkg:oci/web@{}", digest("b"))), "v1");
        possible.add_deploy(4, &json!({"release": {"version": "v1"}}), "v1");
        assert_eq!(only(possible), Ok(format!("pkg:oci/web@{}", digest("a"))));
        assert!(
            only(PossibleArtifacts::default())
                .expect_err("unknown")
                .starts_with("it is unknown which artifact v1")
        );
    }

    #[test]
    fn a_version_of_several_artifacts_revokes_none_and_lists_them() {
        let [first, second, other] = ["a", "b", "c"].map(digest);
        let mut possible = PossibleArtifacts::default();
        possible.add_deploy(1, &deploy("v1", &format!("pkg:oci/shop-web@{first}")), "v1");
        let builds = [
            (2, format!("registry.example/web@{second}")),
            (3, format!("pkg:oci/shop-web@{first}")),
            (4, format!("pkg:oci/api@{other}")),
        ];
        possible.add_builds(&ServiceName::parse("web").expect("a name"), &builds);
        let error = only(possible).expect_err("two artifacts");
        assert!(error.contains(&format!("pkg:oci/shop-web@{first} (deployed at position 1)")), "{error}");
        assert!(error.contains(&format!("registry.example/web@{second} (built at position 2)")), "{error}");
        assert!(!error.contains(&other), "{error}");
    }
}
