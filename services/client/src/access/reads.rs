//! `release-ledger access reads`: who read what of the histories.

use chrono::{DateTime, Utc};
use ledger_api_types::{ReadBody, ReadsBody};
use ledger_domain::TenantName;

use crate::connection::Connection;
use crate::point_arg::{parse_moment, time_text};
use crate::query::{read, with_param};
use crate::report::{OutputArgs, Report};
use crate::table::{Cell, Table, column, wide_column};

/// The command `access reads`.
#[derive(Debug, clap::Args)]
pub struct Reads {
    /// Only reads by the principal with this name or subject; the subject of an API token is its id
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only reads of the history of this tenant [default: of all of them]
    #[arg(long, value_name = "NAME", value_parser = TenantName::parse_any)]
    of_tenant: Option<TenantName>,
    /// Only reads that began at this time or later: a time, a date, `yesterday`, or a time ago such as 24h
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<DateTime<Utc>>,
    /// Only reads that began before this time, in the same notation
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<DateTime<Utc>>,
    /// Only exports
    #[arg(long)]
    exports: bool,
    /// Only reads before this one
    #[arg(long, value_name = "READ")]
    before: Option<String>,
    /// At most this many: 1 to 1000 [default: 100]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: Connection,
}

impl Reads {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let url = client.service_url(&["access", "reads"]);
        let url = with_param(with_param(url, "principal", self.principal), "tenant", self.of_tenant);
        let url = with_param(url, "since", self.since.map(time_text));
        let url = with_param(url, "until", self.until.map(time_text));
        let url = with_param(url, "exports", self.exports.then_some(true));
        let url = with_param(with_param(url, "before", self.before), "limit", self.limit);
        let body = client.get(url).await?;
        self.output.print(&body, || Ok(render(&read(&body)?)))
    }
}

fn render(body: &ReadsBody) -> Report {
    let columns = [
        column("time", 0),
        column("principal", 0),
        column("tenant", 3),
        column("route", 0),
        column("query", 4).narrow(),
        column("export", 2),
        column("status", 5),
        column("entries", 1),
        column("positions", 1),
        wide_column("read"),
        wide_column("kind"),
        wide_column("issuer"),
        wide_column("subject"),
        wide_column("request"),
        wide_column("ended"),
    ];
    let table =
        Table::new(columns).if_empty("no reads").named_by("read").with_rows(body.reads.iter().map(row));
    let more = body.next.as_ref().map(|next| format!("there may be more: --before {next}"));
    Report::default().with_table(table).with_line_if(more)
}

fn row(read: &ReadBody) -> [Cell; 15] {
    let export = if read.export { "export" } else { "" };
    let positions = read.first_position.zip(read.last_position);
    let positions = positions.map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    [
        read.began_at.into(),
        read.principal.name.clone().into(),
        read.tenant.clone().into(),
        read.route.clone().into(),
        read.query.clone().into(),
        export.into(),
        read.status.map(u64::from).into(),
        read.entries.into(),
        positions.into(),
        read.read.clone().into(),
        read.principal.kind.clone().into(),
        read.principal.issuer.clone().into(),
        read.principal.subject.clone().into(),
        read.request_id.clone().into(),
        read.ended_at.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Layout;

    fn body(json: &str) -> ReadsBody {
        serde_json::from_str(json).expect("a body")
    }

    #[test]
    fn a_read_is_shown_with_its_principal_and_with_what_it_showed() {
        let body = body(
            r#"{"reads":[{"read":"0198-a","began_at":"2026-08-01T09:00:00Z","tenant":"default",
                "principal":{"kind":"workload","name":"ci","issuer":"release-ledger","subject":"8c1f2e3d4a5b6978"},
                "request_id":"r-1","route":"/v1/events","query":"limit=1000","export":true,"status":200,
                "entries":1000,"first_position":1,"last_position":1002}],"next":"0198-a"}"#,
        );

        render(&body).check_fits();
        let text = render(&body).text(Layout::PLAIN);

        for part in ["ci", "/v1/events", "limit=1000", "export", "200", "1000", "1-1002", "--before 0198-a"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains("8c1f2e3d4a5b6978"), "{text}");
    }

    #[test]
    fn no_reads_are_said_to_be_none() {
        assert_eq!(render(&body(r#"{"reads":[]}"#)).text(Layout::PLAIN), "no reads");
    }
}
