//! SQL statements for check results, and the rows that they return.

use chrono::{DateTime, Utc};
use ledger_domain::ShortText;
use ledger_domain::known_good::{CheckResult, CheckResults};
use uuid::Uuid;

use crate::postgres::{Error, parsed, position};

pub(crate) const STATEMENTS: &[&str] = &[
    LATEST_ENDS,
    ALL_ENDS,
    EVIDENCE_KINDS,
    VERSION_DEPLOYS,
    TRAFFIC_SWITCHES,
    IRREGULAR_LANES,
    LATEST_ENDS_IN_SPANS,
    LATEST_ENDS_BY_COMPOSITION,
    ENDS_IN_REORDERINGS,
    CHANGE_TIMES,
    ENDS_IN_SPANS,
    INSERT_ENDS,
    INSERT_STARTS,
    CORRECT_ENDS,
    CORRECT_STARTS,
];

/// Condition that end `v` is known at position `$2` and counts.
macro_rules! end_counts {
    () => {
        "v.position <= $2 AND v.counts AND (v.corrected_position IS NULL OR v.corrected_position > $2)"
    };
}

/// Joins the start of end `v`, as known at `$2`: the last start of the same run and check; for an end without a run,
/// the last start of the same subject and check, unless another end of them lies in between.
macro_rules! join_start {
    () => {
        join_start!("$2")
    };
    ($known_at:literal) => {
        concat!(
            "LEFT JOIN LATERAL (
            SELECT s.occurred_at FROM (
                (SELECT s.occurred_at, s.position FROM check_starts s
                WHERE v.run IS NOT NULL AND s.run = v.run AND s.check_name = v.check_name
                    AND (s.occurred_at, s.position) <= (v.occurred_at, v.position) AND s.position <= ", $known_at, "
                    AND (s.corrected_position IS NULL OR s.corrected_position > ", $known_at, ")
                ORDER BY s.occurred_at DESC, s.position DESC LIMIT 1)
                UNION ALL
                (SELECT s.occurred_at, s.position FROM check_starts s
                WHERE v.run IS NULL AND s.run IS NULL AND s.subject = v.subject AND s.check_name = v.check_name
                    AND (s.occurred_at, s.position) <= (v.occurred_at, v.position) AND s.position <= ", $known_at, "
                    AND (s.corrected_position IS NULL OR s.corrected_position > ", $known_at, ")
                ORDER BY s.occurred_at DESC, s.position DESC LIMIT 1)
            ) s
            WHERE v.run IS NOT NULL OR NOT EXISTS (
                SELECT FROM verdicts o WHERE o.subject = v.subject AND o.check_name = v.check_name
                    AND (o.occurred_at, o.position) > (s.occurred_at, s.position)
                    AND (o.occurred_at, o.position) < (v.occurred_at, v.position) AND o.position <= ", $known_at, "
                    AND (o.corrected_position IS NULL OR o.corrected_position > ", $known_at, ")
            )
        ) s ON true"
        )
    };
}

pub(crate) use join_start;

/// Selects the latest end of each check, for each combination of stated release parts.
pub(super) const LATEST_ENDS: &str = concat!(
    "SELECT DISTINCT ON (subject, check_name, artifact, config, infrastructure, commit)
        subject, check_name, passed, occurred_at, position, NULL::timestamptz AS started_at,
        artifact, config, infrastructure, commit
    FROM verdicts v WHERE subject = ANY($1) AND ",
    end_counts!(),
    "
    ORDER BY subject, check_name, artifact, config, infrastructure, commit, occurred_at DESC, position DESC"
);

/// Selects all ends, each with its start.
pub(super) const ALL_ENDS: &str = concat!(
    "SELECT v.subject, v.check_name, v.passed, v.occurred_at, v.position, s.occurred_at AS started_at,
        v.artifact, v.config, v.infrastructure, v.commit
    FROM verdicts v ",
    join_start!(),
    "
    WHERE v.subject = ANY($1) AND ",
    end_counts!()
);

/// Selects the kinds of evidence that an environment has.
pub(super) const EVIDENCE_KINDS: &str = "SELECT e.with_parts,
        EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND scope IN ('lane', 'deployment') AND position <= $2),
        EXISTS (SELECT FROM verdicts WHERE environment_id = $1 AND scope = 'environment' AND position <= $2),
        EXISTS (SELECT FROM check_starts WHERE (environment_id = $1 OR run IS NOT NULL) AND position <= $2)
    FROM environments e WHERE e.environment_id = $1";

