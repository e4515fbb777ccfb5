//! The README and the guide for questions: their commands print what they show, when they run as they stand there against
//! a ledger that `release-ledger up` serves.

use std::path::Path;

use ledger_tests::{Client, Command, Outcome, free_port};

use crate::PROGRAM;

const README: &str = include_str!("../../README.md");
const QUESTIONS: &str = include_str!("../../ops/guides/questions.md");

/// Place in an expected output where any text may stand.
const ANY: char = '…';

#[tokio::test]
async fn the_commands_of_the_readme_print_what_it_shows() {
    let ledger = Ledger::start().await;
    let examples = shell_examples(README);
    assert!(examples.len() > 2, "the README has examples");

    for example in examples {
        ledger.check(&example).await;
    }

    ledger.stop().await;
}

#[tokio::test]
async fn the_commands_of_the_guide_for_questions_print_what_it_shows() {
    let ledger = Ledger::start().await;
    let examples = shell_examples(QUESTIONS);
    assert!(examples.len() > 10, "the guide has examples");

    for example in examples {
        ledger.check(&example).await;
    }

    ledger.stop().await;
}

/// Commands, and what they print together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Example {
    commands: String,
    output: String,
}

impl Example {
    /// Returns true if the text contains the expected output; `…` stands for any text, and columns may have any width.
    fn is_printed_in(&self, text: &str) -> bool {
        let text = single_spaced(text);
        let mut rest = &*text;
        single_spaced(&self.output).split(ANY).map(str::trim).all(|part| {
            let found = rest.split_once(part);
            rest = found.map_or(rest, |(_, after)| after);
            found.is_some()
        })
    }
}

/// Returns the examples in the blocks of shell commands: lines that begin with `#` are the output of the commands above
/// them.
fn shell_examples(text: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    for block in shell_blocks(text) {
        let mut example = Example::default();
        for line in block.lines() {
            if let Some(output) = line.strip_prefix("# ") {
                example.output += &format!("{output}\n");
                continue;
            }
            if !example.output.is_empty() {
                examples.push(std::mem::take(&mut example));
            }
            example.commands += &format!("{line}\n");
        }
        examples.push(example);
    }
    examples
}

/// Returns the code blocks of a shell.
fn shell_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"))
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A ledger that `release-ledger up` serves.
struct Ledger {
    up: Command,
    url: String,
    search: String,
    home: tempfile::TempDir,
    _data: tempfile::TempDir,
}

impl Ledger {
    async fn start() -> Self {
        let folder = || tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
        let (home, data) = (folder(), folder());
        std::os::unix::fs::symlink(PROGRAM, home.path().join("release-ledger")).expect("a link");
        let address = format!("127.0.0.1:{}", free_port());
        let data_dir = data.path().to_str().expect("UTF-8");
        let home_path = home.path().to_str().expect("UTF-8");
        let config = format!("{home_path}/config");
        let variables = [("HOME", home_path), ("XDG_CONFIG_HOME", &*config), ("USER", "ada")];
        let up =
            Command::start_with(PROGRAM, &["up", "--data-dir", data_dir, "--listen", &address], &variables);
        let url = format!("http://{address}");
        Client::new(&url).wait_until_ready().await;
        Self { up, url, search: search_path(home.path()), home, _data: data }
    }

    /// Runs the commands of an example, and checks that they succeed and print its output.
    async fn check(&self, example: &Example) {
        let outcome = self.run(&example.commands).await;
        assert_eq!(outcome.code, Some(0), "{}\n{}", example.commands, outcome.stdout);
        assert!(example.is_printed_in(&outcome.stdout), "{example:?}\nprinted: {}", outcome.stdout);
    }

    /// Runs shell commands; both outputs are in `stdout`, as in a terminal.
    async fn run(&self, commands: &str) -> Outcome {
        let script = format!("exec 2>&1\nset -e\n{commands}");
        let home = self.home.path().to_str().expect("UTF-8");
        let (config, state) = (format!("{home}/config"), format!("{home}/state"));
        let variables = [
            ("PATH", &*self.search),
            ("HOME", home),
            ("XDG_CONFIG_HOME", &*config),
            ("XDG_STATE_HOME", &*state),
            ("USER", "ada"),
            ("RELEASE_LEDGER_URL", &self.url),
        ];
        Command::start_with("sh", &["-c", &script], &variables).outcome().await
    }

    async fn stop(self) {
        self.up.send_sigterm();
        let outcome = self.up.outcome().await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }
}

/// Returns the search path with this folder first.
fn search_path(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var_os("PATH").unwrap_or_default().to_string_lossy())
}

#[test]
fn the_output_of_an_example_stands_below_its_commands() {
    let text = "\n```sh\nfirst\nsecond # a note\n# 1 … 2\n\nthird\n```\n\n```\nno shell\n```\n";
    let example = |commands: &str, output: &str| Example { commands: commands.into(), output: output.into() };
    assert_eq!(
        shell_examples(text),
        [example("first\nsecond # a note\n", "1 … 2\n"), example("\nthird\n", "")]
    );
}

#[test]
fn an_output_matches_in_order_with_any_text_and_width() {
    let example = Example { commands: String::new(), output: "a  b … d\ne".to_owned() };
    assert!(example.is_printed_in("a b\nc\nd    e"));
    assert!(!example.is_printed_in("a b\nc\nd x e"));
    assert!(!example.is_printed_in("d e\na b"));
}
