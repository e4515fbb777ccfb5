//! Help: the groups of commands, and an example and the exit statuses for each command that its own file has none of.
//!
//! Invariant: no line is wider than the terminal, and every command line in it can be copied: it continues as a shell
//! reads it.

use clap::Command;
use ledger_client::table::wrap;
use ledger_client::terminal_width;

/// Widest help, in columns.
const MAX_WIDTH: usize = 100;

/// Narrowest help, in columns: names of flags and commands do not fit into less.
const MIN_WIDTH: usize = 40;

/// Width of help that is not shown by a terminal, in columns.
const DEFAULT_WIDTH: usize = 80;

/// Further indent of the lines on which a command line continues, in columns.
const CONTINUED_INDENT: usize = 4;

/// The commands, grouped by what people do with them.
const GROUPS: &[(&str, &[&str])] = &[
    ("Report", &["emit", "run", "check", "switch", "remove", "correct", "spool", "import"]),
    (
        "Ask",
        &[
            "overview",
            "services",
            "state",
            "diff",
            "history",
            "entry",
            "find",
            "why",
            "audit",
            "frequency",
            "events",
            "explain",
            "position",
            "points",
            "point",
            "horizon",
            "targets",
            "drift",
            "manifest",
            "gate",
            "backtest",
        ],
    ),
    (
        "Decide and roll back",
        &[
            "rollback",
            "mark",
            "unmark",
            "freeze",
            "unfreeze",
            "approve",
            "reject",
            "revoke",
            "reinstate",
            "policy",
            "retire",
            "env",
        ],
    ),
    (
        "Operate",
        &[
            "up",
            "serve",
            "demo",
            "archive",
            "restore",
            "verify",
            "projections",
            "quarantine",
            "subscription",
            "hook",
            "context",
            "login",
            "logout",
            "whoami",
            "token",
            "grant",
            "tenant",
            "access",
        ],
    ),
];

/// The heading of commands that are in no group.
const OTHERS: &str = "Other";

/// An example of each command that has none in its own file.
const EXAMPLES: &[(&str, &str)] = &[
    ("up", "release-ledger up --listen 127.0.0.1:8080"),
    ("serve", "release-ledger serve --config ledger.toml"),
    ("archive", "release-ledger archive --to /var/backups/ledger --config ledger.toml"),
    ("archive verify", "release-ledger archive verify --from /var/backups/ledger"),
    ("restore", "release-ledger restore --from /var/backups/ledger --config ledger.toml"),
    ("spool list", "release-ledger spool list"),
    ("spool send", "release-ledger spool send"),
    ("import releases", "release-ledger import releases history.ndjson.gz"),
    ("import github", "release-ledger import github deployments.json"),
    ("import gitlab", "release-ledger import gitlab deployments.json"),
    (
        "import csv",
        "release-ledger import csv deploys.csv --map time=at --map environment=env --map service=app --map version=tag",
    ),
    ("import cdviz", "release-ledger import cdviz lake.ndjson"),
    ("state", "release-ledger state production --at -1"),
    ("overview", "release-ledger overview"),
    ("services", "release-ledger services"),
    ("entry", "release-ledger entry 4711"),
    ("find", "release-ledger find 2f1c9ab"),
    ("frequency", "release-ledger frequency production --service web --by month"),
    ("why", "release-ledger why production web"),
    ("audit", "release-ledger audit production --since 7d"),
    ("events types", "release-ledger events types"),
    ("explain", "release-ledger explain deploy.succeeded"),
    ("env list", "release-ledger env list"),
    ("freeze list", "release-ledger freeze list --active"),
    ("subscription list", "release-ledger subscription list"),
    ("subscription show", "release-ledger subscription show chat"),
    ("subscription remove", "release-ledger subscription remove chat"),
    ("subscription deliveries", "release-ledger subscription deliveries chat"),
    ("diff", "release-ledger diff production"),
    ("history", "release-ledger history --environment production --service web"),
    ("position", "release-ledger position"),
    ("points", "release-ledger points production --status known-good"),
    ("point", "release-ledger point production last-known-good"),
    ("horizon", "release-ledger horizon production"),
    ("targets", "release-ledger targets production"),
    ("drift", "release-ledger drift production"),
    ("manifest", "release-ledger manifest production --format yaml --output production.yaml"),
    ("rollback plan", "release-ledger rollback plan production --to last-known-good"),
    (
        "rollback request",
        "release-ledger rollback request production --to last-known-good --reason 'Customers see errors.'",
    ),
    ("rollback approve", "release-ledger rollback approve back-1 --by noa"),
    ("rollback reject", "release-ledger rollback reject back-1 --reason 'Roll forward.'"),
    ("rollback execute", "release-ledger rollback execute back-1 --exec ./deploy.sh"),
    ("rollback fail", "release-ledger rollback fail back-1 --reason 'A target is lost.'"),
    ("rollback cancel", "release-ledger rollback cancel back-1"),
    ("rollback list", "release-ledger rollback list --environment production"),
    ("rollback show", "release-ledger rollback show back-1"),
    ("rollback watch", "release-ledger rollback watch back-1"),
    (
        "env rebuild",
        "release-ledger env rebuild --from production@last-known-good --into dr-site --exec ./deploy.sh",
    ),
    ("backtest", "release-ledger backtest policy.json --environment production"),
    ("demo", "release-ledger demo"),
    ("context list", "release-ledger context list"),
    ("context show", "release-ledger context show production"),
    ("context use", "release-ledger context use production"),
    ("context remove", "release-ledger context remove production"),
    ("logout", "release-ledger logout"),
    ("whoami", "release-ledger whoami"),
    ("token generate", "release-ledger token generate --name ada"),
    ("token create", "release-ledger token create --name ci --kind workload --expires-in 90d"),
    ("token rotate", "release-ledger token rotate 8c1f2e3d4a5b6978 --overlap 1h"),
    ("token revoke", "release-ledger token revoke 8c1f2e3d4a5b6978 --reason 'It leaked.'"),
    ("token list", "release-ledger token list"),
    ("grant remove", "release-ledger grant remove search-ci"),
    ("grant list", "release-ledger grant list"),
    ("tenant create", "release-ledger tenant create maps"),
    ("tenant retire", "release-ledger tenant retire maps --reason 'The team has left.'"),
    ("tenant list", "release-ledger tenant list"),
    (
        "access explain",
        "release-ledger access explain emit --token 8c1f2e3d4a5b6978 --environment production",
    ),
    ("access reads", "release-ledger access reads --principal ada --since 7d"),
    ("quarantine list", "release-ledger quarantine list"),
    ("quarantine show", "release-ledger quarantine show ID"),
    ("quarantine retry", "release-ledger quarantine retry --all"),
    ("quarantine discard", "release-ledger quarantine discard ID --reason 'A test of the webhook.'"),
    ("projections list", "release-ledger projections list --config ledger.toml"),
    ("projections rebuild", "release-ledger projections rebuild --config ledger.toml"),
    ("verify", "release-ledger verify --config ledger.toml"),
];

