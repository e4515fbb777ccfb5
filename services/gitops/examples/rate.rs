//! Measures the walk over a generated repository, and compares the lanes after some of its commits with the files.
//!
//! `cargo run --release -p ledger-gitops --example rate -- [COMMITS] [CHECKED]` generates a history of `COMMITS`
//! commits (10,000) with merges, renames, deletions, rewritten fields and files that cannot be parsed, walks it, and
//! compares the lanes after `CHECKED` commits (50) with `git ls-tree` and `git show`.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use chrono::{DateTime, Utc};
use ledger_adapters::names::Names;
use ledger_domain::Source;
use ledger_gitops::{CommitPart, Extraction, History, Options, Repository, Rule, ValueForm};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SERVICES: u64 = 40;
const ENVIRONMENTS: [&str; 3] = ["production", "qa", "staging"];

/// A deterministic sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The files of a branch: path and content.
type Files = BTreeMap<String, String>;

/// A script for `git fast-import`, and the lanes after each commit of the main branch.
struct Generator {
    numbers: Numbers,
    script: Vec<u8>,
    time: i64,
    mark: u64,
    main: Files,
    /// The last version of each lane that a readable file stated, until the file or the field is gone.
    lanes: BTreeMap<String, String>,
    expected: Vec<BTreeMap<String, String>>,
}

impl Generator {
    fn content(&mut self) -> String {
        let version = self.numbers.below(500);
        match self.numbers.below(40) {
            0 => "image:\n  tag: {broken\n".to_owned(),
            1 => format!("replicas: {version}\n"),
            2 => format!("# rewritten\nreplicas: 3\nimage: {{repository: web, tag: 'v{version}'}}\n"),
            _ => format!("image:\n  repository: registry.example/web\n  tag: v{version}\n"),
        }
    }

    /// Chooses a change of one file of a branch.
    fn change(&mut self, files: &Files) -> Vec<(String, Option<String>)> {
        let service = self.numbers.below(SERVICES);
        let environment = ENVIRONMENTS[usize::try_from(self.numbers.below(3)).unwrap_or_default()];
        let path = format!("charts/s{service}/{environment}.yaml");
        let existing = files.get(&path).cloned();
        match (self.numbers.below(25), existing) {
            (0, Some(_)) => vec![(path, None)],
            (1, Some(content)) => {
                let other = format!("charts/s{}/{environment}.yaml", self.numbers.below(SERVICES));
                if other == path { Vec::new() } else { vec![(path, None), (other, Some(content))] }
            }
            (2, _) => vec![("README.md".to_owned(), Some(self.numbers.below(1000).to_string()))],
            _ => vec![(path, Some(self.content()))],
        }
    }

    fn commit(&mut self, branch: &str, parents: &[u64], changes: &[(String, Option<String>)]) -> Result<u64> {
        self.mark += 1;
        self.time += i64::try_from(self.numbers.below(600))? - 60;
        write!(self.script, "commit refs/heads/{branch}\nmark :{}\n", self.mark)?;
        writeln!(self.script, "author Mira Santos <mira@example.com> {} +0000", self.time)?;
        write!(self.script, "committer queue <queue@example.com> {} +0000\ndata 6\nDeploy\n", self.time)?;
        for (keyword, parent) in ["from", "merge"].iter().zip(parents) {
            writeln!(self.script, "{keyword} :{parent}")?;
        }
        for (path, content) in changes {
            match content {
                Some(content) => {
                    write!(self.script, "M 100644 inline {path}\ndata {}\n{content}\n", content.len())?;
                }
                None => writeln!(self.script, "D {path}")?,
            }
        }
        Ok(self.mark)
    }

    /// Applies changes to the main branch, and to the lanes that they are about.
    fn apply(&mut self, changes: &[(String, Option<String>)]) {
        for (path, content) in changes {
            match content {
                Some(content) => self.main.insert(path.clone(), content.clone()),
                None => self.main.remove(path),
            };
            let parts: Vec<_> = path.trim_end_matches(".yaml").split('/').collect();
            let [_, service, environment] = parts.as_slice() else { continue };
            let lane = format!("{environment}/default/{service}");
            match content.as_deref().map(version) {
                Some(Stated::Version(version)) => drop(self.lanes.insert(lane, version)),
                Some(Stated::Unreadable) => {}
                Some(Stated::Nothing) | None => drop(self.lanes.remove(&lane)),
            }
        }
    }

