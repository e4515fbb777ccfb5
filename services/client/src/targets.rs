//! `release-ledger targets`: services that run different releases at the targets of an environment.

use ledger_api_types::{TargetSkewBody, TargetsBody};
use ledger_domain::EnvironmentName;

use super::connection::Connection;
use super::found::FoundArgs;
use super::query::QueryArgs;
use super::release::version;
use super::report::Report;
use super::table::{Cell, Table, column};

/// The target of lanes for which none is named.
pub(super) const DEFAULT_TARGET: &str = "default";

/// Show the services that run different releases at the targets of an environment
#[derive(Debug, clap::Args)]
pub struct Targets {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    #[command(flatten)]
    found: FoundArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Targets {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or there is no such environment.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.url(&["environments", self.environment.as_str(), "targets"]);
        let body = self.query.fetch(&client, url).await?;
        self.query.print_found(body, self.found, render, |body: &TargetsBody| !body.uneven.is_empty())
    }
}

fn render(body: &TargetsBody) -> Report {
    let targets = body.targets.join(", ");
    let header = format!("{} position {}, targets: {targets}", body.environment, body.position);
    let columns = [column("service", 0), column("target", 0), column("version", 0), column("artifact", 1)];
    let table = Table::new(columns).if_empty("every service runs the same release at every target");
    Report::default().with_line(header).with_table(table.with_rows(body.uneven.iter().flat_map(rows)))
}

fn rows(skew: &TargetSkewBody) -> impl Iterator<Item = [Cell; 4]> {
    skew.targets.iter().map(|at| {
        let artifact = at.release.as_ref().and_then(|release| release.artifact.clone());
        let version = version(at.release.as_ref());
        let artifact = artifact.map(Cell::Digest);
        [skew.service.clone().into(), at.target.clone().into(), version.into(), artifact.into()]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    #[test]
    fn a_service_with_different_releases_is_shown_target_by_target() {
        let body = read(
            br#"{"environment":"production","position":9,"targets":["cloud","on-premise"],"uneven":[
                {"service":"web","targets":[{"target":"cloud","release":{"version":"v2"}},
                                            {"target":"on-premise"}]}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body).to_string(),
            "production position 9, targets: cloud, on-premise\n\
             service  target      version\n\
             web      cloud       v2\n\
             web      on-premise  -"
        );
    }

    #[test]
    fn targets_with_long_values_fit_into_80_columns() {
        let artifact = format!("pkg:oci/search-api-gateway@sha256:{}", "ab".repeat(32));
        let json = format!(
            r#"{{"environment":"production","position":9,"targets":["cloud-eu-central","on-premise-frankfurt"],
                "uneven":[{{"service":"search-api-gateway","targets":[
                    {{"target":"cloud-eu-central","release":{{"version":"2026.08.01-17","artifact":"{artifact}"}}}},
                    {{"target":"on-premise-frankfurt"}}]}}]}}"#
        );
        render(&read(json.as_bytes()).expect("a body")).check_fits();
    }
}
