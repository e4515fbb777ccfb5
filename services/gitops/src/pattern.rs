//! Patterns of paths: they select the files that state releases, and name the lane of each.
//!
//! `charts/{service}/{environment}.yaml`: `{service}`, `{environment}` and `{target}` capture a part of one segment,
//! `*` matches a part of one segment, a segment `**` any number of segments. `{environment:staging|production}`
//! captures these words only. A path that can be captured in several ways is ambiguous and matches nothing.

use std::fmt;
use std::str::FromStr;

/// Maximum number of captures and `*` in a segment, and of `**` in a pattern: matching is polynomial in it.
const VARIABLES_LIMIT: usize = 3;

/// A pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// Any number of segments.
    Any,
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Wildcard,
    Capture(Name, Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Environment,
    Service,
    Target,
}

/// The parts of a lane that a path states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Captures {
    /// The environment, as spelled.
    pub environment: Option<String>,
    /// The service, as spelled.
    pub service: Option<String>,
    /// The target, as spelled.
    pub target: Option<String>,
}

/// The result of matching a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// The path does not match.
    None,
    /// The path matches in one way.
    One(Captures),
    /// The path matches in several ways, two of which are these.
    Ambiguous(Box<(Captures, Captures)>),
}

/// Reason why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a pattern such as charts/{{service}}/{{environment}}.yaml: {detail}")]
pub struct PatternError {
    text: String,
    detail: String,
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let segments = parse(text).map_err(|detail| PatternError { text: text.to_owned(), detail })?;
        Ok(Self { text: text.to_owned(), segments })
    }
}

fn parse(text: &str) -> Result<Vec<Segment>, String> {
    let text = text.strip_prefix("./").unwrap_or(text);
    let mut segments = Vec::new();
    let mut names = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" => return Err("it has an empty segment; paths are relative to the repository".to_owned()),
            "." | ".." => return Err("it has a segment that no path in a repository has".to_owned()),
            "**" => segments.push(Segment::Any),
            _ => segments.push(Segment::Parts(parts(segment, &mut names)?)),
        }
    }
    if segments.iter().filter(|segment| **segment == Segment::Any).count() > VARIABLES_LIMIT {
        return Err(format!("it has more than {VARIABLES_LIMIT} segments **"));
    }
    if segments.last() == Some(&Segment::Any) {
        return Err("it ends with **; name the files: **/*.yaml".to_owned());
    }
    Ok(segments)
}

fn parts(segment: &str, names: &mut Vec<Name>) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let end = rest.find(['{', '}', '*']).unwrap_or(rest.len());
        if end > 0 {
            parts.push(Part::Literal(rest[..end].to_owned()));
            rest = &rest[end..];
        } else if let Some(after) = rest.strip_prefix('*') {
            parts.push(Part::Wildcard);
            rest = after;
        } else {
            let inner = rest.strip_prefix('{').ok_or("a '}' has no '{'")?;
            let (content, after) = inner.split_once('}').ok_or("a '{' has no '}'")?;
            parts.push(capture(content, names)?);
            rest = after;
        }
    }
    let is_variable = |part: &&Part| !matches!(part, Part::Literal(_));
    if parts.iter().filter(is_variable).count() > VARIABLES_LIMIT {
        return Err(format!("a segment has more than {VARIABLES_LIMIT} captures and *"));
    }
    let is_adjacent = |pair: &[Part]| pair.iter().all(|part| is_variable(&part));
    if parts.windows(2).any(is_adjacent) {
        return Err("two captures or * stand side by side".to_owned());
    }
    Ok(parts)
}

