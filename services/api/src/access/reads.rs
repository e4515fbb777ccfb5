//! Endpoint about reads of the history: who read what.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use ledger_api_types::{PrincipalBody, ReadBody, ReadsBody};
use ledger_domain::{ShortText, TenantName};
use ledger_projections::{ReadFilter, ReadRecord};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Sent;
use super::handlers::administered;
use crate::App;
use crate::parameters::{StrictQuery, parse_optional};
use crate::point_parameters::parse_moment;
use crate::problem::{Kind, Problem};
use crate::problem_responses::ProblemResponses;

/// Query parameters of the log of reads.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadsQuery {
    /// Only reads by the principal with this name or subject. The subject of an API token is its id.
    principal: Option<String>,
    /// Only reads of the history of this tenant.
    tenant: Option<String>,
    /// Only reads that began at this time or later, in the forms of times of the parameter `at` of the state.
    since: Option<String>,
    /// Only reads that began before this time, in the same forms.
    until: Option<String>,
    /// `true`: only exports.
    exports: Option<bool>,
    /// Only reads before this one: the value `next` of the previous page.
    before: Option<String>,
    /// Page size: 1 to 1000, by default 100.
    limit: Option<String>,
}

impl ReadsQuery {
    fn filter(&self, now: DateTime<Utc>) -> Result<ReadFilter, Problem> {
        let principal = parse_optional("principal", self.principal.as_deref(), ShortText::parse)?;
        let tenant = parse_optional("tenant", self.tenant.as_deref(), TenantName::parse_any)?;
        let before = |text: &str| Uuid::parse_str(text).map_err(|_| "must be the id of a read");
        Ok(ReadFilter {
            before: parse_optional("before", self.before.as_deref(), before)?,
            principal: principal.map(|name| name.to_string()),
            tenant: tenant.map(|name| name.to_string()),
            since: parse_moment("since", self.since.as_deref(), now)?,
            until: parse_moment("until", self.until.as_deref(), now)?,
            only_exports: self.exports.unwrap_or_default(),
        })
    }
}

fn read_body(record: ReadRecord) -> ReadBody {
    ReadBody {
        read: record.id.to_string(),
        began_at: record.began_at,
        ended_at: record.ended_at,
        tenant: record.tenant,
        principal: PrincipalBody {
            kind: record.reader.kind,
            name: record.reader.name,
            issuer: record.reader.issuer,
            subject: record.reader.subject,
            claims: BTreeMap::new(),
        },
        request_id: record.request_id,
        route: record.route,
        query: record.query,
        export: record.is_export,
        status: record.status,
        entries: record.entries,
        first_position: record.span.map(|(first, _)| first.get()),
        last_position: record.span.map(|(_, last)| last.get()),
    }
}

/// List reads
///
/// Lists the reads of the histories of all tenants, latest first: pages, single entries and streams, each with its sender
/// and with what it showed. A read appears within about a second after its answer, an export before it. Needs `admin` for
/// the tenant `_admin`.
#[utoipa::path(
    get,
    path = "/access/reads",
    operation_id = "listReads",
    tag = "access",
    params(ReadsQuery),
    responses(
        (status = 200, description = "Reads", body = ReadsBody),
        ProblemResponses,
    )
)]
pub(crate) async fn list_reads(
    State(app): State<Arc<App>>,
    Extension(sent): Extension<Sent>,
    StrictQuery(query): StrictQuery<ReadsQuery>,
) -> Result<Json<ReadsBody>, Problem> {
    administered(&app, &sent)?;
    let limit = parse_optional("limit", query.limit.as_deref(), |text| match text.parse::<u32>() {
        Ok(limit @ 1..=1000) => Ok(limit),
        _ => Err("must be a whole number from 1 to 1000"),
    })?
    .unwrap_or(100);
    let log = app.read_log.as_ref();
    let log = log.ok_or_else(|| Problem::new(Kind::ReadLogUnavailable, "the service has no log of reads"))?;
    let filter = query.filter(log.now())?;
    let records = log.list(&filter, limit).await?;
    let is_full = records.len() == limit as usize;
    let next = records.last().filter(|_| is_full).map(|record| record.id.to_string());
    Ok(Json(ReadsBody { reads: records.into_iter().map(read_body).collect(), next }))
}
