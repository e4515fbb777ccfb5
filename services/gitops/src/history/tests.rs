//! Walks over repositories that the tests build with git.

use std::path::Path;
use std::process::Command;

use ledger_adapters::names::Names;
use tempfile::TempDir;

use super::*;
use crate::pin::ValueForm;
use crate::rule::Extraction;

const FIRST_TIME: i64 = 1_700_000_000;

/// A repository in a temporary folder. Each commit is a minute after the one before.
struct TestRepository {
    folder: TempDir,
    now: i64,
}

impl TestRepository {
    fn new() -> Self {
        let repository = Self { folder: TempDir::new().expect("a folder"), now: FIRST_TIME };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let date = format!("{} +0200", self.now);
        let output = Command::new("git")
            .current_dir(self.path())
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_NAME", "Mira Santos")
            .env("GIT_AUTHOR_EMAIL", "mira@example.com")
            .env("GIT_COMMITTER_NAME", "merge-queue")
            .env("GIT_COMMITTER_EMAIL", "queue@example.com")
            .env("GIT_AUTHOR_DATE", "1600000000 +0000")
            .env("GIT_COMMITTER_DATE", date)
            .output()
            .expect("git is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Writes files (`None` deletes one) and commits them; returns the commit.
    fn commit(&mut self, files: &[(&str, Option<&str>)]) -> String {
        for (path, content) in files {
            let path = self.path().join(path);
            match content {
                Some(content) => {
                    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
                    std::fs::write(path, content).expect("a file");
                }
                None => std::fs::remove_file(path).expect("a file"),
            }
        }
        self.commit_all("Change releases")
    }

    fn commit_all(&mut self, message: &str) -> String {
        self.now += 60;
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn options(&self) -> Options {
        Options {
            source: Source::parse("https://git.example/deploy").expect("a source"),
            head: "HEAD".to_owned(),
            after: None,
            latest: DateTime::from_timestamp(FIRST_TIME + 100_000_000, 0).expect("a time"),
            commit_part: CommitPart::Infrastructure,
        }
    }

    fn history(&self, options: Options) -> Result<History, Error> {
        History::new(Repository::open(self.path())?, vec![charts()], options)
    }

    fn reports(&self, options: Options) -> Vec<CommitReport> {
        let history = self.history(options).expect("a history");
        history.map(|report| report.expect("a readable commit")).collect()
    }

    /// Returns all changes as `lane before>after`.
    fn changes(&self) -> Vec<String> {
        self.reports(self.options()).iter().flat_map(|report| &report.changes).map(phrase).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        self.reports(self.options()).into_iter().flat_map(|report| report.problems).collect()
    }
}

fn charts() -> Rule {
    Rule {
        pattern: "charts/{service}/{environment}.yaml".parse().expect("a pattern"),
        extraction: Extraction::Field {
            field: "image.tag".parse().expect("a field"),
            form: ValueForm::Version,
        },
        format: None,
        names: Names::default(),
    }
}

fn phrase(change: &Change) -> String {
    let version = |pin: &Option<crate::pin::Pin>| match pin {
        Some(pin) => pin.version.to_string(),
        None => "-".to_owned(),
    };
    format!("{} {}>{}", change.lane, version(&change.before), version(&change.after))
}

fn tag(version: &str) -> String {
    format!("image:\n  tag: {version}\n")
}

#[test]
fn changed_deleted_and_untouched_values_are_deploys_removals_and_nothing() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    repository.commit(&[(file, Some(&tag("v1"))), ("README", Some("x"))]);
    repository.commit(&[(file, Some(&format!("{}replicas: 3\n", tag("v1"))))]);
    repository.commit(&[(file, Some(&tag("v2"))), ("charts/api/staging.yaml", Some(&tag("v7")))]);
    repository.commit(&[("README", Some("y"))]);
    repository.commit(&[(file, Some("replicas: 3\n"))]);
    repository.commit(&[(file, None), ("charts/api/staging.yaml", None)]);
    assert_eq!(
        repository.changes(),
        [
            "production/default/web ->v1",
            "production/default/web v1>v2",
            "staging/default/api ->v7",
            "production/default/web v2>-",
            "staging/default/api v7>-",
        ]
    );
}

#[test]
fn an_event_has_the_committers_time_the_author_and_the_commit() {
    let mut repository = TestRepository::new();
    let commit = repository.commit(&[("charts/web/production.yaml", Some(&tag("1.10")))]);
    let options = repository.options();
    let reports = repository.reports(options.clone());
    let change = &reports[0].changes[0];
    assert_eq!(change.occurred_at.timestamp(), FIRST_TIME + 60);
    let event = change.event(&options.source, options.commit_part).0;
    assert_eq!(event["time"], "2023-11-14T22:14:20Z");
    assert_eq!(event["data"]["release"]["version"], "1.10");
    assert_eq!(event["data"]["release"]["infrastructure"], format!("git:{commit}"));
    assert_eq!(event["data"]["actor"]["name"], "Mira Santos");
    assert_eq!(event["data"]["reason"], "Change releases");
    assert!(reports[0].problems[0].detail.contains("not quoted"), "{:?}", reports[0].problems);
}

#[test]
fn a_rename_that_keeps_the_lane_is_no_change() {
    let mut repository = TestRepository::new();
    repository.commit(&[("charts/web/production.yaml", Some(&tag("v1")))]);
    let mut rule = charts();
    rule.pattern = "{environment:production|staging}/**/{service}.yaml".parse().expect("a pattern");
    std::fs::create_dir_all(repository.path().join("production/a/b")).expect("a folder");
    repository.git(&["mv", "charts/web/production.yaml", "production/web.yaml"]);
    repository.commit_all("Move web");
    repository.git(&["mv", "production/web.yaml", "production/a/b/web.yaml"]);
    repository.commit_all("Move web again");
    repository.git(&["mv", "production/a/b/web.yaml", "production/a/b/api.yaml"]);
    repository.commit_all("Rename web");
    let opened = Repository::open(repository.path()).expect("a repository");
    let history = History::new(opened, vec![charts(), rule], repository.options()).expect("a history");
    let reports: Vec<_> = history.map(|report| report.expect("a commit")).collect();
    let changes: Vec<_> = reports.iter().flat_map(|report| &report.changes).map(phrase).collect();
    assert_eq!(
        changes,
        ["production/default/web ->v1", "production/default/api ->v1", "production/default/web v1>-"]
    );
}

#[test]
fn a_merge_counts_once_with_its_whole_change() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    repository.commit(&[(file, Some(&tag("v1")))]);
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    repository.commit(&[(file, Some(&tag("v2")))]);
    repository.commit(&[(file, Some(&tag("v3"))), ("charts/api/production.yaml", Some(&tag("v1")))]);
    repository.git(&["checkout", "--quiet", "main"]);
    repository.commit(&[("README", Some("x"))]);
    repository.now += 60;
    repository.git(&["merge", "--quiet", "--no-ff", "--message", "Merge topic", "topic"]);
    let reports = repository.reports(repository.options());
    assert_eq!(reports.len(), 3);
    let merge: Vec<_> = reports[2].changes.iter().map(phrase).collect();
    assert_eq!(merge, ["production/default/api ->v1", "production/default/web v1>v3"]);
    assert_eq!(reports[2].commit, repository.git(&["rev-parse", "HEAD"]));
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_and_no_removal() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    repository.commit(&[(file, Some(&tag("v1")))]);
    for broken in
        ["image: {tag: v2", "<<<<<<< HEAD\n", "image: {tag: \"{{ v }}\"}\n", "image: {tag: }\n", "\u{0}"]
    {
        repository.commit(&[(file, Some(broken))]);
    }
    repository.commit(&[(file, None), ("charts/web/x", Some("")), ("charts/web/production.yml", Some(""))]);
    repository.commit(&[(file, Some(&tag("v1")))]);
    assert_eq!(
        repository.changes(),
        ["production/default/web ->v1", "production/default/web v1>-", "production/default/web ->v1"]
    );
    let problems = repository.problems();
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.consequence == Consequence::LaneKept));
}

