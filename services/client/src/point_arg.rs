//! Points and times as people write them: `latest`, `4711`, `-5`, `change:12`, `last-known-good`, a name, `2026-03-01`,
//! `yesterday`, `2h`; before a point, `ENVIRONMENT@`.
//!
//! Invariant: the service gets absolute times and its own forms of points only. What a point was resolved to is printed.

use chrono::{DateTime, SecondsFormat, Utc};
use ledger_api_types::PointDetailBody;
use ledger_domain::{EnvironmentName, PointInTime, PointRef, PointSelector, ShortText};

use super::clock::now;
use super::connection::Client;
use super::duration;
use super::invalid::invalid;
use super::output::print_notice;
use super::query::{read, with_param};
use super::when;

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
    moment(text, now()).ok_or_else(|| {
        "must be a time such as 2026-03-01T12:00Z, a date (00:00 UTC), today, yesterday, or a time ago such as 24h"
            .to_owned()
    })
}

fn reference(text: &str, now: DateTime<Utc>) -> Result<PointRef, String> {
    let error = match PointRef::parse(text) {
        Ok(point) => return Ok(point),
        // Only a URL needs the remark.
        Err(error) => error.to_string().replace(" (write `+` as %2B in a URL)", " such as 2026-03-01T12:00Z"),
    };
    let split = if text.starts_with("point:") { None } else { text.split_once('@') };
    let (environment, point) = match split {
        Some((environment, point)) => {
            (Some(EnvironmentName::parse(environment).map_err(|_| error.clone())?), point)
        }
        None => (None, text),
    };
    let selector = match moment(point, now) {
        Some(time) => Some(PointSelector::At(PointInTime::Time(time))),
        None if point.starts_with(|c: char| c.is_alphabetic()) && !point.contains(':') => {
            ShortText::parse(point).ok().map(PointSelector::Named)
        }
        None => None,
    };
    match selector {
        Some(point) => Ok(PointRef { environment, point }),
        None => Err(format!(
            "{error}; so are a date, today, yesterday, a time ago such as 2h, and a point's name"
        )),
    }
}

/// Returns a time or a time ago.
fn moment(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match duration::parse(text) {
        Ok(ago) => now.checked_sub_signed(ago),
        Err(_) => when::absolute(text, now),
    }
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
    fn an_invalid_point_is_an_error_with_the_valid_forms() {
        for text in ["", "2026-13-01", "99999-01-01", "change:0", "change:x", "stag ing@latest", "1.5h"] {
            let error = resolved(text).expect_err(text);
            assert!(error.contains("latest") || error.contains("environment"), "{text}: {error}");
            assert!(!error.contains("URL"), "{text}: {error}");
        }
    }
}