fn capture(content: &str, names: &mut Vec<Name>) -> Result<Part, String> {
    let (name, words) = content.split_once(':').unwrap_or((content, ""));
    let name = match name {
        "environment" => Name::Environment,
        "service" => Name::Service,
        "target" => Name::Target,
        other => return Err(format!("{{{other}}} is not {{environment}}, {{service}} or {{target}}")),
    };
    if names.contains(&name) {
        return Err(format!("{{{content}}} is captured twice"));
    }
    names.push(name);
    let words: Vec<_> = words.split('|').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if words.is_empty() && content.contains(':') {
        return Err(format!("{{{content}}} names no words after ':'"));
    }
    Ok(Part::Capture(name, words))
}

impl PathPattern {
    /// Returns the pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Matches a file.
    pub(crate) fn matches(&self, path: &str) -> Match {
        let segments: Vec<_> = path.split('/').collect();
        let mut found = Vec::new();
        match_segments(&self.segments, &segments, &Captures::default(), &mut found);
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(one), Some(other)) => Match::Ambiguous(Box::new((one, other))),
            (Some(one), None) => Match::One(one),
            (None, _) => Match::None,
        }
    }

    /// Returns true if files below a folder can match.
    pub(crate) fn can_match_below(&self, folder: &str) -> bool {
        let mut segments = self.segments.iter();
        for name in folder.split('/') {
            match segments.next() {
                None => return false,
                Some(Segment::Any) => return true,
                Some(Segment::Parts(parts)) => {
                    let mut found = Vec::new();
                    match_parts(parts, name, &Captures::default(), &mut found);
                    if found.is_empty() {
                        return false;
                    }
                }
            }
        }
        segments.next().is_some()
    }
}

/// Adds the captures of all ways to match, without repetitions, and at most two.
fn match_segments(pattern: &[Segment], path: &[&str], captures: &Captures, found: &mut Vec<Captures>) {
    match pattern {
        [] if path.is_empty() => add(found, captures.clone()),
        [] => {}
        [Segment::Any, rest @ ..] => {
            for skipped in 0..path.len() {
                match_segments(rest, &path[skipped..], captures, found);
            }
        }
        [Segment::Parts(parts), rest @ ..] => {
            let Some((name, below)) = path.split_first() else { return };
            let mut here = Vec::new();
            match_parts(parts, name, captures, &mut here);
            for captures in here {
                match_segments(rest, below, &captures, found);
            }
        }
    }
}

fn match_parts(parts: &[Part], text: &str, captures: &Captures, found: &mut Vec<Captures>) {
    match parts {
        [] if text.is_empty() => add(found, captures.clone()),
        [] => {}
        [Part::Literal(literal), rest @ ..] => {
            if let Some(text) = text.strip_prefix(literal.as_str()) {
                match_parts(rest, text, captures, found);
            }
        }
        [Part::Wildcard, rest @ ..] => {
            for end in boundaries(text, rest.is_empty()) {
                match_parts(rest, &text[end..], captures, found);
            }
        }
        [Part::Capture(name, words), rest @ ..] => {
            for end in boundaries(text, rest.is_empty()).filter(|end| *end > 0) {
                let word = &text[..end];
                if words.is_empty() || words.iter().any(|known| known == word) {
                    match_parts(rest, &text[end..], &captures.with(*name, word), found);
                }
            }
        }
    }
}

/// Returns the places at which a text can be split; only its end if nothing follows in the pattern.
fn boundaries(text: &str, only_end: bool) -> impl Iterator<Item = usize> {
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.filter(move |start| !only_end || *start == text.len())
}

fn add(found: &mut Vec<Captures>, captures: Captures) {
    if found.len() < 2 && !found.contains(&captures) {
        found.push(captures);
    }
}

