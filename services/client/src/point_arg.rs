//! Points and times as people write them: `latest`, `4711`, `-5`, `change:12`, `last-known-good`, a name, `2026-03-01`,
//! `yesterday`, `2h`; before a point, `ENVIRONMENT@`.
//!
//! Invariant: the service gets absolute times and its own forms of points only. What a point was resolved to is printed.

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_api_types::{PointDetailBody, PositionBody};
use ledger_domain::{EnvironmentName, PointInTime, PointRef, PointSelector, parse_time_ref};

use super::clock::now;
use super::connection::Client;
use super::invalid::invalid;
use super::output::print_notice;
use super::query::{read, with_param};

/// Point as written, with what it was resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PointSpec {
    text: String,
    point: PointRef,
}

/// Parses a point; times ago are before now.
pub(super) fn parse(text: &str) -> Result<PointSpec, String> {
    Ok(PointSpec { text: text.to_owned(), point: parse_reference(text)? })
}

/// Parses a point, and returns it in the form of the service.
pub(super) fn parse_to_text(text: &str) -> Result<String, String> {
    parse_reference(text).map(|point| point.to_string())
}

/// Parses a reference to a point; times ago are before now.
pub(super) fn parse_reference(text: &str) -> Result<PointRef, String> {
    reference(text, now())
}

/// Parses a time: RFC 3339, to the minute, a date, `today`, `yesterday`, `now`, or a time ago such as `24h`.
pub(super) fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    parse_time_ref(text, now()).map_err(|error| error.to_string())
}

/// Parses the value of `--known-at` into the form that the service takes: a position, `latest`, or a time at which
/// entries were recorded.
pub(super) fn parse_known_at(text: &str) -> Result<String, String> {
    match PointInTime::parse(text, now()) {
        Ok(PointInTime::ChangesAgo(_)) | Err(_) => {
            Err("must be a position, latest, or a time at which entries were recorded, such as 2026-03-01T12:00Z or 2h"
                .to_owned())
        }
        Ok(point) => Ok(point.to_string()),
    }
}

/// Parses a position: a number, `latest`, or a point that is not a time.
pub(super) fn parse_position(text: &str) -> Result<PositionSpec, String> {
    let spec = parse(text)?;
    match spec.point.point {
        PointSelector::At(PointInTime::Time(_)) => {
            Err("must not be a time: an entry may be recorded long after it \
             occurred; give a position, -N, change:N or the name of a point"
                .to_owned())
        }
        _ => Ok(PositionSpec(spec)),
    }
}

fn reference(text: &str, now: DateTime<Utc>) -> Result<PointRef, String> {
    // Only a URL needs the remark.
    PointRef::parse(text, now).map_err(|error| error.to_string().replace(" (write `+` as %2B in a URL)", ""))
}

/// Returns a time in the form of the service.
pub(super) fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl PointSpec {
    /// Returns the environment of the point, if it states one.
    pub(super) const fn environment(&self) -> Option<&EnvironmentName> {
        self.point.environment.as_ref()
    }

    /// Checks that the point belongs to an environment that was named otherwise, or states none.
    ///
    /// # Errors
    /// The point belongs to another environment.
    pub(super) fn check(&self, environment: &EnvironmentName) -> anyhow::Result<()> {
        match self.environment().filter(|other| *other != environment) {
            Some(other) => {
                let text = &self.text;
                Err(invalid(format!(
                    "the point {text} belongs to {other}: name {other} in place of {environment}"
                )))
            }
            None => Ok(()),
        }
    }

    /// Returns the point of an environment that was named otherwise. Prints what it was resolved to.
    ///
    /// # Errors
    /// The point belongs to another environment.
    pub(super) fn of(&self, environment: &EnvironmentName) -> anyhow::Result<&PointSelector> {
        self.check(environment)?;
        self.print_resolved(&self.point.to_string());
        Ok(&self.point.point)
    }

    /// Returns the point in time, in the form that states and differences take, with its environment. Asks the service for
    /// the position of a point that is no position or time. Prints what it was resolved to.
    ///
    /// # Errors
    /// The service does not answer, or there is no such point.
    pub(super) async fn in_time(
        &self,
        client: &Client,
        environment: &EnvironmentName,
        wait_for: Option<u64>,
    ) -> anyhow::Result<String> {
        let point = match &self.point.point {
            PointSelector::At(point) => point.to_string(),
            selector => {
                let environment = self.environment().unwrap_or(environment);
                let url =
                    client.url(&["environments", environment.as_str(), "points", &selector.to_string()]);
                let body: PointDetailBody = read(&client.get(with_param(url, "wait_for", wait_for)).await?)?;
                body.point.position.to_string()
            }
        };
        let resolved = match self.environment().filter(|other| *other != environment) {
            Some(environment) => format!("{environment}@{point}"),
            None => point,
        };
        self.print_resolved(&resolved);
        Ok(resolved)
    }

    fn print_resolved(&self, resolved: &str) {
        if self.text != resolved {
            print_notice(&format!("{} is {resolved}", self.text));
        }
    }
}

/// Position as written: a number, or the point whose position is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PositionSpec(PointSpec);

