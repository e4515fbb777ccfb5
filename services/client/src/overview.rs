//! `release-ledger overview` and `services`: what every environment runs, and what needs attention.

use std::collections::BTreeMap;

use bytes::Bytes;
use ledger_api_types::{EnvironmentOverviewBody, LaneOverviewBody, OverviewBody};
use ledger_domain::{EnvironmentName, ServiceName};

use super::connection::{Client, Connection};
use super::points::status_cell;
use super::query::{QueryArgs, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Environments of a page: the most that the service returns.
const PAGE: u32 = 50;

/// Show what every environment runs, for how long, and what needs attention
///
/// One line per lane, with its release, the status of the environment's latest point, drift, a revoked artifact, and a
/// deploy under way.
#[derive(Debug, clap::Args)]
pub struct Overview {
    /// Only this environment; may be given several times
    #[arg(long = "environment", value_name = "NAME")]
    environments: Vec<EnvironmentName>,
    /// Only this service; may be given several times
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<ServiceName>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// List the services, with the versions that each environment runs
#[derive(Debug, clap::Args)]
pub struct Services {
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Overview {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut body = fetch(&self.connection.client()?, &self.query).await?;
        let is_asked = |names: &[String], name: &String| names.is_empty() || names.contains(name);
        let environments: Vec<String> = self.environments.iter().map(ToString::to_string).collect();
        let services: Vec<String> = self.services.iter().map(ToString::to_string).collect();
        body.environments.retain(|environment| is_asked(&environments, &environment.name));
        for environment in &mut body.environments {
            environment.lanes.retain(|lane| is_asked(&services, &lane.service));
            environment.deploying.retain(|deploy| is_asked(&services, &deploy.service));
        }
        self.query.print(Bytes::from(serde_json::to_vec(&body)?), render)
    }
}

impl Services {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let body = fetch(&self.connection.client()?, &self.query).await?;
        self.query.print(Bytes::from(serde_json::to_vec(&body)?), render_services)
    }
}

/// Fetches the overview of all environments, page by page.
async fn fetch(client: &Client, query: &QueryArgs) -> anyhow::Result<OverviewBody> {
    let page = |after: Option<String>| {
        let url = with_param(client.url(&["overview"]), "limit", Some(PAGE));
        with_param(url, "after", after)
    };
    let mut all: OverviewBody = read(&query.fetch(client, page(None)).await?)?;
    // Cursors are names in ascending order: a service that repeats one must not keep the command busy.
    while let Some(after) = all.next.take() {
        let next: OverviewBody = read(&query.fetch(client, page(Some(after.clone()))).await?)?;
        all.environments.extend(next.environments);
        all.next = next.next.filter(|next| *next > after);
    }
    Ok(all)
}

fn render(body: &OverviewBody) -> Report {
    let columns = [
        column("environment", 0),
        column("service", 0),
        column("target", 2).unless_all(DEFAULT_TARGET),
        column("version", 0),
        column("since", 1),
        column("status", 3),
        column("attention", 0),
        wide_column("position"),
        wide_column("commit"),
        wide_column("artifact"),
    ];
    let table = Table::new(columns).named_by("service").if_empty("nothing runs anywhere");
    let rows = body.environments.iter().flat_map(|environment| {
        let lanes = environment.lanes.iter().map(move |lane| row(environment, lane));
        lanes.chain(first_deploys(environment))
    });
    Report::default().with_table(table.with_rows(rows))
}

fn row(environment: &EnvironmentOverviewBody, lane: &LaneOverviewBody) -> [Cell; 10] {
    let deploying = environment
        .deploying
        .iter()
        .filter(|open| (&open.service, &open.target) == (&lane.service, &lane.target))
        .map(|open| format!("deploying {}", open.version));
    let drift = lane.drift.then(|| "drift".to_owned());
    let revoked = lane.revoked.then(|| "revoked".to_owned());
    let attention: Vec<String> = revoked.into_iter().chain(drift).chain(deploying).collect();
    let tone = if lane.revoked { Tone::Bad } else { Tone::Warning };
    let attention = (!attention.is_empty()).then(|| Cell::Status(tone, attention.join(", ")));
    [
        environment.name.clone().into(),
        lane.service.clone().into(),
        lane.target.clone().into(),
        lane.release.version.clone().into(),
        lane.since.occurred_at.into(),
        environment.status.as_deref().map(status_cell).into(),
        attention.into(),
        lane.since.position.into(),
        lane.release.commit.clone().map(Cell::Digest).into(),
        lane.release.artifact.clone().map(Cell::Digest).into(),
    ]
}

/// Returns the rows of deploys to lanes that run nothing yet.
fn first_deploys(environment: &EnvironmentOverviewBody) -> impl Iterator<Item = [Cell; 10]> {
    let runs = move |service: &String, target: &String| {
        environment.lanes.iter().any(|lane| (&lane.service, &lane.target) == (service, target))
    };
    environment.deploying.iter().filter(move |open| !runs(&open.service, &open.target)).map(move |open| {
        [
            environment.name.clone().into(),
            open.service.clone().into(),
            open.target.clone().into(),
            Cell::Empty,
            Cell::Empty,
            Cell::Empty,
            Cell::Status(Tone::Warning, format!("deploying {}", open.version)),
            open.position.into(),
            Cell::Empty,
            Cell::Empty,
        ]
    })
}

fn render_services(body: &OverviewBody) -> Report {
    let mut services: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for environment in &body.environments {
        for lane in &environment.lanes {
            let place = match lane.target.as_str() {
                DEFAULT_TARGET => environment.name.clone(),
                target => format!("{}/{target}", environment.name),
            };
            services.entry(&lane.service).or_default().push(format!("{place} {}", lane.release.version));
        }
    }
    let rows = services.into_iter().map(|(service, runs)| [service.into(), runs.join(", ").into()]);
    let table = Table::new([column("service", 0), column("runs", 0)]).if_empty("no services");
    Report::default().with_table(table.with_rows(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> OverviewBody {
        let lane = |service: &str, version: &str, rest: &str| {
            format!(
                r#"{{"service":"{service}","target":"default","release":{{"version":"{version}"}},
                    "since":{{"position":3,"occurred_at":"2026-08-01T12:00:00Z","event_id":"a"}}{rest}}}"#
            )
        };
        let json = format!(
            r#"{{"position":9,"environments":[
                {{"name":"dev","lanes":[{}],"deploying":[
                    {{"service":"web","target":"default","version":"v1","position":7}}]}},
                {{"name":"production","status":"bad","lanes":[{}]}}]}}"#,
            lane("api", "v3", ""),
            lane("api", "v2", r#","drift":true,"revoked":true"#),
        );
        read(json.as_bytes()).expect("a body")
    }

    #[test]
    fn every_lane_is_shown_with_what_needs_attention() {
        assert_eq!(
            render(&body()).to_string(),
            "environment  service  version  since                 status  attention\n\
             dev          api      v3       2026-08-01T12:00:00Z\n\
             dev          web                                             deploying v1\n\
             production   api      v2       2026-08-01T12:00:00Z  bad     revoked, drift"
        );
    }

    #[test]
    fn an_overview_with_long_values_fits_into_80_columns() {
        let mut body = body();
        for (number, environment) in body.environments.iter_mut().enumerate() {
            environment.name = format!("production-eu-central-{number}");
            environment.status = Some("known_good".to_owned());
            environment.lanes.iter_mut().for_each(|lane| lane.target = "on-premise-frankfurt".to_owned());
        }
        render(&body).check_fits();
        render_services(&body).check_fits();
    }

    #[test]
    fn every_service_is_shown_with_the_version_in_each_environment() {
        let text = render_services(&body()).to_string();
        assert_eq!(text, "service  runs\napi      dev v3, production v2");
    }
}