impl fmt::Display for Captures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, word) in
            [("service", &self.service), ("environment", &self.environment), ("target", &self.target)]
        {
            if let Some(word) = word {
                write!(f, "{separator}{name} {word}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl Captures {
    fn with(&self, name: Name, word: &str) -> Self {
        let mut captures = self.clone();
        let part = match name {
            Name::Environment => &mut captures.environment,
            Name::Service => &mut captures.service,
            Name::Target => &mut captures.target,
        };
        *part = Some(word.to_owned());
        captures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pattern: &str, path: &str) -> Option<[String; 3]> {
        match pattern.parse::<PathPattern>().expect(pattern).matches(path) {
            Match::One(Captures { environment, service, target }) => {
                Some([environment, service, target].map(Option::unwrap_or_default))
            }
            Match::None => None,
            Match::Ambiguous(_) => Some(["ambiguous"; 3].map(str::to_owned)),
        }
    }

    #[test]
    fn a_path_states_parts_of_a_lane() {
        for (pattern, path, expected) in [
            (
                "charts/{service}/{environment}.yaml",
                "charts/web/production.yaml",
                Some(["production", "web", ""]),
            ),
            ("charts/{service}/{environment}.yaml", "charts/web/eu/production.yaml", None),
            ("charts/{service}/{environment}.yaml", "charts/web/production.yml", None),
            (
                "./{environment}/{target}/{service}/values.yaml",
                "p/eu/web/values.yaml",
                Some(["p", "web", "eu"]),
            ),
            ("{environment}/**/{service}.yaml", "p/a/b/web.yaml", Some(["p", "web", ""])),
            ("{environment}/**/{service}.yaml", "p/web.yaml", Some(["p", "web", ""])),
            ("apps/*/{service}-values.yaml", "apps/team/web-values.yaml", Some(["", "web", ""])),
            ("apps/*.yaml", "apps/.yaml", Some(["", "", ""])),
            ("{service}/{environment:staging|prod}.yaml", "web/prod.yaml", Some(["prod", "web", ""])),
            ("{service}/{environment:staging|prod}.yaml", "web/other.yaml", None),
        ] {
            let expected = expected.map(|parts| parts.map(str::to_owned));
            assert_eq!(captured(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_that_can_be_captured_in_two_ways_is_ambiguous() {
        assert_eq!(
            captured("{service}-{environment}.yaml", "web-eu-prod.yaml").map(|parts| parts[0].clone()),
            Some("ambiguous".to_owned())
        );
        assert_eq!(
            captured("{service}-{environment}.yaml", "web-prod.yaml"),
            Some(["prod", "web", ""].map(str::to_owned))
        );
        assert_eq!(
            captured("{service}-{environment:prod|eu-prod}.yaml", "api-web-prod.yaml"),
            Some(["prod", "api-web", ""].map(str::to_owned))
        );
        // Several ways with the same captures are one.
        assert_eq!(
            captured("**/*-*/{service}.yaml", "a-b-c/web.yaml"),
            Some(["", "web", ""].map(str::to_owned))
        );
    }

    #[test]
    fn folders_that_cannot_match_are_not_descended_into() {
        let pattern: PathPattern = "charts/{service}/values-*.yaml".parse().expect("a pattern");
        assert!(pattern.can_match_below("charts"));
        assert!(pattern.can_match_below("charts/web"));
        assert!(!pattern.can_match_below("charts/web/templates"));
        assert!(!pattern.can_match_below("docs"));
        let pattern: PathPattern = "a/**/{service}.yaml".parse().expect("a pattern");
        assert!(pattern.can_match_below("a/b/c/d"));
        assert!(!pattern.can_match_below("b"));
    }

    #[test]
    fn texts_that_are_no_patterns_are_rejected() {
        for text in [
            "",
            "/a",
            "a//b",
            "a/../b",
            "a/**",
            "{x}.yaml",
            "{service",
            "service}",
            "{service}{environment}",
            "*{service}",
            "{service}/{service}.yaml",
            "{environment:}.yaml",
            "*-*-*-*.yaml",
            "**/**/**/**/x",
        ] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_name_is_matched_quickly() {
        let name = format!("{}.yaml", "a-".repeat(125));
        assert_eq!(captured("{service}-*-*.yml", &name), None);
        let path = vec!["a"; 2000].join("/");
        assert_eq!(captured("**/b/**/c", &path), None);
    }
}
