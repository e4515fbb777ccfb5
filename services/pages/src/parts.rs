//! Parts that several pages show: times, digests, badges, links to entries, releases.

use askama::Template;
use askama::filters::HtmlSafe;
use chrono::{DateTime, SecondsFormat, Utc};
use ledger_api_types::ReleaseBody;

use crate::paths::Paths;
use crate::shown::{prose, shown};

/// Time in UTC.
#[derive(Debug, Template)]
#[template(path = "moment.html")]
pub(crate) struct Moment {
    stamp: String,
    text: String,
}

/// The template escapes both texts.
impl HtmlSafe for Moment {}

impl Moment {
    pub(crate) fn new(time: DateTime<Utc>) -> Self {
        Self { stamp: stamp(time), text: time.format("%Y-%m-%d %H:%M:%S UTC").to_string() }
    }

    /// Returns the time since then, in its largest unit; the time itself is the title.
    pub(crate) fn age(time: DateTime<Utc>, now: DateTime<Utc>) -> Age {
        Age { stamp: stamp(time), full: Self::new(time).text, text: age(time, now) }
    }
}

/// Time that is shown by its age.
#[derive(Debug, Template)]
#[template(path = "age.html")]
pub(crate) struct Age {
    stamp: String,
    full: String,
    text: String,
}

/// The template escapes all texts.
impl HtmlSafe for Age {}

fn stamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A time in the future, by the clock of an emitter that is ahead, counts as now.
fn age(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let minutes = now.signed_duration_since(time).num_minutes();
    match minutes {
        ..1 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..2880 => format!("{} h ago", minutes / 60),
        2880.. => format!("{} d ago", minutes / 1440),
    }
}

/// Text with its long hexadecimal runs shortened; the full one is the title.
#[derive(Debug, Template)]
#[template(path = "digest.html")]
pub(crate) struct Digest {
    full: String,
    short: String,
}

/// The template escapes both texts.
impl HtmlSafe for Digest {}

impl Digest {
    pub(crate) fn new(text: &str) -> Self {
        let full = shown(text);
        Self { short: shortened(&full), full }
    }
}

/// Number of digits from which a run of hexadecimal digits is shortened, and the number of those that stay.
const LONG_RUN: usize = 32;
const KEPT_DIGITS: usize = 12;

/// Returns the text with each run of at least [`LONG_RUN`] hexadecimal digits cut to its first ones.
fn shortened(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if run.len() >= LONG_RUN {
            short.push_str(&run[..KEPT_DIGITS]);
            short.push('…');
        } else {
            short.push_str(run);
        }
        let mut chars = after.chars();
        short.extend(chars.next());
        rest = chars.as_str();
    }
    short
}

/// Status by a word, a shape and a tone: colour alone means nothing.
#[derive(Debug, Template)]
#[template(path = "badge.html")]
pub(crate) struct Badge {
    tone: &'static str,
    shape: &'static str,
    word: String,
}

/// The template escapes all texts.
impl HtmlSafe for Badge {}

impl Badge {
    /// Returns the badge of a word of the API. A word that is not known here is shown neutrally.
    pub(crate) fn of(word: &str) -> Self {
        let (tone, shape) = match word {
            "known_good" | "succeeded" | "done" | "allowed" | "passes" | "approves" => ("good", "●"),
            "bad" | "failed" | "denied" | "rejects" | "revoked" => ("bad", "✕"),
            "started" | "running" | "deploying" => ("active", "▸"),
            "candidate" | "requested" | "pending" => ("waiting", "○"),
            "drift" | "frozen" | "unknown" | "observed only" | "forced" => ("warn", "▲"),
            _ => ("neutral", "–"),
        };
        Self { tone, shape, word: prose(word) }
    }

    /// Returns the badge of a word that needs attention.
    pub(crate) fn warning(word: &str) -> Self {
        Self { tone: "warn", shape: "▲", word: prose(word) }
    }
}

/// Link to an entry of the ledger.
#[derive(Debug, Template)]
#[template(path = "entry_link.html")]
pub(crate) struct EntryLink {
    href: String,
    position: u64,
}

/// The template escapes the link.
impl HtmlSafe for EntryLink {}

impl EntryLink {
    pub(crate) fn new(paths: &Paths, position: u64) -> Self {
        Self { href: paths.entry(position), position }
    }
}

/// Release of a lane: its version, and its other members as far as they are known.
#[derive(Debug, Template)]
#[template(path = "release.html")]
pub(crate) struct Release {
    version: String,
    members: Vec<ReleaseMember>,
}

/// The template escapes all texts.
impl HtmlSafe for Release {}

#[derive(Debug)]
struct ReleaseMember {
    name: &'static str,
    value: Digest,
}

impl Release {
    pub(crate) fn new(release: &ReleaseBody) -> Self {
        let members = [
            ("artifact", &release.artifact),
            ("config", &release.config),
            ("infrastructure", &release.infrastructure),
            ("commit", &release.commit),
        ];
        let members = members
            .into_iter()
            .filter_map(|(name, value)| Some(ReleaseMember { name, value: Digest::new(value.as_deref()?) }));
        Self { version: shown(&release.version), members: members.collect() }
    }
}

/// Returns the actor with the kind, if the kind says more than "person".
pub(crate) fn actor(kind: &str, name: &str) -> String {
    if kind.is_empty() || kind == "person" {
        shown(name)
    } else {
        format!("{} ({})", shown(name), shown(kind))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn time() -> DateTime<Utc> {
        DateTime::parse_from_rfc3339("2026-03-01T12:00:05Z").expect("a time").to_utc()
    }

    #[test]
    fn a_time_is_shown_in_utc_to_the_second() {
        let html = Moment::new(time()).render().expect("rendered");
        assert_eq!(html, r#"<time datetime="2026-03-01T12:00:05Z">2026-03-01 12:00:05 UTC</time>"#);
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [
            (-5, "just now"),
            (59, "just now"),
            (60, "1 min ago"),
            (3600, "1 h ago"),
            (47 * 3600, "47 h ago"),
            (48 * 3600, "2 d ago"),
        ] {
            assert_eq!(age(time(), time() + TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn only_long_runs_of_digits_are_shortened() {
        let digest = "ab".repeat(32);
        assert_eq!(shortened(&format!("sha256:{digest}")), "sha256:abababababab…");
        assert_eq!(shortened(&format!("{digest}-{digest}/é")), "abababababab…-abababababab…/é");
        assert_eq!(shortened("v1.2.3-deadbeef"), "v1.2.3-deadbeef");
        assert_eq!(shortened(""), "");
    }

    #[test]
    fn a_shortened_digest_has_the_full_one_as_its_title() {
        let digest = "0f".repeat(32);
        let html = Digest::new(&digest).render().expect("rendered");
        assert_eq!(html, format!(r#"<code title="{digest}">0f0f0f0f0f0f…</code>"#));
    }

    #[test]
    fn an_unknown_word_is_shown_neutrally() {
        let html = Badge::of("half_done<").render().expect("rendered");
        assert!(html.contains("neutral") && html.contains("half done&#60;"), "{html}");
    }
}
