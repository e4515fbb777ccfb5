//! Sessions: the commands of a document in one shell, with the program on PATH and a ledger.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use ledger_tests::{Client, Command, Servers, free_port, no_ci};
use tempfile::TempDir;

use super::block::Block;
use super::example::Example;
use crate::PROGRAM;

/// Functions for the commands of documents and for what stands before them.
const PRELUDE: &str = include_str!("prelude.sh");

/// Line that the shell prints after the commands of each example.
const SEPARATOR: &str = "\u{1e}\n";

/// The end of the commands of an example: queries know what they recorded, and the separator is printed.
const END: &str = "settled || true\nprintf '\\036\\n'\n";

/// Text in documents for the address of the reader's service.
const SERVICE: &str = "https://ledger.example";

/// Text in documents for the folder of the reader's settings.
const SETTINGS_FOLDER: &str = "/etc/release-ledger";

/// The ledger that a document speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// An empty one, which `release-ledger up` serves.
    Empty,
    /// One with the demo history, which `release-ledger up --demo` serves.
    Demo,
    /// NATS and Postgres; the document starts the service with its own settings.
    Servers,
}

/// A folder with the program, the files of the document and a home, and what serves the ledger.
pub(crate) struct Session {
    folder: TempDir,
    url: String,
    ledger: Ledger,
    up: Option<Command>,
    servers: Option<Servers>,
}

impl Session {
    /// Starts the ledger.
    pub(crate) async fn start(ledger: Ledger) -> Self {
        let folder = tempfile::Builder::new().prefix("ledger-test-").tempdir().expect("a folder");
        for name in ["bin", "etc", "home", "work"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        symlink(PROGRAM, folder.path().join("bin/release-ledger")).expect("a link");
        // Only a terminal gets no progress meter of a transfer whose result is shown.
        std::fs::write(folder.path().join("home/.curlrc"), "silent\nshow-error\n").expect("written");
        let address = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{address}");
        let mut session = Self { folder, url, ledger, up: None, servers: None };
        if ledger == Ledger::Servers {
            session.servers = Some(Servers::start().await);
        } else {
            session.up = Some(session.serve(&address).await);
        }
        session
    }

    /// Starts `release-ledger up`, and waits until it is ready and the demo history, if it plays that, is complete.
    async fn serve(&self, address: &str) -> Command {
        let data = self.path("data");
        let mut arguments = vec!["up", "--data-dir", &*data, "--listen", address];
        let is_demo = self.ledger == Ledger::Demo;
        arguments.extend(is_demo.then_some("--demo"));
        let variables = self.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let mut up = Command::start_with(PROGRAM, &arguments, &variables);
        Client::new(&self.url).wait_until_ready().await;
        if is_demo {
            up.line_with("the demo history is complete").await;
        }
        up
    }

    /// Runs the commands of a document, after the script `given`, and returns what is wrong with each example: the
    /// first that fails ends the session.
    pub(crate) async fn run(&self, blocks: &[Block], given: &str) -> Vec<String> {
        let blocks: Vec<_> = blocks.iter().map(|block| self.substituted(block)).collect();
        self.write_files(&blocks);
        let examples = Example::all(&blocks);
        let script = self.folder.path().join("script");
        std::fs::write(&script, shell_script(given, &examples)).expect("written");

        let variables = self.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let script = script.to_str().expect("UTF-8");
        let outcome = Command::start_with("bash", &[script], &variables).outcome().await;

        let mut printed: Vec<_> = outcome.stdout.split(SEPARATOR).collect();
        let last = printed.pop().unwrap_or_default();
        if printed.is_empty() {
            return vec![format!("what stands before the document fails with {:?}:\n{last}", outcome.code)];
        }
        let printed = &printed[1..];
        let mut wrong = Vec::new();
        for (example, printed) in examples.iter().zip(printed) {
            if !example.is_printed_in(printed) {
                let Example { line, commands, output, .. } = example;
                wrong.push(format!("line {line}:\n{commands}expected:\n{output}printed:\n{printed}"));
            }
        }
        if let Some(Example { line, commands, .. }) = examples.get(printed.len()) {
            wrong.push(format!("line {line}: exit status {:?}:\n{commands}printed:\n{last}", outcome.code));
        }
        wrong
    }

    /// Stops the service.
    pub(crate) async fn stop(self) {
        if let Some(up) = self.up {
            up.send_sigterm();
            let outcome = up.outcome().await;
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        }
    }

    /// Returns a block with the address of the service and the folder of its settings in this session.
    fn substituted(&self, block: &Block) -> Block {
        let text = block.text.replace(SERVICE, &self.url).replace(SETTINGS_FOLDER, &self.path("etc"));
        Block { text, ..block.clone() }
    }

    /// Writes the files of a document, and its settings of the service as `ledger.toml`.
    fn write_files(&self, blocks: &[Block]) {
        let mut settings = String::new();
        for block in blocks.iter().filter(|block| block.not_run().is_none()) {
            if let Some(name) = block.file() {
                let path = self.folder.path().join("work").join(name);
                std::fs::write(&path, &block.text).expect("written");
                if block.language == "sh" {
                    make_executable(&path);
                }
            } else if block.language == "toml" {
                settings += &block.text;
            }
        }
        if !settings.is_empty() {
            std::fs::write(self.path("work/ledger.toml"), settings).expect("written");
        }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let mut variables: Vec<_> =
            no_ci().into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        variables.extend([
            ("PATH", format!("{}:{}", self.path("bin"), search.to_string_lossy())),
            ("HOME", self.path("home")),
            ("XDG_CONFIG_HOME", self.path("home/config")),
            ("XDG_STATE_HOME", self.path("home/state")),
            ("USER", "ada".to_owned()),
            ("RELEASE_LEDGER_URL", self.url.clone()),
            ("BIN", self.path("bin")),
            ("WORK", self.path("work")),
            ("SCRATCH", self.path("scratch")),
        ]);
        if let Some(servers) = &self.servers {
            variables.push(("RELEASE_LEDGER_JOURNAL__URL", servers.nats_url()));
            variables.push(("RELEASE_LEDGER_PROJECTIONS__URL", servers.postgres_url()));
        }
        // The token that `up` wrote for its user, for requests without the program.
        if let Ok(token) = std::fs::read_to_string(self.path("home/config/release-ledger/tokens/local")) {
            variables.push(("RELEASE_LEDGER_TOKEN", token.trim().to_owned()));
        }
        variables
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

/// Returns a script that runs what stands before the document, and then each example, with a separator before each and
/// at the end. Both outputs are in stdout, as in a terminal.
fn shell_script(given: &str, examples: &[Example]) -> String {
    let mut script = format!("set -e\nexec 2>&1 </dev/null\ncd \"$WORK\"\n{PRELUDE}{given}");
    script += END;
    for Example { commands, output, follows, .. } in examples {
        if *follows {
            let lines = output.lines().count().max(1);
            // A group of its own, which ends as a whole.
            let run = format!("set -m\n(\n{commands}) >followed 2>&1 &\nset +m\nended_after {lines}\n");
            script += &run;
        } else {
            script += commands;
        }
        script += END;
    }
    script
}

fn make_executable(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}