/// Selects the deploys of a version to a lane, each with the time of the next change of its track.
pub(super) const VERSION_DEPLOYS: &str =
    "SELECT r.index, t.slot, c.occurred_at, c.position, n.occurred_at AS until, c.version, c.artifact, c.config,
        c.infrastructure, c.commit, c.deployment
    FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY r (service, target, version, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target
    JOIN lane_changes c ON c.track_id = t.track_id AND c.version = r.version AND c.position <= $5
        AND (c.corrected_position IS NULL OR c.corrected_position > $5)
    LEFT JOIN LATERAL (
        SELECT n.occurred_at FROM lane_changes n
        WHERE n.track_id = c.track_id AND (n.occurred_at, n.position) > (c.occurred_at, c.position)
            AND n.position <= $5 AND (n.corrected_position IS NULL OR n.corrected_position > $5)
        ORDER BY n.occurred_at, n.position LIMIT 1
    ) n ON true";

/// Selects the traffic switches of a regular lane, each with the time of the next change of its traffic.
pub(super) const TRAFFIC_SWITCHES: &str = "SELECT r.index, c.switched_to, c.occurred_at, n.occurred_at AS until
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY r (service, target, index)
    JOIN tracks t ON t.environment_id = $1 AND t.service = r.service AND t.target = r.target AND t.slot IS NULL
    JOIN lane_changes c ON c.track_id = t.track_id AND c.switched_to IS NOT NULL AND c.position <= $4
    LEFT JOIN LATERAL (
        SELECT n.occurred_at FROM lane_changes n
        WHERE n.track_id = c.track_id AND (n.occurred_at, n.position) > (c.occurred_at, c.position)
            AND n.position <= $4
        ORDER BY n.occurred_at, n.position LIMIT 1
    ) n ON true";

pub(super) const IRREGULAR_LANES: &str =
    "SELECT service, target FROM irregular_lanes WHERE environment_id = $1 AND position <= $2";

/// Selects the latest end of each check of a subject within each span. Leaves out ends with a start before the span.
pub(super) const LATEST_ENDS_IN_SPANS: &str = concat!(
    "SELECT d.index, v.check_name, v.passed, v.occurred_at, v.position
    FROM unnest($1::uuid[], $3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY d (subject, since, until, index)
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (v.check_name) v.check_name, v.passed, v.occurred_at, v.position
        FROM verdicts v ",
    join_start!(),
    "
        WHERE v.subject = d.subject AND v.occurred_at >= d.since AND v.occurred_at < d.until
            AND (s.occurred_at IS NULL OR s.occurred_at >= d.since) AND ",
    end_counts!(),
    "
        ORDER BY v.check_name, v.occurred_at DESC, v.position DESC
    ) v"
);

/// Selects the latest end of each check of an environment while it ran a composition, by the recorded order of changes
/// and outside reorderings. `$5` is the empty composition, which the environment ran before its first change.
pub(super) const LATEST_ENDS_BY_COMPOSITION: &str = concat!(
    "SELECT DISTINCT ON (n.composition, v.check_name) n.composition, v.check_name, v.passed, v.occurred_at, v.position
    FROM (
        SELECT DISTINCT number, occurred_at, composition FROM live_changes
        WHERE environment_id = $3 AND composition = ANY($4) AND position <= $2
        UNION ALL
        SELECT 0, '-infinity'::timestamptz, $5::bytea WHERE $5 = ANY($4)
    ) n
    LEFT JOIN LATERAL (
        SELECT x.occurred_at FROM live_changes x
        WHERE x.environment_id = $3 AND x.number = n.number + 1 AND x.position <= $2 LIMIT 1
    ) e ON true
    JOIN verdicts v ON v.subject = $1 AND v.occurred_at >= n.occurred_at
        AND (e.occurred_at IS NULL OR v.occurred_at < e.occurred_at) ",
    join_start!(),
    "
    WHERE (s.occurred_at IS NULL OR s.occurred_at >= n.occurred_at) AND ",
    end_counts!(),
    "
        AND NOT EXISTS (
            SELECT FROM reorderings r WHERE r.environment_id = $3 AND r.position <= $2
                AND r.since <= v.occurred_at AND r.until > coalesce(s.occurred_at, v.occurred_at)
        )
    ORDER BY n.composition, v.check_name, v.occurred_at DESC, v.position DESC"
);

/// Selects the ends of checks of an environment within reorderings.
pub(super) const ENDS_IN_REORDERINGS: &str = concat!(
    "SELECT v.check_name, v.passed, v.occurred_at, v.position, s.occurred_at AS started_at
    FROM verdicts v ",
    join_start!(),
    "
    WHERE v.subject = $1 AND ",
    end_counts!(),
    "
        AND EXISTS (
            SELECT FROM reorderings r WHERE r.environment_id = $3 AND r.position <= $2
                AND r.since <= v.occurred_at AND r.until > coalesce(s.occurred_at, v.occurred_at)
        )"
);

/// Selects the times of changes in the lanes of an environment after one time, up to and including another.
pub(super) const CHANGE_TIMES: &str = "SELECT DISTINCT occurred_at FROM (
        SELECT c.occurred_at FROM lane_changes c
        WHERE c.environment_id = $1 AND c.position <= $2 AND c.occurred_at > $3 AND c.occurred_at <= $4
        UNION ALL
        SELECT r.occurred_at FROM retirements r
        WHERE r.environment_id = $1 AND r.position <= $2 AND r.occurred_at > $3 AND r.occurred_at <= $4
    ) c ORDER BY 1";

