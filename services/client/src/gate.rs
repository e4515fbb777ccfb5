//! `release-ledger gate`: decides if a release may be deployed.

use ledger_api_types::{ActorRequest, FindingBody, GateBody, GateRequest};
use ledger_domain::event::Actor;
use ledger_domain::{EnvironmentName, ServiceName};

use super::actor;
use super::ci::CiFlags;
use super::connection::Connection;
use super::counts::with_counts;
use super::output::terminal_width;
use super::query::{QueryArgs, read};
use super::release::DeployArgs;
use super::report::Report;
use super::spool::print_waiting;
use super::table::{Cell, Table, Tone, column};

/// Ask if a release may be deployed
///
/// Shows the result of every rule of the environment; every target must allow the release. Exits with 0 if the release may be deployed, with 1 if
/// it may not, and with 2 if the gate gives no answer.
#[derive(Debug, clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Example:
  release-ledger gate production web v2 --requester ada

Exit status:
  0  the release may be deployed
  1  it may not
  2  the gate gives no answer, or the arguments are invalid"
)]
pub struct Gate {
    #[command(flatten)]
    deploy: DeployArgs,
    /// This is the first deploy of the service to the environment, or to the target; without this flag, a
    /// service that was never deployed there is an error
    #[arg(long)]
    new: bool,
    /// The actor who wants to deploy the release; an approval of the same actor does not count
    /// [default: RELEASE_LEDGER_ACTOR, or the actor of the CI]
    #[arg(long, value_name = "NAME|TYPE:NAME", value_parser = actor::parse)]
    requester: Option<Actor>,
    #[command(flatten)]
    ci: CiFlags,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// The gate denies the release.
#[derive(Debug, thiserror::Error)]
#[error("{service} {version} may not be deployed to {environment}: {reasons}")]
pub struct GateDenied {
    environment: EnvironmentName,
    service: ServiceName,
    version: String,
    reasons: String,
}

impl Gate {
    /// Runs the command.
    ///
    /// # Errors
    /// [`GateDenied`] if a rule denies the release; another error if the gate gives no answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let request = self.request(self.ci.context()?.actor);
        let client = self.connection.client()?;
        print_waiting(&client);
        let url =
            self.query.with_wait_for(client.url(&["environments", self.deploy.environment.as_str(), "gate"]));
        let response = client.post(url, &request, None).await?;
        let body: GateBody = read(&response)?;
        self.query.print(response, render)?;
        if body.allowed {
            return Ok(());
        }
        let DeployArgs { environment, service, version, .. } = self.deploy;
        let is_table_read = terminal_width().is_some() && self.query.is_text();
        let reasons = if is_table_read { denying_rules(&body) } else { denials(&body) };
        Err(GateDenied { environment, service, version, reasons }.into())
    }

    fn request(&self, of_ci: Option<Actor>) -> GateRequest {
        GateRequest {
            service: self.deploy.service.to_string(),
            target: self.deploy.target.as_ref().map(ToString::to_string),
            release: self.deploy.release.request(&self.deploy.version),
            requester: self.requester.as_ref().or(of_ci.as_ref()).map(ActorRequest::from),
            rollback_id: None,
            new: self.new,
        }
    }
}

/// Reports the gate's answer.
pub(super) fn render(body: &GateBody) -> Report {
    let verdict = if body.allowed { "allowed" } else { "denied" };
    let header = format!("{} position {}: {verdict}", body.environment, body.position);
    let columns = [
        column("rule", 0),
        column("target", 1),
        column("passes", 0),
        column("detail", 0),
        column("position", 2),
    ];
    let table = Table::new(columns).if_empty("the environment has no rules");
    Report::default().with_line(header).with_table(table.with_rows(body.findings.iter().map(row)))
}

fn row(finding: &FindingBody) -> [Cell; 5] {
    let (tone, passes) = match (finding.passes, finding.unknown) {
        (true, _) => (Tone::Good, "yes"),
        (false, false) => (Tone::Bad, "no"),
        (false, true) => (Tone::Warning, "unknown"),
    };
    [
        finding.rule.clone().into(),
        finding.target.clone().into(),
        Cell::Status(tone, passes.to_owned()),
        detail(finding).into(),
        finding.position.into(),
    ]
}

/// Returns the explanation of a finding, with the case counts of the check that it cites.
fn detail(finding: &FindingBody) -> String {
    with_counts(&finding.detail, finding.counts)
}

/// Returns the rules that deny the release, for a reader of the table with their details.
fn denying_rules(body: &GateBody) -> String {
    let denying = body.findings.iter().filter(|finding| !finding.passes);
    let mut rules: Vec<&str> = denying.map(|finding| finding.rule.as_str()).collect();
    rules.dedup();
    rules.join(", ")
}

fn denials(body: &GateBody) -> String {
    let denying = body.findings.iter().filter(|finding| !finding.passes);
    denying.map(detail).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_shown_with_its_evidence_and_the_error_lists_the_denying_ones() {
        let body: GateBody = read(
            br#"{"environment":"production","position":9,"allowed":false,"release":{"version":"v2"},"findings":[
                {"rule":"freeze","passes":true,"detail":"no freeze is active"},
                {"rule":"revoked","passes":false,"detail":"v2 is revoked","position":4},
                {"rule":"approvals","target":"eu","passes":true,"detail":"1 of 1 approvals","grants":[7]}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body).to_string(),
            "production position 9: denied\n\
             rule       target  passes  detail               position\n\
             freeze             yes     no freeze is active\n\
             revoked            no      v2 is revoked        4\n\
             approvals  eu      yes     1 of 1 approvals"
        );
        assert_eq!(denials(&body), "v2 is revoked");
        assert_eq!(denying_rules(&body), "revoked");
    }

    #[test]
    fn a_finding_shows_the_counts_of_the_check_that_it_cites() {
        let body: GateBody = read(
            br#"{"environment":"production","position":9,"allowed":false,"findings":[
                {"rule":"promotion","passes":false,"detail":"the release is bad in staging: smoke failed",
                 "position":4,"counts":{"passed":11,"failed":2,"skipped":0}}]}"#,
        )
        .expect("a body");
        let shown = "the release is bad in staging: smoke failed (11 cases passed, 2 failed, 0 skipped)";
        assert_eq!(denials(&body), shown);
        let text = render(&body).to_string();
        assert!(text.contains(shown), "{text}");
        render(&body).check_fits();
    }

    #[test]
    fn findings_with_long_values_fit_into_80_columns() {
        let body: GateBody = read(
            br#"{"environment":"production-eu-central-1","position":123456789,"allowed":false,"findings":[
                {"rule":"promotion","target":"on-premise-frankfurt","passes":false,"position":123456789,
                 "detail":"staging has not run 2026.08.03-1 for 3600 seconds with the checks end-to-end and smoke"}]}"#,
        )
        .expect("a body");
        render(&body).check_fits();
    }
}
