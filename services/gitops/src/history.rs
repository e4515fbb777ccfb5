//! The walk over the first-parent history of a repository.
//!
//! Times: an event of a commit occurred at the committer's time, but at least one microsecond after the commit before
//! it in first-parent order. The order of commits therefore wins over clocks that are wrong, in the ledger too, and
//! the time of a commit depends only on the commits before it. A time after [`Options::latest`] is not used.
//!
//! A walk begins at the oldest commit in any case, so that an import that begins later yields the same events: commits
//! up to [`Options::after`] are applied and not reported.

use std::collections::{BTreeMap, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use gix::ObjectId;
use ledger_domain::Source;

use crate::change::{Change, CommitPart, author, reason};
use crate::document::{Format, parse};
use crate::error::Error;
use crate::extract::extract;
use crate::lanes::{FileState, LaneChange, LaneKey, Lanes};
use crate::pattern::Match;
use crate::pin::Pin;
use crate::problem::{Consequence, Problem};
use crate::repository::{Link, Repository};
use crate::rule::{PathLane, Rule};
use crate::tree::{ChangedFile, File, changed_files};

/// Options of a walk.
#[derive(Debug, Clone)]
pub struct Options {
    /// The source of the events: [`Repository::source`], or one that stays the same for this repository.
    pub source: Source,
    /// The newest commit: a branch, a tag, a commit; `HEAD` for the branch that is checked out.
    pub head: String,
    /// The commit after which changes are reported; all if it is `None`. The last commit of an earlier walk resumes it.
    pub after: Option<String>,
    /// The latest time that the ledger accepts; later times of committers are not used.
    pub latest: DateTime<Utc>,
    /// The part of an event that the commit becomes.
    pub commit_part: CommitPart,
}

/// The changes of a commit. Most commits change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReport {
    /// The commit, in full.
    pub commit: String,
    /// The time of its changes.
    pub occurred_at: DateTime<Utc>,
    /// The changes, in the order of lanes.
    pub changes: Vec<Change>,
    /// The problems.
    pub problems: Vec<Problem>,
}

/// A walk over the first-parent history, from the oldest commit to the newest: an iterator of reports.
#[derive(Debug)]
pub struct History {
    repository: Repository,
    rules: Vec<Rule>,
    options: Options,
    pending: VecDeque<Link>,
    last: Option<Link>,
    last_time: Option<DateTime<Utc>>,
    lanes: Lanes,
    /// The problems of each file that have been reported and still hold, so that a commit that touches the file does not
    /// repeat them.
    reported: HashMap<String, Vec<String>>,
    failed: bool,
}

/// Problems of a commit, collected while its files are read.
struct Findings<'c> {
    commit: &'c str,
    problems: Vec<Problem>,
    /// Reasons for which a release may not be what a file seems to state, to be reported with its change.
    warnings: Vec<(LaneKey, String)>,
}

impl Findings<'_> {
    fn add(&mut self, path: Option<&str>, consequence: Consequence, detail: String) {
        let (commit, path) = (self.commit.to_owned(), path.map(str::to_owned));
        self.problems.push(Problem { commit, path, consequence, detail });
    }
}

/// A problem of a file: its consequence and its description.
type Fault = (Consequence, String);

impl History {
    /// Starts a walk. Applies the commits up to `after` before it returns.
    ///
    /// # Errors
    /// A revision is unknown, the head's first-parent history does not contain `after`, or the repository cannot be
    /// read.
    pub fn new(repository: Repository, rules: Vec<Rule>, options: Options) -> Result<Self, Error> {
        let head = repository.resolve(&options.head)?;
        let links = repository.first_parents(head, None)?.unwrap_or_default();
        let after = match &options.after {
            Some(revision) => Some(position_of(&repository, &links, revision, &options.head)?),
            None => None,
        };
        let mut history = Self {
            repository,
            rules,
            options,
            pending: links.into(),
            last: None,
            last_time: None,
            lanes: Lanes::default(),
            reported: HashMap::new(),
            failed: false,
        };
        for _ in 0..after.map_or(0, |position| position + 1) {
            history.step()?;
        }
        Ok(history)
    }

    /// Returns the last commit that was applied, in full.
    #[must_use]
    pub fn last_commit(&self) -> Option<String> {
        self.last.map(|link| link.id.to_string())
    }

    /// Looks for commits that the head got since, and returns the number of commits that are not applied yet.
    ///
    /// # Errors
    /// The history was rewritten, or the repository cannot be read.
    pub fn refresh(&mut self) -> Result<usize, Error> {
        let head = self.repository.resolve(&self.options.head)?;
        let newest = self.pending.back().or(self.last.as_ref()).map(|link| link.id);
        let links = self.repository.first_parents(head, newest)?.ok_or_else(|| Error::NotInHistory {
            commit: newest.map(|id| id.to_string()).unwrap_or_default(),
            head: self.options.head.clone(),
        })?;
        self.pending.extend(links);
        Ok(self.pending.len())
    }