pub(super) const INSERT_ENDS: &str = "INSERT INTO verdicts (position, occurred_at, subject, environment_id, scope,
        check_name, run, passed, counts, artifact, config, infrastructure, commit)
    SELECT unnest($1::bigint[]), unnest($2::timestamptz[]), unnest($3::uuid[]), unnest($4::integer[]),
        unnest($5::text[]), unnest($6::text[]), unnest($7::text[]), unnest($8::boolean[]), unnest($9::boolean[]),
        unnest($10::text[]), unnest($11::text[]), unnest($12::text[]), unnest($13::text[])";

pub(super) const INSERT_STARTS: &str =
    "INSERT INTO check_starts (position, occurred_at, subject, environment_id, check_name, run)
    SELECT unnest($1::bigint[]), unnest($2::timestamptz[]), unnest($3::uuid[]), unnest($4::integer[]),
        unnest($5::text[]), unnest($6::text[])";

pub(super) const CORRECT_ENDS: &str =
    "UPDATE verdicts SET corrected_position = $2 WHERE position = $1 AND corrected_position IS NULL";
pub(super) const CORRECT_STARTS: &str =
    "UPDATE check_starts SET corrected_position = $2 WHERE position = $1 AND corrected_position IS NULL";

/// Selects the ends of checks of an environment within spans, each with the composition recorded for that time, outside
/// reorderings. `$6` is the number of the last change up to the known position. The change recorded last before the
/// first one that occurred after the check determines the composition: `b` is the one that occurred last, and changes
/// recorded after `b` can have occurred before it.
pub(super) const ENDS_IN_SPANS: &str = concat!(
    "SELECT n.composition, v.check_name, v.passed, v.occurred_at, v.position
    FROM unnest($4::timestamptz[], $5::timestamptz[]) d (since, until)
    JOIN verdicts v ON v.subject = $1 AND v.occurred_at >= d.since AND v.occurred_at < d.until
    CROSS JOIN LATERAL (
        SELECT l.number FROM live_changes l
        WHERE l.environment_id = $3 AND l.number <= $6 AND l.occurred_at <= v.occurred_at
        ORDER BY l.occurred_at DESC, l.number DESC LIMIT 1
    ) b
    LEFT JOIN LATERAL (
        SELECT l.number FROM live_changes l
        WHERE l.environment_id = $3 AND l.number > b.number AND l.number <= $6 AND l.occurred_at > v.occurred_at
        ORDER BY l.number LIMIT 1
    ) a ON true
    CROSS JOIN LATERAL (
        SELECT l.composition, l.occurred_at FROM live_changes l
        WHERE l.environment_id = $3 AND l.number = coalesce(a.number - 1, $6) LIMIT 1
    ) n ",
    join_start!(),
    "
    WHERE (s.occurred_at IS NULL OR s.occurred_at >= n.occurred_at) AND ",
    end_counts!(),
    "
        AND NOT EXISTS (
            SELECT FROM reorderings r WHERE r.environment_id = $3 AND r.position <= $2
                AND r.since <= v.occurred_at AND r.until > coalesce(s.occurred_at, v.occurred_at)
        )"
);

#[derive(sqlx::FromRow)]
pub(super) struct SubjectEndRow {
    pub(super) subject: Uuid,
    #[sqlx(flatten)]
    pub(super) end: EndRow,
    pub(super) started_at: Option<DateTime<Utc>>,
    pub(super) artifact: Option<String>,
    pub(super) config: Option<String>,
    pub(super) infrastructure: Option<String>,
    pub(super) commit: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct EndRow {
    pub(super) check_name: String,
    pub(super) passed: bool,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) position: i64,
}

#[derive(sqlx::FromRow)]
pub(super) struct DeployRow {
    pub(super) index: i64,
    pub(super) slot: Option<String>,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) position: i64,
    pub(super) until: Option<DateTime<Utc>>,
    pub(super) version: String,
    pub(super) artifact: Option<String>,
    pub(super) config: Option<String>,
    pub(super) infrastructure: Option<String>,
    pub(super) commit: Option<String>,
    pub(super) deployment: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct SwitchRow {
    pub(super) index: i64,
    pub(super) switched_to: String,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) until: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
pub(super) struct SpanEndRow {
    pub(super) index: i64,
    #[sqlx(flatten)]
    pub(super) end: EndRow,
}

#[derive(sqlx::FromRow)]
pub(super) struct CompositionEndRow {
    pub(super) composition: Vec<u8>,
    #[sqlx(flatten)]
    pub(super) end: EndRow,
}

#[derive(sqlx::FromRow)]
pub(super) struct ReorderedEndRow {
    #[sqlx(flatten)]
    pub(super) end: EndRow,
    pub(super) started_at: Option<DateTime<Utc>>,
}

impl EndRow {
    pub(super) fn parse(&self) -> Result<(ShortText, CheckResult), Error> {
        let check = parsed("verdicts", self.position, || ShortText::stored(&self.check_name))?;
        let Self { passed, occurred_at, position: at, .. } = *self;
        Ok((check, CheckResult { passed, occurred_at, position: position(at) }))
    }

    pub(super) fn add_to(&self, results: &mut CheckResults) -> Result<(), Error> {
        let (check, result) = self.parse()?;
        results.add(check, result);
        Ok(())
    }
}