/// The exit statuses of most commands.
const EXIT_STATUS: &str = "Exit status:
  0  done
  1  failed
  2  invalid arguments, or an invalid URL, tenant or context";

/// The exit statuses of commands with `--exit-code`.
const FOUND_EXIT_STATUS: &str = "Exit status:
  0  done; with --exit-code: nothing found
  1  failed
  2  invalid arguments, or an invalid URL, tenant or context
  3  with --exit-code: something found";

/// Exit statuses of commands with others.
const EXIT_STATUSES: &[(&str, &str)] = &[
    ("audit", FOUND_EXIT_STATUS),
    ("diff", FOUND_EXIT_STATUS),
    ("drift", FOUND_EXIT_STATUS),
    ("policy diff", FOUND_EXIT_STATUS),
    ("rollback plan", FOUND_EXIT_STATUS),
    ("targets", FOUND_EXIT_STATUS),
    (
        "demo",
        "Exit status:
  0  done
  1  failed
  2  invalid arguments, or an invalid URL, tenant or context
  3  the ledger has other entries",
    ),
    (
        "history",
        "Exit status:
  0    done, or with --follow: the reader of the output has ended
  1    failed
  2    invalid arguments, or an invalid URL, tenant or context
  130  with --follow: Ctrl-C",
    ),
];

/// Usages that are too long for one line. Clap does not wrap a usage.
const USAGES: &[(&str, &str)] = &[
    (
        "run",
        "release-ledger run [OPTIONS] --environment <NAME> --service <NAME>
           --version <VERSION> -- <COMMAND>...",
    ),
    (
        "rollback request",
        "release-ledger rollback request [OPTIONS] --to <POINT> --reason <TEXT>
           <ENVIRONMENT>",
    ),
    (
        "mark",
        "release-ledger mark [OPTIONS] --as <STATUS> --reason <TEXT>
           <ENVIRONMENT> <POINT>",
    ),
    (
        "env rebuild",
        "release-ledger env rebuild [OPTIONS] --from <ENVIRONMENT@POINT>
           --into <ENVIRONMENT> --exec <COMMAND>",
    ),
    (
        "grant add",
        "release-ledger grant add [OPTIONS] --verb <VERB>
           <--to-token <ID>|--to-subject <ISSUER> <SUBJECT>|--to-claims
           <ISSUER NAME=PATTERN> <ISSUER NAME=PATTERN>...> <NAME>",
    ),
];

