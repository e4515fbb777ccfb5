//! `release-ledger frequency`: how often each service is deployed.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use clap::ValueEnum;
use ledger_api_types::{DeployCountBody, DeployFrequencyBody};
use ledger_domain::{EnvironmentName, ServiceName};

use super::connection::{Client, Connection};
use super::known::unknown_service;
use super::output::print_notice;
use super::overview::{list, restriction};
use super::point_arg::{parse_moment, time_text};
use super::query::{QueryArgs, read, with_param};
use super::report::Report;
use super::table::{Cell, Table, column};

/// Count deploys by week, environment and service: the deployment frequency of DORA
///
/// Counts by the time at which deploys occurred: late reports count in the period in which they occurred, a deploy that
/// was corrected counts as its correction says, and repeated reports do not count. `rollback steps` are those of the
/// deploys that carry the id of a rollback. Periods, environments and services without deploys are left out.
#[derive(Debug, clap::Args)]
pub struct Frequency {
    /// Only these environments
    #[arg(value_name = "ENVIRONMENT")]
    environments: Vec<EnvironmentName>,
    /// Only this service; may be given several times
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<ServiceName>,
    /// Only what occurred at this time or later: a time, a date, `yesterday`, or a time ago such as 30d [default: 12 weeks
    /// before the end, and the beginning of that period]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<DateTime<Utc>>,
    /// Only what occurred before this time, in the same notation
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
    /// Length of a period, in UTC
    #[arg(long, value_name = "UNIT", value_enum, default_value_t = Unit::Week)]
    by: Unit,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// Length of the periods in which deploys are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Unit {
    /// Days
    Day,
    /// Weeks, which begin on Monday
    Week,
    /// Months
    Month,
}

impl Unit {
    /// Returns the word of the service.
    const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

impl Frequency {
    /// Runs the command.
    ///
    /// # Errors
    /// The service does not answer, a named environment does not exist, or there are too many deploys to count.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = with_param(client.url(&["deploy-frequency"]), "environment", list(&self.environments));
        let url = with_param(url, "service", list(&self.services));
        let url = with_param(url, "since", self.since.map(time_text));
        let url = with_param(url, "until", self.until.map(time_text));
        let body = self.query.fetch(&client, with_param(url, "by", Some(self.by.name()))).await?;
        self.query.print(body.clone(), render)?;
        print_unknown_services(&client, &self.services, &body).await
    }
}

/// Prints a note about each named service that no event names.
async fn print_unknown_services(
    client: &Client,
    services: &[ServiceName],
    body: &Bytes,
) -> anyhow::Result<()> {
    let body: DeployFrequencyBody = read(body)?;
    for service in services {
        let is_counted = body.counts.iter().any(|count| count.service == service.as_str());
        if !is_counted && let Some(note) = unknown_service(client, service).await {
            print_notice(&note);
        }
    }
    Ok(())
}

fn render(body: &DeployFrequencyBody) -> Report {
    let columns = [
        column("period", 0),
        column("environment", 0),
        column("service", 0),
        column("deploys", 0),
        column("failed", 1),
        column("rollback steps", 2).unless_all("0"),
    ];
    let until = body.until.map(|until| format!(" and before {}", time_text(until))).unwrap_or_default();
    let nothing = format!("no deploys since {}{until}", time_text(body.since));
    let table = Table::new(columns).named_by("service").if_empty(nothing);
    let rows = body.counts.iter().map(row);
    Report::default().with_table(table.with_rows(rows)).with_line_if(restriction(body.restricted))
}

fn row(count: &DeployCountBody) -> [Cell; 6] {
    [
        count.period.to_string().into(),
        count.environment.clone().into(),
        count.service.clone().into(),
        count.deploys.into(),
        count.failed.into(),
        count.rollback_steps.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(steps: u64) -> DeployFrequencyBody {
        let json = format!(
            r#"{{"position":9,"by":"week","since":"2026-09-07T00:00:00Z","counts":[
                {{"period":"2026-12-28","environment":"production","service":"api",
                  "deploys":12,"failed":1,"rollback_steps":{steps}}},
                {{"period":"2027-01-04","environment":"production","service":"web",
                  "deploys":3,"failed":0,"rollback_steps":0}}],"restricted":true}}"#
        );
        read(json.as_bytes()).expect("a body")
    }

    #[test]
    fn each_count_is_a_row_with_the_first_day_of_its_period() {
        assert_eq!(
            render(&body(2)).to_string(),
            "period      environment  service  deploys  failed  rollback steps\n\
             2026-12-28  production   api      12       1       2\n\
             2027-01-04  production   web      3        0       0\n\
             what you may not read is left out; see release-ledger whoami"
        );
    }

    #[test]
    fn the_steps_of_rollbacks_are_not_shown_if_there_are_none() {
        let text = render(&body(0)).to_string();
        assert!(text.starts_with("period      environment  service  deploys  failed\n"), "{text}");
    }

    #[test]
    fn counts_with_long_names_fit_into_80_columns() {
        let mut body = body(2);
        for count in &mut body.counts {
            count.environment = "production-eu-central-1".to_owned();
            count.service = "payment-authorisation-gateway".to_owned();
        }
        render(&body).check_fits();
    }

    #[test]
    fn without_deploys_the_time_that_was_asked_about_is_shown() {
        let mut body = DeployFrequencyBody { counts: Vec::new(), restricted: false, ..body(0) };
        assert_eq!(render(&body).to_string(), "no deploys since 2026-09-07T00:00:00Z");
        body.until = Some("2026-10-01T00:00:00Z".parse().expect("a time"));
        let expected = "no deploys since 2026-09-07T00:00:00Z and before 2026-10-01T00:00:00Z";
        assert_eq!(render(&body).to_string(), expected);
    }
}