    fn generate(commits: u64) -> Result<Self> {
        let mut generator = Self {
            numbers: Numbers(14),
            script: Vec::new(),
            time: 1_600_000_000,
            mark: 0,
            main: Files::new(),
            lanes: BTreeMap::new(),
            expected: Vec::new(),
        };
        let mut head = None;
        while generator.mark < commits {
            let files = generator.main.clone();
            let is_merge = head.is_some() && generator.numbers.below(10) == 0;
            if is_merge {
                let base = head.unwrap_or_default();
                let (mut topic, mut topic_files, mut all) = (base, files, Vec::new());
                for _ in 0..3 {
                    let changes = generator.change(&topic_files);
                    topic = generator.commit("topic", &[topic], &changes)?;
                    for (path, content) in &changes {
                        match content {
                            Some(content) => topic_files.insert(path.clone(), content.clone()),
                            None => topic_files.remove(path),
                        };
                    }
                    all.extend(changes);
                }
                // The merge brings the state of the topic in one step.
                let touched: std::collections::BTreeSet<_> = all.into_iter().map(|(path, _)| path).collect();
                let merged: Vec<_> =
                    touched.into_iter().map(|path| (path.clone(), topic_files.get(&path).cloned())).collect();
                head = Some(generator.commit("main", &[base, topic], &merged)?);
                generator.apply(&merged);
            } else {
                let changes = generator.change(&files);
                head = Some(generator.commit("main", &Vec::from_iter(head), &changes)?);
                generator.apply(&changes);
            }
            generator.expected.push(generator.lanes.clone());
        }
        Ok(generator)
    }
}

/// Statement of a generated file.
enum Stated {
    Version(String),
    Nothing,
    Unreadable,
}

fn version(content: &str) -> Stated {
    if content.contains("{broken") {
        return Stated::Unreadable;
    }
    let tag = content.split("tag: ").nth(1).map(|rest| rest.trim_matches(['\'', '}', '\n']).to_owned());
    tag.map_or(Stated::Nothing, Stated::Version)
}

fn git(folder: &Path, arguments: &[&str], input: Option<&[u8]>) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdout(Stdio::piped()).stdin(Stdio::piped());
    let mut child = command.env("GIT_CONFIG_GLOBAL", "/dev/null").spawn()?;
    let mut stdin = child.stdin.take().ok_or("no stdin")?;
    stdin.write_all(input.unwrap_or_default())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("git {arguments:?} failed").into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the versions that the files of a commit state. Files that cannot be parsed are listed separately.
fn truth(folder: &Path, commit: &str) -> Result<(BTreeMap<String, String>, Vec<String>)> {
    let (mut lanes, mut unreadable) = (BTreeMap::new(), Vec::new());
    for path in git(folder, &["ls-tree", "-r", "--name-only", commit, "charts"], None)?.lines() {
        let parts: Vec<_> = path.trim_end_matches(".yaml").split('/').collect();
        let [_, service, environment] = parts.as_slice() else { continue };
        let lane = format!("{environment}/default/{service}");
        match version(&git(folder, &["show", &format!("{commit}:{path}")], None)?) {
            Stated::Version(version) => drop(lanes.insert(lane, version)),
            Stated::Unreadable => unreadable.push(lane),
            Stated::Nothing => {}
        }
    }
    Ok((lanes, unreadable))
}

fn history(folder: &Path) -> Result<History> {
    let rule = Rule {
        pattern: "charts/{service}/{environment}.yaml".parse()?,
        extraction: Extraction::Field { field: "image.tag".parse()?, form: ValueForm::Version },
        format: None,
        names: Names::default(),
    };
    let options = Options {
        source: Source::parse("https://git.example/deploy")?,
        head: "main".to_owned(),
        after: None,
        latest: DateTime::<Utc>::MAX_UTC,
        commit_part: CommitPart::default(),
    };
    Ok(History::new(Repository::open(folder)?, vec![rule], options)?)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let commits = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let checked: usize = arguments.next().map_or(Ok(50), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let generator = Generator::generate(commits)?;
    git(folder.path(), &["init", "--quiet", "--bare", "--initial-branch=main"], None)?;
    git(folder.path(), &["fast-import", "--quiet"], Some(&generator.script))?;

    let started = Instant::now();
    let reports: Vec<_> = history(folder.path())?.collect::<std::result::Result<_, _>>()?;
    let elapsed = started.elapsed();

    let every = (reports.len() / checked.max(1)).max(1);
    let (mut lanes, mut changes, mut problems, mut compared) = (BTreeMap::new(), 0, 0, 0);
    for (index, report) in reports.iter().enumerate() {
        problems += report.problems.len();
        for change in &report.changes {
            changes += 1;
            match &change.after {
                Some(pin) => lanes.insert(change.lane.to_string(), pin.version.to_string()),
                None => lanes.remove(&change.lane.to_string()),
            };
        }
        if lanes != generator.expected[index] {
            return Err(format!("the lanes after {} are not the expected ones", report.commit).into());
        }
        if index % every == 0 {
            compared += 1;
            let (mut stated, unreadable) = truth(folder.path(), &report.commit)?;
            let kept = lanes.iter().filter(|(lane, _)| unreadable.contains(lane));
            stated.extend(kept.map(|(lane, version)| (lane.clone(), version.clone())));
            if stated != lanes {
                return Err(format!("the lanes after {} are not what its files state", report.commit).into());
            }
        }
    }
    let rate = generator.mark as f64 / elapsed.as_secs_f64();
    writeln!(
        std::io::stdout(),
        "{} commits, {} of them first parents, in {elapsed:.2?} ({rate:.0} commits a second): {changes} changes, \
         {problems} problems; lanes as expected after each, and as the files state after {compared}",
        generator.mark,
        reports.len(),
    )?;
    Ok(())
}