    /// Applies the next commit; `None` if there is none.
    fn step(&mut self) -> Result<Option<CommitReport>, Error> {
        let Some(link) = self.pending.pop_front() else { return Ok(None) };
        let commit = link.id.to_string();
        let mut findings = Findings { commit: &commit, problems: Vec::new(), warnings: Vec::new() };
        let occurred_at = self.time_of(&link, &mut findings);
        let files = self.changed_files(&link)?;
        let mut states = Vec::with_capacity(files.len());
        for (changed, rule) in files {
            let state = self.state_of(&changed, rule, &mut findings)?;
            states.push((
                changed.path,
                state.map(|state| (state, self.rules[rule].extraction.field().to_owned())),
            ));
        }
        let applied = self.lanes.apply(states);
        for (lane, path) in applied.contradictions {
            let detail = format!("another file states another release of {lane}");
            findings.add(Some(&path), Consequence::LaneKept, detail);
        }
        let changes = self.changes(&link, occurred_at, applied.changes, &mut findings)?;
        let problems = findings.problems;
        self.last = Some(link);
        self.last_time = Some(occurred_at);
        Ok(Some(CommitReport { commit, occurred_at, changes, problems }))
    }

    /// Returns the time of a commit's events: see the module.
    fn time_of(&self, link: &Link, findings: &mut Findings<'_>) -> DateTime<Utc> {
        let earliest = self.last_time.map(|last| last + TimeDelta::microseconds(1));
        let committed_at = link.committed_at;
        if committed_at > self.options.latest {
            let used = earliest.unwrap_or_default();
            let detail = format!("the committer's time {committed_at} is in the future; {used} is used");
            findings.add(None, Consequence::Recorded, detail);
            return used;
        }
        earliest.map_or(committed_at, |earliest| earliest.max(committed_at))
    }

    /// Returns the files that a commit changed and that a rule names, each with the index of the rule.
    fn changed_files(&self, link: &Link) -> Result<Vec<(ChangedFile, usize)>, Error> {
        let before = self.last.map(|last| last.tree);
        if before == Some(link.tree) {
            return Ok(Vec::new());
        }
        let descend = |folder: &str| self.rules.iter().any(|rule| rule.pattern.can_match_below(folder));
        let mut files = changed_files(&self.repository.inner, before, link.tree, descend)?;
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let rule_of = |file: &ChangedFile| {
            self.rules.iter().position(|rule| rule.pattern.matches(&file.path) != Match::None)
        };
        Ok(files.into_iter().filter_map(|file| rule_of(&file).map(|rule| (file, rule))).collect())
    }

    /// Reads a changed file, and reports its problems, except those that were reported and still hold. Returns `None` if
    /// it is gone, or about no lane.
    fn state_of(
        &mut self,
        changed: &ChangedFile,
        rule: usize,
        findings: &mut Findings<'_>,
    ) -> Result<Option<FileState>, Error> {
        let path = &changed.path;
        let reported = self.reported.remove(path).unwrap_or_default();
        let Some(file) = changed.file else { return Ok(None) };
        let mut faults = Vec::new();
        let rule = &self.rules[rule];
        let state = match lane_of(rule, path) {
            Ok(lane) => {
                let content = content(&self.repository, file)?;
                let read =
                    content.and_then(|content| read(rule, &lane, path, &content, &mut faults, findings));
                Some(read.map_or_else(
                    |detail| {
                        faults.push((Consequence::LaneKept, detail));
                        FileState::Unreadable(lane.clone())
                    },
                    FileState::Read,
                ))
            }
            Err(detail) => {
                faults.push((Consequence::Skipped, detail));
                None
            }
        };
        let details = faults.iter().map(|(_, detail)| detail.clone()).collect::<Vec<_>>();
        for (consequence, detail) in faults.into_iter().filter(|(_, detail)| !reported.contains(detail)) {
            findings.add(Some(path), consequence, detail);
        }
        if !details.is_empty() {
            self.reported.insert(path.clone(), details);
        }
        Ok(state)
    }

