//! Bodies of the HTTP API's requests and responses: the service and its clients use the same types.
//!
//! Invariants: no I/O and no rules. A request rejects unknown members. A response ignores them.
//!
//! A client requires a member of a response only if a command reads it and the first version of the body has it. Every
//! other member is an `Option` or has a default, also if the service always sends it: it may be absent, so that a client
//! can parse the response of an older service. A present member of the wrong type is an error, except in a problem: an
//! unreadable member there counts as absent, because the rejection holds without it. Only the `type` decides if the
//! problem is a ledger's.
//!
//! Words, such as a status, are text, so that a client can show a word that it does not support. Such a word is an error
//! where the client decides by it: in these types ([`EventStatus`], [`RollbackBody::phase`]), and in the execution of a
//! rollback ([`StepStateBody::state`], [`StepBody::action`]).

mod access;
mod actor;
mod backtest;
mod clock_skew;
mod deploy_frequency;
mod diff;
mod drift;
mod entry;
mod environment;
mod event_result;
mod find;
mod freeze;
mod gate;
mod horizon;
mod lane;
mod overview;
mod plan;
mod point;
mod policy;
mod position;
mod problem;
mod quarantine;
mod read;
mod release;
mod rollback;
mod schemas;
mod state;
mod subscription;
mod target;

pub use access::{
    ExplainRequest, ExplanationBody, GrantBody, GrantFindingBody, GranteeBody, GrantsBody, PrincipalBody,
    TenantBody, TenantsBody, TokenBody, TokensBody, WhoAmIBody,
};
pub use actor::{ActorBody, ActorRequest};
pub use backtest::{BacktestBody, BacktestRequest, EvaluatedDeployBody, FailureEvidenceBody};
pub use clock_skew::{ClockSkewBody, ClockSkewsBody};
pub use deploy_frequency::{DeployCountBody, DeployFrequencyBody};
pub use diff::{DiffBody, DifferenceBody, LaneChange, SideBody};
pub use drift::{DriftBody, DriftLaneBody};
pub use entry::{EntryBody, EntryRefBody, EventRefBody, EventsBody};
pub use environment::{EnvironmentBody, EnvironmentsBody};
pub use event_result::{AnnotationsBody, EventResult, EventStatus, RunsAtBody};
pub use find::{FindBody, FoundRunBody, MomentBody};
pub use freeze::{ActiveFreezeBody, FreezeBody, FreezeLiftBody, FreezesBody};
pub use gate::{FindingBody, GateBody, GateRequest};
pub use horizon::{HorizonBody, HorizonPointBody, RetainedArtifactBody, WithoutArtifactBody};
pub use lane::{LaneBody, LaneNameBody};
pub use overview::{
    EnvironmentOverviewBody, LaneOverviewBody, ObservedLaneBody, OpenDeployBody, OverviewBody,
};
pub use plan::{PlanBody, PlanIssueBody, PlanPointBody, StepBody};
pub use point::{ChangedBody, CountsBody, MarkBody, PointBody, PointDetailBody, PointsBody, ReasonBody};
pub use policy::PolicyBody;
pub use position::PositionBody;
pub use problem::{FieldError, ProblemBody};
pub use quarantine::{DeliveryBody, DiscardRequest, QuarantineBody, QuarantinedBody};
pub use read::{ReadBody, ReadsBody};
pub use release::{ReleaseBody, ReleaseRequest};
pub use rollback::{
    ApprovalsBody, ConcurrentChangeBody, ProgressBody, RequestedRollbackBody, RollbackBody, RollbackRequest,
    RollbacksBody, StepStateBody, VoteBody,
};
pub use schemas::{COMMON_EVENT_SCHEMA, EVENT_SCHEMAS, KAFKA_SCHEMAS, SchemaBody, SchemasBody};
pub use state::{HiddenReportBody, StateBody, SwitchBody};
pub use subscription::{
    AttemptBody, AttemptsBody, DeliveryStatusBody, DisabledBody, SubscriptionBody, SubscriptionFilterBody,
    SubscriptionsBody,
};
pub use target::{TargetReleaseBody, TargetSkewBody, TargetsBody};

#[cfg(test)]
mod tests;
