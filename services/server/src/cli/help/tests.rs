//! The help is complete, and its examples are valid.

use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::cli::Arguments;

/// Returns the commands that run, each with its path.
fn runnable(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    for subcommand in command.get_subcommands() {
        let path = format!("{path} {}", subcommand.get_name());
        if !subcommand.is_subcommand_required_set() {
            found.push((path.trim_start().to_owned(), subcommand.clone()));
        }
        runnable(subcommand, &path, found);
    }
}

/// Returns every command but `help`, each with its path.
fn all(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    found.push((path.trim_start().to_owned(), command.clone()));
    for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
        all(subcommand, &format!("{path} {}", subcommand.get_name()), found);
    }
}

/// Returns a text with single spaces between its words.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the words of a command line as a shell splits them, up to a redirection.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (None, '<' | '|' | '>') => break,
            (None, ' ') => words.push(String::new()),
            (Some(open), close) if open == close => quote = None,
            (_, letter) => words.last_mut().expect("a word").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_is_in_one_group_and_every_group_has_commands_that_exist() {
    let command = Arguments::command();
    let grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let distinct: BTreeSet<_> = grouped.iter().copied().collect();
    assert_eq!(grouped.len(), distinct.len(), "a command is in two groups");
    let commands: BTreeSet<_> = command.get_subcommands().map(Command::get_name).collect();
    assert_eq!(distinct, commands);
}

#[test]
fn every_command_has_an_example_and_its_exit_statuses() {
    let mut commands = Vec::new();
    runnable(&complete(Arguments::command(), DEFAULT_WIDTH), "", &mut commands);
    assert!(commands.len() > 60, "{} commands", commands.len());
    for (path, command) in &commands {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&format!("release-ledger {path}")), "{path} has no example: {help}");
        assert!(help.contains("Exit status:"), "{path} has no exit statuses: {help}");
    }
    let paths: BTreeSet<_> = commands.iter().map(|(path, _)| path.as_str()).collect();
    for (path, _) in EXAMPLES.iter().chain(EXIT_STATUSES) {
        assert!(paths.contains(path), "there is no command {path}");
    }
}

#[test]
fn every_command_that_reports_what_it_found_documents_the_exit_status() {
    let mut commands = Vec::new();
    runnable(&complete(Arguments::command(), DEFAULT_WIDTH), "", &mut commands);
    for (path, command) in commands {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let reports = command.get_arguments().any(|argument| argument.get_long() == Some("exit-code"));
        let documents =
            help.lines().any(|line| line.starts_with("  3  ") && line.contains("with --exit-code"));
        assert_eq!(documents, reports, "{path}: {help}");
    }
}

/// Commands without `--json`, each with the reason.
const WITHOUT_JSON: &[(&str, &str)] = &[
    ("run", "its output is that of the command that it runs"),
    ("check run", "its output is that of the command that it runs"),
    ("up", "it runs until it is stopped"),
    ("serve", "it runs until it is stopped"),
];

#[test]
fn every_command_that_answers_can_answer_in_json() {
    let mut commands = Vec::new();
    runnable(&Arguments::command(), "", &mut commands);
    let has_json = |command: &Command| command.get_arguments().any(|flag| flag.get_long() == Some("json"));
    let without: BTreeSet<_> =
        commands.iter().filter(|(_, command)| !has_json(command)).map(|(path, _)| path.as_str()).collect();
    assert_eq!(without, WITHOUT_JSON.iter().map(|(path, _)| *path).collect());
}

#[test]
fn every_example_is_valid() {
    let mut commands = Vec::new();
    runnable(&complete(Arguments::command(), DEFAULT_WIDTH), "", &mut commands);
    for (path, command) in commands {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let help = help.replace("\\\n", " ");
        for line in help.lines().filter(|line| line.starts_with("  ")) {
            let Some(start) = line.find("release-ledger ") else { continue };
            let arguments = words(&line[start..]);
            if let Err(error) = Arguments::try_parse_from(&arguments) {
                panic!("{path}: {arguments:?}: {error}");
            }
        }
    }
}

#[test]
fn the_help_of_the_program_lists_the_groups() {
    let help = complete(Arguments::command(), DEFAULT_WIDTH).render_help().to_string();
    let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text} is missing: {help}"));
    assert!(at("\nReport:\n  emit ") < at("\nAsk:\n  overview "), "{help}");
    assert!(at("\nDecide and roll back:\n  rollback ") < at("\nOperate:\n  up "), "{help}");
    assert!(at("Usage: ") < at("\nReport:") && at("\nOperate:") < at("\nOptions:\n"), "{help}");
    assert!(!help.contains('{') && !help.contains("Other:"), "{help}");
}

#[test]
fn the_help_of_every_command_fits_into_80_columns() {
    let mut program = complete(Arguments::command(), DEFAULT_WIDTH);
    program.build();
    let mut commands = Vec::new();
    all(&program, "", &mut commands);
    assert!(commands.len() > 80, "{} commands", commands.len());
    for (path, mut command) in commands {
        for help in [command.render_help(), command.render_long_help()] {
            for line in help.to_string().lines() {
                let columns = line.chars().count();
                assert!(columns <= DEFAULT_WIDTH, "{path}: {columns} columns: {line}");
            }
        }
    }
}

#[test]
fn a_usage_of_several_lines_is_that_of_the_command() {
    let mut program = Arguments::command();
    program.build();
    let mut commands = Vec::new();
    all(&program, "", &mut commands);
    for (path, usage) in USAGES {
        let (_, command) = commands.iter_mut().find(|(name, _)| name == path).expect("a command");
        let usage = format!("Usage: {}", on_one_line(usage));
        assert_eq!(on_one_line(&command.render_usage().to_string()), usage);
    }
}

#[test]
fn a_long_command_line_continues_between_its_flags_as_a_shell_reads_it() {
    let line = "  release-ledger freeze production --reason 'The sale  starts.' --until 2h -- sh -c 'a b'";
    let text = format!("Example:\n{line}\n\nExit status:\n  0  done");

    let continued = continue_commands(&text, 50);

    assert_eq!(
        continued,
        "Example:\n  release-ledger freeze production \\\n      --reason 'The sale  starts.' --until 2h \\\n      \
         -- sh -c 'a b'\n\nExit status:\n  0  done"
    );
    assert_eq!(words(&continued.replace("\\\n", " ")[9..]), words(&text[9..]));
    assert_eq!(continue_commands(&text, 100), text);
}
