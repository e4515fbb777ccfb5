//! `release-ledger tenant`: tenants, each with a ledger of its own.

use std::time::Duration;

use anyhow::bail;
use ledger_api_types::{TenantBody, TenantsBody};
use ledger_domain::event::Payload;
use ledger_domain::{LongText, TenantName};
use tokio::time::{Instant, sleep};

use super::administration::{ChangeArgs, print_change};
use super::connection::{Client, Connection};
use super::credentials::Surroundings;
use super::identity;
use super::output::print_notice;
use super::query::read;
use super::report::{OutputArgs, Report};
use super::table::{Cell, Table, column};

/// Longest wait until the service has opened the ledger of a new tenant.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which the client asks for that.
const OPEN_INTERVAL: Duration = Duration::from_millis(100);

/// Create, retire and list tenants
///
/// Each tenant has a ledger of its own. Those of the setting `tenants` are not changed here.
#[derive(Debug, clap::Subcommand)]
pub enum Tenant {
    /// Create a tenant, and wait until its ledger is open
    ///
    /// A name is used once: a tenant that was retired is not created again.
    Create(Box<Change>),
    /// Retire a tenant: close its ledger for good
    ///
    /// Nothing is deleted: the stream and the tables stay. The setting `tenants` opens the ledger again.
    Retire(Box<Retirement>),
    /// List the tenants
    List(Box<List>),
}

impl Tenant {
    /// Runs the command.
    ///
    /// # Errors
    /// The service rejects the change or does not answer.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.create().await,
            Self::Retire(retire) => retire.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

/// The command `tenant create`.
#[derive(Debug, clap::Args)]
pub struct Change {
    /// The name of the tenant
    #[arg(value_name = "NAME", value_parser = TenantName::parse)]
    name: TenantName,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: Option<LongText>,
    /// Print {"tenant":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Change {
    async fn create(self) -> anyhow::Result<()> {
        let (client, _) = self.change.client(&Surroundings::of_process())?;
        let payload = Payload::TenantCreated(self.name.clone());
        let id = change_id(&self.name, "created");
        let position = self.change.record(&client, &id, payload, self.reason).await?;
        if !wait_until_open(&client, &self.name).await? {
            print_notice(&format!(
                "the service has not opened the ledger of {} within {} s; it keeps trying, see its log",
                self.name,
                OPEN_TIMEOUT.as_secs()
            ));
        }
        print_change(
            self.json,
            ("tenant", self.name.as_str()),
            position,
            &format!("created tenant {}", self.name),
        )
    }
}

/// The command `tenant retire`.
#[derive(Debug, clap::Args)]
pub struct Retirement {
    /// The name of the tenant
    #[arg(value_name = "NAME", value_parser = TenantName::parse)]
    name: TenantName,
    /// The reason
    #[arg(long, value_name = "TEXT", value_parser = LongText::parse)]
    reason: LongText,
    /// Print {"tenant":…,"position":N}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

impl Retirement {
    async fn run(self) -> anyhow::Result<()> {
        let (client, _) = self.change.client(&Surroundings::of_process())?;
        let payload = Payload::TenantRetired(self.name.clone());
        let id = change_id(&self.name, "retired");
        let position = self.change.record(&client, &id, payload, Some(self.reason)).await?;
        print_change(
            self.json,
            ("tenant", self.name.as_str()),
            position,
            &format!("tenant {} is retired", self.name),
        )
    }
}

/// Returns the id of the event of a change. Another attempt to change the same tenant is another event, which the service
/// rejects with the state of the tenant.
fn change_id(tenant: &TenantName, change: &str) -> String {
    format!("tenant-{tenant}-{change}-{}", identity::new_id())
}

/// Waits until the service that answers has opened the ledger of a tenant; returns false if it takes too long.
async fn wait_until_open(client: &Client, name: &TenantName) -> anyhow::Result<bool> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    while Instant::now() < deadline {
        let body: TenantsBody = read(&client.get(client.service_url(&["access", "tenants"])).await?)?;
        match body.tenants.iter().find(|tenant| tenant.tenant == name.as_str()) {
            Some(tenant) if tenant.is_open => return Ok(true),
            Some(tenant) if tenant.status == "retired" => bail!("tenant {name} was retired meanwhile"),
            _ => sleep(OPEN_INTERVAL).await,
        }
    }
    Ok(false)
}

/// The command `tenant list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: Connection,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.connection.client()?;
        let body = client.get(client.service_url(&["access", "tenants"])).await?;
        self.output.print(&body, || Ok(render(&read::<TenantsBody>(&body)?.tenants)))
    }
}

fn render(tenants: &[TenantBody]) -> Report {
    let columns = [column("tenant", 0), column("status", 0), column("ledger", 0)];
    Report::default()
        .with_table(Table::new(columns).if_empty("no tenants").with_rows(tenants.iter().map(row)))
}

fn row(tenant: &TenantBody) -> [Cell; 3] {
    let ledger = if tenant.is_open { "open" } else { "closed" };
    [tenant.tenant.clone().into(), tenant.status.clone().into(), ledger.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_where_a_tenant_comes_from_and_whether_its_ledger_is_open() {
        let tenant = |name: &str, status: &str, is_open| TenantBody {
            tenant: name.to_owned(),
            status: status.to_owned(),
            is_open,
        };

        let report = render(&[tenant("default", "settings", true), tenant("maps", "retired", false)]);

        report.check_fits();
        let text = report.to_string();
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            words,
            [["tenant", "status", "ledger"], ["default", "settings", "open"], ["maps", "retired", "closed"],]
        );
    }
}