/// Returns the width of the help, in columns: that of the terminal, within bounds.
pub(super) fn width() -> usize {
    terminal_width().unwrap_or(DEFAULT_WIDTH).clamp(MIN_WIDTH, MAX_WIDTH)
}

/// Adds the groups of commands, the examples and the exit statuses to the help, and wraps it at a width.
pub(super) fn complete(command: Command, width: usize) -> Command {
    let list = groups(&command, width);
    let hint = "`release-ledger COMMAND --help` shows an example and the exit statuses of a command.";
    let hint = wrap(hint, width).join("\n");
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}Options:\n{{options}}\n\n{hint}\n"
    );
    explain(command.help_template(template).term_width(width), "", width)
}

/// Renders the groups, and the commands that are in none, in lines of a width.
fn groups(command: &Command, width: usize) -> String {
    let known = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let commands: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let names = commands.iter().map(|command| command.get_name().len()).max().unwrap_or_default();
    let indent = names + 4;
    let line = |command: &&Command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let about = wrap(&about, width.saturating_sub(indent)).join(&format!("\n{:indent$}", ""));
        format!("  {:names$}  {about}\n", command.get_name())
    };
    let mut list = String::new();
    for (heading, names) in GROUPS {
        let named =
            names.iter().filter_map(|name| commands.iter().find(|command| command.get_name() == *name));
        list.push_str(&format!("{heading}:\n{}\n", named.map(line).collect::<String>()));
    }
    let others: String = commands.iter().filter(|command| !known(command.get_name())).map(line).collect();
    if !others.is_empty() {
        list.push_str(&format!("{OTHERS}:\n{others}\n"));
    }
    list
}

/// Adds to the help of a command, and of its subcommands, what is missing there.
fn explain(command: Command, path: &str, width: usize) -> Command {
    let command = command.mut_subcommands(|subcommand| {
        let path = format!("{path} {}", subcommand.get_name());
        explain(subcommand, path.trim_start(), width)
    });
    if path.is_empty() || command.is_subcommand_required_set() {
        return command;
    }
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(command, _)| *command == path).map(|(_, text)| *text)
    };
    let written = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut parts = Vec::new();
    if !written.is_empty() {
        parts.push(written.clone());
    }
    if !written.contains("release-ledger ") {
        parts.extend(find(EXAMPLES).map(|example| format!("Example:\n  {example}")));
    }
    if !written.contains("Exit status:") {
        parts.push(find(EXIT_STATUSES).unwrap_or(EXIT_STATUS).to_owned());
    }
    let command = match find(USAGES) {
        Some(usage) => command.override_usage(usage),
        None => command,
    };
    command.after_help(continue_commands(&parts.join("\n\n"), width))
}

/// Continues the command lines of a text that are too long on further lines.
fn continue_commands(text: &str, width: usize) -> String {
    let is_too_long = |line: &str| {
        line.starts_with("  ") && line.contains("release-ledger ") && line.chars().count() > width
    };
    let lines = text.lines().map(|line| match is_too_long(line) {
        true => continue_command(line, width),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Breaks a command line between its flags and arguments. Each line but the last ends in a backslash.
fn continue_command(line: &str, width: usize) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut lines: Vec<String> = Vec::new();
    for part in command_parts(line) {
        match lines.last_mut() {
            // A space, and what continues the line.
            Some(last) if last.chars().count() + 1 + part.chars().count() + 2 <= width => {
                last.push(' ');
                last.push_str(&part);
            }
            _ => {
                let column = if lines.is_empty() { indent } else { indent + CONTINUED_INDENT };
                lines.push(format!("{:column$}{part}", ""));
            }
        }
    }
    lines.join(" \\\n")
}

/// Splits a command line into its words, each flag with the word that follows it.
fn command_parts(line: &str) -> Vec<String> {
    let mut quote = None;
    let is_end = |letter: char| {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
        letter == ' ' && quote.is_none()
    };
    let mut parts: Vec<String> = Vec::new();
    let mut is_flag = false;
    for word in line.split(is_end).filter(|word| !word.is_empty()) {
        match parts.last_mut() {
            Some(flag) if is_flag && !word.starts_with('-') => {
                flag.push(' ');
                flag.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
        is_flag = word.starts_with('-');
    }
    parts
}

#[cfg(test)]
mod tests;