#[test]
fn a_problem_is_reported_when_it_begins_and_a_warning_with_its_change() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    for (content, expected) in [
        ("image: {tag: 1.10}", 1),
        ("image: {tag: 1.10} # why", 0),
        ("image: {tag: \"\"}", 1),
        ("image: {tag: \"\"} # why", 0),
        ("image: {tag: 1.10}", 0),
        ("image: {tag: \"\"}", 1),
        ("image: {tag: 1.20}", 1),
    ] {
        repository.commit(&[(file, Some(content))]);
        let reports = repository.reports(repository.options());
        let problems = &reports.last().expect("a commit").problems;
        assert_eq!(problems.len(), expected, "{content} {problems:?}");
    }
}

#[test]
fn a_path_that_is_about_one_of_two_lanes_is_about_none() {
    let mut repository = TestRepository::new();
    repository.commit(&[("web-eu-production.yaml", Some(&tag("v1")))]);
    let mut rule = charts();
    rule.pattern = "{service}-{environment}.yaml".parse().expect("a pattern");
    let opened = Repository::open(repository.path()).expect("a repository");
    let mut history = History::new(opened, vec![rule], repository.options()).expect("a history");
    let report = history.next().expect("a commit").expect("a readable commit");
    assert!(report.changes.is_empty());
    let detail = &report.problems[0].detail;
    assert!(detail.contains("service web, environment eu-production"), "{detail}");
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let mut repository = TestRepository::new();
    repository.commit(&[("charts/web/production.yaml", Some(&tag("v1")))]);
    let file = repository.path().join("charts/web/production.yaml");
    std::fs::remove_file(&file).expect("a file");
    std::os::unix::fs::symlink("staging.yaml", &file).expect("a link");
    repository.commit_all("Link");
    assert_eq!(repository.changes(), ["production/default/web ->v1"]);
    assert!(repository.problems()[0].detail.contains("symbolic link"));
}

