//! Rollback plans, as the service makes them: the steps that change the state of an environment.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use ledger_api_types::{PlanBody, ReleaseBody, RollbackRequest, StepBody};
use ledger_domain::event::{Action, Step};
use ledger_domain::{EnvironmentName, ServiceName, SlotName, TargetName};

use super::connection::{Client, Error};
use super::point_arg;
use super::query::with_param;
use super::release::{parse_release, version};
use super::report::Report;
use super::table::{Cell, Table, column};

/// Kind of the issue of a plan to a point that the environment already matches.
pub(super) const ALREADY_THERE: &str = "already_there";

/// The state that an environment should be brought to.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PlanRequest {
    /// The environment
    #[arg(value_name = "ENVIRONMENT")]
    pub(super) environment: EnvironmentName,
    /// The point to go to: `last-known-good`, the name of a point, a position, a time, a date, `yesterday`, `2h`
    /// for two hours ago, -N for N changes ago, `change:N`, or any of them of another environment:
    /// `staging@last-known-good`
    #[arg(long, value_name = "POINT", allow_hyphen_values = true, value_parser = point_arg::parse_to_text)]
    pub(super) to: String,
    /// Only lanes of this service; may be given several times
    #[arg(long = "service", value_name = "NAME")]
    pub(super) services: Vec<ServiceName>,
    /// Only lanes at this target; may be given several times
    #[arg(long = "target", value_name = "NAME")]
    pub(super) targets: Vec<TargetName>,
}

impl PlanRequest {
    /// Returns the request as the service expects it for a dry run.
    pub(super) fn body(&self) -> RollbackRequest {
        RollbackRequest {
            to: self.to.clone(),
            services: self.services.iter().map(ToString::to_string).collect(),
            targets: self.targets.iter().map(ToString::to_string).collect(),
            reason: None,
            initiated_by: None,
            force: false,
            rollback_id: None,
            plan_digest: None,
        }
    }

    /// Requests a plan from the current state; records nothing.
    pub(super) async fn plan(&self, client: &Client, wait_for: Option<u64>) -> Result<Bytes, Error> {
        let url = client.url(&["environments", self.environment.as_str(), "rollbacks"]);
        let url = with_param(with_param(url, "dry_run", Some(true)), "wait_for", wait_for);
        client.post(url, &self.body(), None).await
    }
}

/// Returns the time for a report of a step: now, or just after the lane's last change (`not_before`) if its
/// emitter's clock is ahead of ours. Otherwise the step would seem to precede that change.
pub(super) fn occurs_at(not_before: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    not_before.map_or(now, |last| now.max(last + TimeDelta::microseconds(1)))
}

/// Returns `SERVICE@TARGET`; no name contains an `@`.
pub(super) fn lane(step: &StepBody) -> String {
    format!("{}@{}", step.service, step.target)
}

/// Parses the step.
pub(super) fn parse_step(body: &StepBody) -> anyhow::Result<Step> {
    let action = [Action::Redeploy, Action::Add, Action::Remove, Action::Switch]
        .into_iter()
        .find(|action| action.name() == body.action);
    let Some(action) = action else { bail!("unknown action {} of a step", body.action) };
    let release = |release: &Option<ReleaseBody>| release.as_ref().map(parse_release).transpose();
    let parse = || -> anyhow::Result<Step> {
        Ok(Step {
            wave: body.wave,
            service: ServiceName::parse(&body.service)?,
            target: TargetName::parse(&body.target)?,
            action,
            slot: body.slot.as_deref().map(SlotName::parse).transpose()?,
            from: release(&body.from)?,
            to: release(&body.to)?,
        })
    };
    parse().with_context(|| format!("cannot parse the step of {}", lane(body)))
}

/// Renders the change, such as `redeploy v2 -> v1`.
pub(super) fn change(step: &StepBody) -> String {
    format!("{} {} -> {}", step.action, version(step.from.as_ref()), version(step.to.as_ref()))
}

/// Renders a plan as text: see [`report`].
pub(super) fn render(plan: &PlanBody) -> String {
    report(plan).to_string()
}

