//! Contexts are added, selected and removed; their files are private, and writers lose nothing of each other.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::thread;

use clap::Parser;
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    context: Context,
}

fn settings() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("config/release-ledger");
    (root, folder)
}

/// Runs a command; returns its output or its error, which never contain the secret.
fn run(folder: &Path, arguments: &str, stdin: &str) -> Result<String, String> {
    let arguments = ["context"].into_iter().chain(arguments.split(' '));
    let command = Command::try_parse_from(arguments).map_err(|error| error.to_string())?;
    let result = command.context.run_in(folder, stdin.as_bytes());
    let result = result.map(|shown| match shown.output.is_json() {
        true => shown.json,
        false => shown.report.to_string(),
    });
    let result = result.map_err(|error| format!("{error:#}"));
    let shown = format!("{result:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    result
}

#[test]
fn a_context_is_added_shown_used_and_removed() {
    let (_root, folder) = settings();
    let run = |arguments: &str| run(&folder, arguments, "s3cret\n");
    assert_eq!(run("list").expect("listed"), "no contexts");
    assert!(run("show").expect_err("none").contains("context use NAME"));
    assert!(run("use a").expect_err("none").starts_with("no context a; add it with"));

    let added = run("add a --url https://a.example --tenant shop --token-stdin").expect("added");
    assert_eq!(added, "added context a; it is the current context");
    let added = run("add b --url https://b.example/x --token-command pass show -q ledger").expect("added");
    assert_eq!(added, "added context b");
    assert!(run("add a --url https://c.example").expect_err("it exists").contains("context remove a"));

    let path = folder.join("tokens/a");
    assert_eq!(fs::read_to_string(&path).expect("stored"), "s3cret");
    assert_eq!(
        run("show").expect("shown"),
        format!(
            "current = \"a\"\n\n[contexts.a]\nurl = \"https://a.example/\"\ntenant = \"shop\"\ntoken_file = \"{}\"\n",
            path.display()
        )
    );
    assert_eq!(
        run("show b").expect("shown"),
        "[contexts.b]\nurl = \"https://b.example/x\"\ntoken_command = [\"pass\", \"show\", \"-q\", \"ledger\"]\n"
    );
    run("use b").expect("used");
    let listed = run("list").expect("listed");
    let rows: Vec<_> = listed.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(rows[0][..3], ["a", "https://a.example/", "shop"]);
    assert_eq!(rows[1], ["*", "b", "https://b.example/x", "`pass`"]);
    assert!(run("list --json").expect("listed").starts_with(r#"{"current":"b","contexts":{"a":{"url":"#));

    assert_eq!(run("remove a").expect("removed"), "removed context a");
    assert!(!path.exists());
    assert_eq!(run("remove b").expect("removed"), "removed context b; there is no current context");
    run("remove b").expect_err("it does not exist");
}

#[test]
fn a_change_as_json_names_the_context_and_the_current_one() {
    let (_root, folder) = settings();
    let run = |arguments: &str| run(&folder, arguments, "").expect("changed");
    assert_eq!(run("add a --url https://a.example --json"), r#"{"context":"a","current":"a"}"#);
    assert_eq!(run("add b --url https://b.example --json"), r#"{"context":"b","current":"a"}"#);
    assert_eq!(run("use b --json"), r#"{"context":"b","current":"b"}"#);
    assert_eq!(run("remove b --json"), r#"{"context":"b","current":null}"#);
}

#[test]
fn an_invalid_context_is_rejected_and_nothing_is_shown_of_it() {
    let (_root, folder) = settings();
    for (arguments, expected) in [
        ("add a --url https://ci:s3cret@a.example", "invalid --url: the URL must not contain credentials"),
        ("add a --url ftp://s3cret@a.example", "invalid --url: invalid URL"),
        ("add ../a --url https://a.example", "the name of a context"),
        ("add .a --url https://a.example", "the name of a context"),
        ("add a --url https://a.example --token-stdin", "invalid token in stdin: it must be one word"),
    ] {
        let error = run(&folder, arguments, "s3cret s3cret").expect_err("invalid");
        assert!(error.contains(expected), "{error}");
    }
    let large = "s".repeat(1 << 17);
    let error = run(&folder, "add a --url https://a.example --token-stdin", &large).expect_err("too large");
    assert!(error.contains("more than 65536 bytes"), "{error}");
    assert!(!folder.exists());
}

#[test]
fn a_file_that_was_edited_wrongly_is_an_error_with_its_line() {
    let (_root, folder) = settings();
    run(&folder, "add a --url https://a.example", "").expect("added");
    for (text, expected) in [
        ("[contexts.a]\nurl = \"https://ci:s3cret@a\"", "must not contain credentials"),
        ("[contexts.a]\nurl = \"https://a\"\ntoken = \"s3cret\"", "line 3: unknown field `token`"),
        (
            "[contexts.a]\nurl = \"https://a\"\ntoken_file = \"a\"\ntoken_command = [\"b\"]",
            "context a: it has",
        ),
        ("[contexts.a]\nurl = \"https://a\"\ntoken_command = []", "context a: its token_command is empty"),
        ("[contexts.\"a/b\"]\nurl = \"https://a\"", "the name of a context"),
    ] {
        fs::write(folder.join("config.toml"), text).expect("written");
        let error = run(&folder, "list", "").expect_err("invalid");
        assert!(
            error.contains(expected) && error.contains("config.toml") && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn files_and_folders_are_private_and_links_are_not_followed() {
    let (root, folder) = settings();
    run(&folder, "add a --url https://a.example --token-stdin", "s3cret").expect("added");
    let mode = |path: &Path| fs::symlink_metadata(path).expect("it exists").mode() & 0o7777;
    for (path, expected) in
        [("", 0o700), ("tokens", 0o700), ("config.toml", 0o600), ("lock", 0o600), ("tokens/a", 0o600)]
    {
        assert_eq!(mode(&folder.join(path)), expected, "{path}");
    }

    let victim = root.path().join("victim");
    fs::write(&victim, "precious").expect("written");
    fs::remove_file(folder.join("config.toml")).expect("removed");
    symlink(&victim, folder.join("config.toml")).expect("linked");
    run(&folder, "list", "").expect_err("a link");
    run(&folder, "add b --url https://b.example", "").expect_err("a link");
    fs::remove_file(folder.join("config.toml")).expect("removed");
    symlink(&victim, folder.join("tokens/b")).expect("linked");
    run(&folder, "add b --url https://b.example --token-stdin", "s3cret").expect("the link is replaced");
    assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    assert_eq!(fs::read_to_string(folder.join("tokens/b")).expect("read"), "s3cret");

    let link = root.path().join("link");
    symlink(&folder, &link).expect("linked");
    let error = run(&link, "list", "").expect_err("a link");
    assert!(error.contains("is a symbolic link"), "{error}");
}

#[test]
fn concurrent_writers_lose_nothing_of_each_other() {
    let (_root, folder) = settings();
    thread::scope(|scope| {
        for writer in ["a", "b"] {
            let folder = &folder;
            scope.spawn(move || {
                for number in 0..20 {
                    let arguments = format!("add {writer}{number} --url https://a.example --token-stdin");
                    run(folder, &arguments, "s3cret").expect("added");
                }
            });
        }
    });
    assert_eq!(Contexts::read(&folder).expect("contexts").contexts.len(), 40);
}