#[test]
fn a_path_that_is_no_lane_is_reported_once() {
    let mut repository = TestRepository::new();
    for version in ["v1", "v2"] {
        repository.commit(&[("charts/_shared/production.yaml", Some(&tag(version)))]);
    }
    let problems = repository.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].consequence, Consequence::Skipped);
    assert!(repository.changes().is_empty());
}

#[test]
fn clocks_that_go_back_do_not_reorder_commits() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    for (version, now) in
        [("v1", 500), ("v2", 100), ("v3", 100), ("v4", 600), ("v5", 200_000_000), ("v6", 700)]
    {
        repository.now = FIRST_TIME + now;
        repository.commit(&[(file, Some(&tag(version)))]);
    }
    let reports = repository.reports(repository.options());
    let times: Vec<_> = reports
        .iter()
        .map(|report| (report.occurred_at.timestamp_micros()) - FIRST_TIME * 1_000_000)
        .collect();
    let micros = |seconds: i64, more: i64| (seconds + 60) * 1_000_000 + more;
    assert_eq!(
        times,
        [micros(500, 0), micros(500, 1), micros(500, 2), micros(600, 0), micros(600, 1), micros(700, 0)]
    );
    let problems: Vec<_> = reports.iter().flat_map(|report| &report.problems).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].detail.contains("future"));
}

#[test]
fn a_walk_that_begins_later_yields_the_same_events() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    let mut commits = Vec::new();
    for step in 0..12 {
        repository.now = FIRST_TIME + [0, 90, 30][step % 3];
        let content = if step % 4 == 2 { "image: {tag: ".to_owned() } else { tag(&format!("v{}", step / 2)) };
        commits.push(repository.commit(&[(file, Some(&content))]));
    }
    let all = repository.reports(repository.options());
    for (position, commit) in commits.iter().enumerate() {
        for revision in [commit.clone(), commit[..10].to_owned(), format!("HEAD~{}", 11 - position)] {
            let options = Options { after: Some(revision), ..repository.options() };
            let mut history = repository.history(options).expect("a history");
            assert_eq!(history.last_commit().as_ref(), Some(commit));
            let rest: Vec<_> = history.by_ref().map(|report| report.expect("a commit")).collect();
            assert_eq!(rest, all[position + 1..]);
        }
    }
}

#[test]
fn new_commits_are_followed_and_a_rewritten_history_is_an_error() {
    let mut repository = TestRepository::new();
    let file = "charts/web/production.yaml";
    repository.commit(&[(file, Some(&tag("v1")))]);
    let mut history = repository.history(repository.options()).expect("a history");
    assert_eq!(history.by_ref().count(), 1);
    assert_eq!(history.refresh().expect("a head"), 0);
    repository.commit(&[(file, Some(&tag("v2")))]);
    repository.commit(&[(file, Some(&tag("v3")))]);
    assert_eq!(history.refresh().expect("a head"), 2);
    let changes: Vec<_> = history
        .by_ref()
        .flat_map(|report| report.expect("a commit").changes)
        .map(|change| phrase(&change))
        .collect();
    assert_eq!(changes, ["production/default/web v1>v2", "production/default/web v2>v3"]);
    repository.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    repository.commit(&[(file, Some(&tag("v4")))]);
    assert!(matches!(history.refresh(), Err(Error::NotInHistory { .. })));
}