impl PositionSpec {
    /// Returns true if the position is that of a point, and the text names no environment.
    pub(super) const fn lacks_environment(&self) -> bool {
        let PointRef { environment, point } = &self.0.point;
        let is_of_ledger = matches!(point, PointSelector::At(PointInTime::Latest | PointInTime::Position(_)));
        !is_of_ledger && environment.is_none()
    }

    /// Returns the position. Asks the service for that of a point, of `environment` unless the text names another one.
    /// Prints what a text other than a number was resolved to.
    ///
    /// # Errors
    /// The service does not answer, there is no such point, or no environment is known.
    pub(super) async fn resolve(
        &self,
        client: &Client,
        environment: Option<&EnvironmentName>,
        wait_for: Option<u64>,
    ) -> anyhow::Result<u64> {
        let spec = &self.0;
        let position = match &spec.point.point {
            PointSelector::At(PointInTime::Position(position)) => return Ok(position.get()),
            PointSelector::At(PointInTime::Latest) => {
                let url = with_param(client.url(&["position"]), "wait_for", wait_for);
                read::<PositionBody>(&client.get(url).await?)?.position
            }
            selector => {
                let text = &spec.text;
                let missing =
                    || invalid(format!("{text} is a point: name its environment, ENVIRONMENT@{text}"));
                let environment = spec.environment().or(environment).ok_or_else(missing)?;
                let url =
                    client.url(&["environments", environment.as_str(), "points", &selector.to_string()]);
                let body: PointDetailBody = read(&client.get(with_param(url, "wait_for", wait_for)).await?)?;
                body.point.position
            }
        };
        spec.print_resolved(&position.to_string());
        Ok(position)
    }

    /// Returns the position of a flag that may be absent, as [`resolve`](Self::resolve) does.
    ///
    /// # Errors
    /// The service does not answer, there is no such point, or no environment is known.
    pub(super) async fn resolve_optional(
        written: Option<&Self>,
        client: &Client,
        environment: Option<&EnvironmentName>,
        wait_for: Option<u64>,
    ) -> anyhow::Result<Option<u64>> {
        match written {
            Some(written) => written.resolve(client, environment, wait_for).await.map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<String, String> {
        let now = "2026-03-02T12:30:00Z".parse().expect("a time");
        reference(text, now).map(|point| point.to_string())
    }

    #[test]
    fn the_forms_of_the_service_stay_as_they_are() {
        for text in ["latest", "4711", "-5", "change:12", "last-known-good", "point:a@b", "staging@-1"] {
            assert_eq!(resolved(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_time_ago_and_a_day_become_times_in_utc() {
        for (text, time) in [
            ("2h", "2026-03-02T10:30:00Z"),
            ("yesterday", "2026-03-01T00:00:00Z"),
            ("today", "2026-03-02T00:00:00Z"),
            ("now", "2026-03-02T12:30:00Z"),
            ("2026-02-28", "2026-02-28T00:00:00Z"),
            ("2026-03-01T12:00Z", "2026-03-01T12:00:00Z"),
            ("2026-03-01T12:00+02:00", "2026-03-01T10:00:00Z"),
            ("staging@1d", "staging@2026-03-01T12:30:00Z"),
        ] {
            assert_eq!(resolved(text), Ok(time.to_owned()), "{text}");
        }
    }

    #[test]
    fn another_word_is_the_name_of_a_point() {
        assert_eq!(resolved("before-the-move"), Ok("point:before-the-move".to_owned()));
        assert_eq!(resolved("staging@v2 launch"), Ok("staging@point:v2 launch".to_owned()));
    }

    #[test]
    fn a_position_is_a_number_or_a_point_that_is_not_a_time() {
        for (text, lacks_environment) in
            [("4711", false), ("latest", false), ("-1", true), ("change:3", true), ("staging@-1", false)]
        {
            let spec = parse_position(text).expect(text);
            assert_eq!(spec.lacks_environment(), lacks_environment, "{text}");
        }
        for text in ["2h", "yesterday", "2026-03-01"] {
            assert!(parse_position(text).expect_err(text).starts_with("must not be a time"), "{text}");
        }
    }

    #[test]
    fn what_was_known_is_a_position_or_a_time() {
        for text in ["4711", "latest", "2026-03-01T00:00:00Z"] {
            assert_eq!(parse_known_at(text), Ok(text.to_owned()));
        }
        assert_eq!(parse_known_at("2026-03-01"), Ok("2026-03-01T00:00:00Z".to_owned()));
        for text in ["-1", "last-known-good", "3x", ""] {
            assert!(parse_known_at(text).expect_err(text).starts_with("must be a position"), "{text}");
        }
    }

    #[test]
    fn an_invalid_point_is_an_error_with_the_valid_forms() {
        for text in ["", "99999-01-01", "change:0", "change:x", "stag ing@latest", "1.5h"] {
            let error = resolved(text).expect_err(text);
            assert!(error.contains("latest") || error.contains("environment"), "{text}: {error}");
            assert!(!error.contains("URL"), "{text}: {error}");
        }
    }
}