    fn changes(
        &mut self,
        link: &Link,
        occurred_at: DateTime<Utc>,
        changes: Vec<LaneChange>,
        findings: &mut Findings<'_>,
    ) -> Result<Vec<Change>, Error> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let authorship = self.repository.authorship(link.id)?;
        let (author, reason) = (author(&authorship), reason(&authorship));
        let mut checked = Vec::with_capacity(changes.len());
        for LaneChange { lane, before, after } in changes {
            let Some(stating) = after.as_ref().or(before.as_ref()) else { continue };
            let change = Change {
                commit: findings.commit.to_owned(),
                occurred_at,
                author: author.clone(),
                reason: reason.clone(),
                path: stating.path.clone(),
                field: stating.field.clone(),
                lane,
                before: before.map(|running| running.pin),
                after: after.map(|running| running.pin),
            };
            let is_accepted = match change.check(&self.options.source, self.options.commit_part) {
                Ok(()) => true,
                Err(error) => {
                    let detail = format!("the ledger does not accept the change of {}: {error}", change.lane);
                    findings.add(Some(&change.path), Consequence::Skipped, detail);
                    false
                }
            };
            let warnings: Vec<_> =
                findings.warnings.iter().filter(|(lane, _)| *lane == change.lane).cloned().collect();
            for (_, detail) in warnings {
                findings.add(Some(&change.path), Consequence::Recorded, detail);
            }
            if is_accepted {
                checked.push(change);
            }
        }
        Ok(checked)
    }
}

impl Iterator for History {
    type Item = Result<CommitReport, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let report = self.step().transpose();
        self.failed = matches!(report, Some(Err(_)));
        report
    }
}

/// Returns the position in the history of the commit after which changes are reported.
fn position_of(repository: &Repository, links: &[Link], revision: &str, head: &str) -> Result<usize, Error> {
    let not_in_history = |commit: String| Error::NotInHistory { commit, head: head.to_owned() };
    match repository.resolve(revision) {
        Ok(id) => {
            let position = links.iter().position(|link| link.id == id);
            position.ok_or_else(|| not_in_history(id.to_string()))
        }
        Err(error) => abbreviated(links, revision).ok_or(error),
    }
}

/// Returns the position of the only commit whose id begins with these digits.
fn abbreviated(links: &[Link], digits: &str) -> Option<usize> {
    let is_abbreviation = digits.len() >= 7 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = digits.to_ascii_lowercase();
    let begins = |id: &ObjectId| is_abbreviation && id.to_string().starts_with(&digits);
    let mut found =
        links.iter().enumerate().filter(|(_, link)| begins(&link.id)).map(|(position, _)| position);
    found.next().filter(|_| found.next().is_none())
}

/// Returns the lane, or the part of it, that the path of a file states.
fn lane_of(rule: &Rule, path: &str) -> Result<PathLane, String> {
    match rule.pattern.matches(path) {
        Match::One(captures) => rule.lane(&captures),
        Match::None => Err("the path does not match the rule".to_owned()),
        Match::Ambiguous(two) => Err(format!(
            "the path can be read in two ways, as {} and as {}: list the words, as in {{environment:staging|production}}",
            two.0, two.1
        )),
    }
}

/// Returns the content of a file; the inner error is a reason for which it cannot be read.
fn content(repository: &Repository, file: File) -> Result<Result<Vec<u8>, String>, Error> {
    if file.is_link {
        return Ok(Err("the file is a symbolic link, which is not followed".to_owned()));
    }
    repository.content(file.id)
}

/// Returns the lanes that a file is about, each with its release, or `None` where it is not known.
fn read(
    rule: &Rule,
    lane: &PathLane,
    path: &str,
    content: &[u8],
    faults: &mut Vec<Fault>,
    findings: &mut Findings<'_>,
) -> Result<BTreeMap<LaneKey, Option<Pin>>, String> {
    let format = rule.format.or_else(|| Format::of_path(path));
    let format = format.ok_or("the format of the file is unknown: name it in the rule")?;
    let documents = parse(format, content)?;
    let mut lanes: BTreeMap<LaneKey, Option<Pin>> = BTreeMap::new();
    let mut contradicted = Vec::new();
    for stated in extract(&rule.extraction, lane, &documents)? {
        let service = match &lane.service {
            Some(service) => service.clone(),
            None => rule.service(stated.service.as_deref())?,
        };
        let (environment, target) = (lane.environment.clone(), lane.target.clone());
        let key = LaneKey { environment, target, service };
        findings.warnings.extend(stated.warnings.into_iter().map(|detail| (key.clone(), detail)));
        let pin = stated
            .pin
            .map_err(|detail| faults.push((Consequence::LaneKept, format!("{key}: {detail}"))))
            .ok();
        match lanes.get(&key) {
            Some(other) if *other != pin => contradicted.push(key),
            _ => {
                lanes.insert(key, pin);
            }
        }
    }
    for key in contradicted {
        faults.push((Consequence::LaneKept, format!("the file states several releases of {key}")));
        lanes.insert(key, None);
    }
    Ok(lanes)
}

#[cfg(test)]
mod tests;
