//! `release-ledger gate`: whether a release may be deployed.

use ledger_domain::event::Actor;
use ledger_domain::{EnvironmentName, ServiceName, TargetName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::connection::Connection;
use super::query::{QueryArgs, read};
use super::release::ReleaseFlags;
use super::{actor, table};

/// Ask whether a release may be deployed
///
/// Shows what every rule of the environment says. Exits with 0 if the release may be deployed, with 1 if it
/// may not, and with 2 if there is no answer.
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub struct Gate {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    environment: EnvironmentName,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,
    /// The version
    #[arg(value_name = "VERSION")]
    version: String,
    /// The target; unless given, every one at which the service runs: each must let the release pass
    #[arg(long, value_name = "NAME")]
    target: Option<TargetName>,
    /// This is the first deploy of the service to the environment, or to the target: otherwise one that was never
    /// deployed there is an error
    #[arg(long)]
    new: bool,
    #[command(flatten)]
    release: ReleaseFlags,
    /// Who wants to deploy it, whose own approval does not count
    #[arg(long, value_name = "NAME|TYPE:NAME", value_parser = actor::parse)]
    requester: Option<Actor>,
    #[command(flatten)]
    query: QueryArgs,
    #[command(flatten)]
    connection: Connection,
}

/// The gate was asked, and says no.
#[derive(Debug, thiserror::Error)]
#[error("{service} {version} may not be deployed to {environment}: {why}")]
pub struct GateRefused {
    environment: EnvironmentName,
    service: ServiceName,
    version: String,
    why: String,
}

#[derive(Debug, Deserialize)]
struct GateBody {
    environment: String,
    position: u64,
    allowed: bool,
    findings: Vec<FindingBody>,
}

#[derive(Debug, Deserialize)]
struct FindingBody {
    rule: String,
    target: Option<String>,
    passes: bool,
    #[serde(default)]
    unknown: bool,
    detail: String,
    position: Option<u64>,
}

impl Gate {
    /// Runs the command.
    ///
    /// # Errors
    /// [`GateRefused`] if a rule does not let the release pass; another error if there is no answer.
    pub async fn run(self) -> anyhow::Result<()> {
        let question = self.question();
        let client = self.connection.client();
        let url = self.query.waiting(client.url(&["environments", self.environment.as_str(), "gate"]));
        let answer = client.post(url, &question, None).await?;
        let body: GateBody = read(&answer)?;
        self.query.answer(answer, render)?;
        if body.allowed {
            return Ok(());
        }
        let (environment, service, version) = (self.environment, self.service, self.version);
        Err(GateRefused { environment, service, version, why: refusals(&body) }.into())
    }

    fn question(&self) -> Value {
        let release = self.release.members(Some(&self.version));
        let mut question = json!({"service": self.service.as_str(), "release": release});
        if let Some(target) = &self.target {
            question["target"] = json!(target.as_str());
        }
        if self.new {
            question["new"] = json!(true);
        }
        if let Some(requester) = &self.requester {
            question["requester"] = actor::body(requester);
        }
        question
    }
}

fn render(body: &GateBody) -> String {
    let verdict = if body.allowed { "allowed" } else { "refused" };
    let header = format!("{} position {}: {verdict}", body.environment, body.position);
    if body.findings.is_empty() {
        return format!("{header}\nthe environment has no rules");
    }
    let rows: Vec<_> = body.findings.iter().map(row).collect();
    format!("{header}\n{}", table::render(["rule", "target", "passes", "why", "position"], &rows))
}

fn row(finding: &FindingBody) -> [String; 5] {
    [
        finding.rule.clone(),
        finding.target.clone().unwrap_or_default(),
        match (finding.passes, finding.unknown) {
            (true, _) => "yes",
            (false, false) => "no",
            (false, true) => "unknown",
        }
        .into(),
        finding.detail.clone(),
        finding.position.map(|position| position.to_string()).unwrap_or_default(),
    ]
}

fn refusals(body: &GateBody) -> String {
    let refusing = body.findings.iter().filter(|finding| !finding.passes);
    refusing.map(|finding| finding.detail.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_shown_with_its_evidence_and_the_refusing_ones_are_the_reason() {
        let body: GateBody = read(
            br#"{"environment":"production","position":9,"allowed":false,"findings":[
                {"rule":"freeze","passes":true,"detail":"no freeze holds"},
                {"rule":"revoked","passes":false,"detail":"v2 is revoked","position":4},
                {"rule":"approvals","target":"eu","passes":true,"detail":"1 of 1 approvals","grants":[7]}]}"#,
        )
        .expect("a body");
        assert_eq!(
            render(&body),
            "production position 9: refused\n\
             rule       target  passes  why               position\n\
             freeze             yes     no freeze holds\n\
             revoked            no      v2 is revoked     4\n\
             approvals  eu      yes     1 of 1 approvals"
        );
        assert_eq!(refusals(&body), "v2 is revoked");
    }
}