#[test]
fn revisions_that_are_not_in_the_history_are_errors() {
    let mut repository = TestRepository::new();
    repository.commit(&[("README", Some("x"))]);
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    let topic = repository.commit(&[("README", Some("y"))]);
    repository.git(&["checkout", "--quiet", "main"]);
    let with_after = |after: &str| {
        repository.history(Options { after: Some(after.to_owned()), ..repository.options() }).map(drop)
    };
    assert!(matches!(with_after(&topic), Err(Error::NotInHistory { .. })));
    assert!(matches!(with_after("nothing"), Err(Error::Revision(_))));
    assert!(matches!(with_after("HEAD~7"), Err(Error::Revision(_))));
    assert!(with_after("main").is_ok());
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    assert!(with_after("v1").is_ok());
}

#[test]
fn a_shallow_clone_and_a_folder_that_is_no_repository_are_errors() {
    let mut repository = TestRepository::new();
    repository.commit(&[("README", Some("x"))]);
    repository.commit(&[("README", Some("y"))]);
    let clone = TempDir::new().expect("a folder");
    let url = format!("file://{}", repository.path().display());
    repository.git(&["clone", "--quiet", "--depth=1", &url, clone.path().to_str().expect("UTF-8")]);
    assert!(matches!(Repository::open(clone.path()), Err(Error::Shallow)));
    let empty = TempDir::new().expect("a folder");
    assert!(matches!(Repository::open(empty.path()), Err(Error::Open { .. })));
}

#[test]
fn the_source_of_a_repository_is_its_origin_without_credentials() {
    let repository = TestRepository::new();
    let source = || Repository::open(repository.path()).expect("a repository").source();
    assert_eq!(source(), None);
    repository.git(&["remote", "add", "origin", "https://user:secret@git.example/team/deploy.git"]);
    assert_eq!(source().as_deref(), Some("https://git.example/team/deploy"));
}

#[test]
fn a_version_that_looks_like_a_secret_is_a_problem() {
    let mut repository = TestRepository::new();
    let token = format!("ghp_{}", "a1B2".repeat(9));
    repository.commit(&[("charts/web/production.yaml", Some(&tag(&token)))]);
    let reports = repository.reports(repository.options());
    assert!(reports[0].changes.is_empty());
    assert_eq!(reports[0].problems[0].consequence, Consequence::Skipped);
    assert!(!reports[0].problems[0].detail.contains(&token));
}

/// A deterministic sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Returns what the files of a commit state, by `git ls-tree` and `git show`.
fn truth(repository: &TestRepository, commit: &str) -> BTreeMap<String, String> {
    let mut lanes = BTreeMap::new();
    for path in repository.git(&["ls-tree", "-r", "--name-only", commit, "charts"]).lines() {
        let parts: Vec<_> = path.trim_end_matches(".yaml").split('/').collect();
        let content = repository.git(&["show", &format!("{commit}:{path}")]);
        let version = content.lines().find_map(|line| line.trim().strip_prefix("tag: "));
        if let ([_, service, environment], Some(version)) = (parts.as_slice(), version) {
            lanes.insert(format!("{environment}/default/{service}"), version.to_owned());
        }
    }
    lanes
}

#[test]
fn the_lanes_after_each_commit_are_what_its_files_state() {
    let mut repository = TestRepository::new();
    let mut numbers = Numbers(7);
    for step in 0..120 {
        let service = ["web", "api", "worker"][usize::try_from(numbers.below(3)).expect("small")];
        let path = format!(
            "charts/{service}/{}.yaml",
            ["staging", "production"][usize::try_from(numbers.below(2)).expect("small")]
        );
        let exists = repository.path().join(&path).exists();
        match numbers.below(8) {
            0 if exists => drop(repository.commit(&[(&path, None)])),
            1 if exists => drop(repository.commit(&[(&path, Some("replicas: 1\n"))])),
            2 => {
                repository.git(&["checkout", "--quiet", "-B", "topic"]);
                repository.commit(&[(&path, Some(&tag(&format!("t{step}"))))]);
                repository.git(&["checkout", "--quiet", "main"]);
                repository.commit(&[("README", Some(&step.to_string()))]);
                repository.git(&["merge", "--quiet", "--no-ff", "-m", "Merge", "topic"]);
            }
            _ => drop(repository.commit(&[(&path, Some(&tag(&format!("v{}", step / 2))))])),
        }
    }
    let mut lanes = BTreeMap::new();
    let reports = repository.reports(repository.options());
    for (index, report) in reports.iter().enumerate() {
        for change in &report.changes {
            match &change.after {
                Some(pin) => lanes.insert(change.lane.to_string(), pin.version.to_string()),
                None => lanes.remove(&change.lane.to_string()),
            };
        }
        if index % 5 == 0 || index + 1 == reports.len() {
            assert_eq!(lanes, truth(&repository, &report.commit), "{}", report.commit);
        }
    }
}