/// Reports a plan: its target, its steps and its issues.
pub(super) fn report(plan: &PlanBody) -> Report {
    let source = plan.to.source.as_ref().map(|source| format!("{source} at ")).unwrap_or_default();
    let at = plan.to.at.map(|time| format!(" at {}", point_arg::time_text(time))).unwrap_or_default();
    let header = format!(
        "{} position {} -> {source}position {}{at} ({}), plan {}",
        plan.environment, plan.environment_position, plan.to.position, plan.to.status, plan.plan_digest
    );
    let mut text = format!("result {}", plan.result_digest);
    for issue in &plan.issues {
        if issue.kind == ALREADY_THERE {
            text.push_str(&format!("\nnothing to do: {}", issue.detail));
            continue;
        }
        let at = issue.position.map(|position| format!(" (position {position})")).unwrap_or_default();
        text.push_str(&format!("\n{}: {}: {}{at}", issue.severity, issue.kind, issue.detail));
    }
    let unlisted = plan.issue_count.saturating_sub(plan.issues.len());
    if unlisted > 0 {
        text.push_str(&format!("\nand {unlisted} more issues"));
    }
    let table = table(&plan.steps).if_empty("no steps");
    Report::default().with_line(header).with_table(table).with_line(text)
}

fn table(steps: &[StepBody]) -> Table {
    let columns = [
        column("wave", 0),
        column("service", 0),
        column("target", 1),
        column("action", 0),
        column("slot", 2),
        column("from", 0),
        column("to", 0),
    ];
    Table::new(columns).named_by("service").with_rows(steps.iter().map(row))
}

fn row(step: &StepBody) -> [Cell; 7] {
    [
        u64::from(step.wave).into(),
        step.service.clone().into(),
        step.target.clone().into(),
        step.action.clone().into(),
        step.slot.clone().into(),
        version(step.from.as_ref()).into(),
        version(step.to.as_ref()).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::read;

    const PLAN: &str = r#"{"environment":"production","position":9,"environment_position":8,
        "to":{"position":3,"status":"known_good"},"plan_digest":"sha256:aa","result_digest":"sha256:bb",
        "steps":[{"wave":1,"service":"api","target":"eu","action":"redeploy","slot":"blue",
                  "from":{"version":"v2"},"to":{"version":"v1"}},
                 {"wave":2,"service":"new","target":"eu","action":"remove","from":{"version":"v1"}}],
        "issues":[{"kind":"freeze","severity":"warning","detail":"a freeze holds","position":7}],
        "blocked":false}"#;

    #[test]
    fn a_plan_is_rendered_with_its_steps_and_issues() {
        assert_eq!(
            render(&read(PLAN.as_bytes()).expect("a plan")),
            "production position 8 -> position 3 (known_good), plan sha256:aa\n\
             wave  service  target  action    slot  from  to\n\
             1     api      eu      redeploy  blue  v2    v1\n\
             2     new      eu      remove          v1    -\n\
             result sha256:bb\n\
             warning: freeze: a freeze holds (position 7)"
        );
    }

    #[test]
    fn a_plan_to_the_present_point_has_nothing_to_do() {
        let mut plan: PlanBody = read(PLAN.as_bytes()).expect("a plan");
        plan.issues[0].kind = ALREADY_THERE.to_owned();
        plan.issues[0].severity = "fatal".to_owned();
        let text = render(&plan);
        assert!(text.ends_with("nothing to do: a freeze holds") && !text.contains("fatal"), "{text}");
    }

    #[test]
    fn a_plan_with_long_values_fits_into_80_columns() {
        let mut plan: PlanBody = read(PLAN.as_bytes()).expect("a plan");
        plan.plan_digest = format!("sha256:{}", "ab".repeat(32));
        for step in &mut plan.steps {
            step.service = "search-api-gateway".to_owned();
            step.target = "on-premise-frankfurt".to_owned();
        }
        report(&plan).check_fits();
    }

    #[test]
    fn a_step_is_parsed_and_an_unknown_action_is_an_error() {
        let plan: PlanBody = read(PLAN.as_bytes()).expect("a plan");
        let step = parse_step(&plan.steps[0]).expect("a step");
        assert_eq!((step.action, step.wave), (Action::Redeploy, 1));
        let unknown = StepBody { action: "pause".into(), ..plan.steps[0].clone() };
        assert!(parse_step(&unknown).expect_err("unknown").to_string().contains("pause"));
    }
}
