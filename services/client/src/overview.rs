//! `release-ledger overview` and `services`: what every environment runs, and what needs attention.

use std::collections::BTreeMap;

use anyhow::bail;
use bytes::Bytes;
use ledger_api_types::{EnvironmentOverviewBody, LaneOverviewBody, OverviewBody};
use ledger_domain::{EnvironmentName, ServiceName};
use reqwest::Url;

use super::connection::{Client, Connection};
use super::freeze_list::frozen;
use super::known::service_suggestion;
use super::points::status_cell;
use super::query::{QueryArgs, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, Tone, column, wide_column};
use super::targets::DEFAULT_TARGET;

/// Environments of a page: the most that the service returns.
const PAGE: u32 = 50;

/// Show what every environment runs, for how long, and what needs attention
///
/// One line per lane, with its release, the status of the environment's latest point, drift, a revoked artifact, a deploy
/// under way, and a freeze of the environment.
#[derive(Debug, clap::Args)]
pub struct Overview {
    #[command(flatten)]
    lanes: LaneArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// List the services, with the versions that each environment runs
#[derive(Debug, clap::Args)]
pub struct Services {
    #[command(flatten)]
    lanes: LaneArgs,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// The environments and services to show.
#[derive(Debug, Clone, clap::Args)]
struct LaneArgs {
    /// Only this environment; may be given several times
    #[arg(long = "environment", value_name = "NAME")]
    environments: Vec<EnvironmentName>,
    /// Only this service; may be given several times
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<ServiceName>,
}

impl LaneArgs {
    /// Fetches the overview of these lanes.
    ///
    /// # Errors
    /// The service does not answer, or a named environment or service does not exist.
    async fn fetch(&self, client: &Client, query: &QueryArgs) -> anyhow::Result<OverviewBody> {
        let filter = |url: Url| {
            let url = with_param(url, "environment", list(&self.environments));
            with_param(url, "service", list(&self.services))
        };
        let body = fetch(client, query, filter).await?;
        for service in &self.services {
            let name = service.as_str();
            let is_known = body.environments.iter().any(|environment| {
                environment.lanes.iter().any(|lane| lane.service == name)
                    || environment.deploying.iter().any(|open| open.service == name)
                    || environment.observed.iter().any(|lane| lane.service == name)
            });
            if !is_known {
                let near = service_suggestion(client, service).await;
                let advice = if near.is_empty() { "; see release-ledger services" } else { near.as_str() };
                bail!("none of the environments runs {name}{advice}");
            }
        }
        Ok(body)
    }
}

impl Overview {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or a named environment or service does not exist.
    pub async fn run(self) -> anyhow::Result<()> {
        let body = self.lanes.fetch(&self.connection.client()?, &self.query).await?;
        self.query.print(Bytes::from(serde_json::to_vec(&body)?), render)
    }
}

/// Returns names separated by commas, if there are any.
pub(super) fn list<T: ToString>(names: &[T]) -> Option<String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| names.join(","))
}

impl Services {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, or a named environment or service does not exist.
    pub async fn run(self) -> anyhow::Result<()> {
        let body = self.lanes.fetch(&self.connection.client()?, &self.query).await?;
        let bytes = Bytes::from(serde_json::to_vec(&body)?);
        match self.query.is_rows() {
            true => self.query.print(bytes, render_service_rows),
            false => self.query.print(bytes, render_services),
        }
    }
}

/// Fetches the overview of all environments, page by page.
async fn fetch(
    client: &Client,
    query: &QueryArgs,
    filter: impl Fn(Url) -> Url,
) -> anyhow::Result<OverviewBody> {
    let page = |after: Option<String>| {
        let url = with_param(filter(client.url(&["overview"])), "limit", Some(PAGE));
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
        lanes.chain(first_deploys(environment)).chain(observed(environment))
    });
    Report::default().with_table(table.with_rows(rows)).with_line_if(restriction(body.restricted))
}

/// Returns the line that says that something is left out, if it is.
pub(super) fn restriction(restricted: bool) -> Option<String> {
    restricted.then(|| "what you may not read is left out; see release-ledger whoami".to_owned())
}

/// Returns the rows of lanes that only an observer knows.
fn observed(environment: &EnvironmentOverviewBody) -> impl Iterator<Item = [Cell; 10]> {
    environment.observed.iter().map(move |lane| {
        [
            environment.name.clone().into(),
            lane.service.clone().into(),
            lane.target.clone().into(),
            Cell::Empty,
            lane.since.occurred_at.into(),
            Cell::Empty,
            Cell::Status(Tone::Warning, format!("drift: observed {}", lane.release.version)),
            lane.since.position.into(),
            lane.release.commit.clone().map(Cell::Digest).into(),
            lane.release.artifact.clone().map(Cell::Digest).into(),
        ]
    })
}

fn row(environment: &EnvironmentOverviewBody, lane: &LaneOverviewBody) -> [Cell; 10] {
    let deploying = environment
        .deploying
        .iter()
        .filter(|open| (&open.service, &open.target) == (&lane.service, &lane.target))
        .map(|open| format!("deploying {}", open.version));
    let drift = lane.drift.then(|| "drift".to_owned());
    let revoked = lane.revoked.then(|| "revoked".to_owned());
    let frozen = frozen(&environment.freezes);
    let attention: Vec<String> = revoked.into_iter().chain(drift).chain(deploying).chain(frozen).collect();
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
    Report::default().with_table(table.with_rows(rows)).with_line_if(restriction(body.restricted))
}

/// Reports each service in each environment as a row, for programs.
fn render_service_rows(body: &OverviewBody) -> Report {
    let columns = [column("service", 0), column("environment", 0), column("target", 0), column("version", 0)];
    let mut rows: Vec<[String; 4]> = Vec::new();
    for environment in &body.environments {
        rows.extend(environment.lanes.iter().map(|lane| {
            [&lane.service, &environment.name, &lane.target, &lane.release.version].map(Clone::clone)
        }));
    }
    rows.sort_unstable();
    let rows = rows.into_iter().map(|row| row.map(Cell::from));
    let table = Table::new(columns).if_empty("no services").with_rows(rows);
    Report::default().with_table(table).with_line_if(restriction(body.restricted))
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
                    {{"service":"web","target":"default","version":"v1","position":7}}],"observed":[
                    {{"service":"worker","target":"default","release":{{"version":"v9"}},
                      "since":{{"position":5,"occurred_at":"2026-08-01T12:00:00Z","event_id":"b"}}}}]}},
                {{"name":"production","status":"bad","lanes":[{}],"freezes":[{{"freeze_id":"sale","position":8}}]}}]}}"#,
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
             dev          worker            2026-08-01T12:00:00Z          drift: observed v9\n\
             production   api      v2       2026-08-01T12:00:00Z  bad     revoked, drift, frozen: sale"
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
        let rows = render_service_rows(&OverviewBody { restricted: true, ..body() }).to_string();
        assert_eq!(
            rows,
            "service  environment  target   version\n\
             api      dev          default  v3\n\
             api      production   default  v2\n\
             what you may not read is left out; see release-ledger whoami"
        );
    }
}
