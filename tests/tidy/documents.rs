//! Documents: the files that they name exist, their lines are short, and the guide for operators lists every setting
//! and every metric.

use std::fs;
use std::path::PathBuf;

use release_ledger::metric_catalog::METRICS;

use crate::assert_none;
use crate::tree::{files, read, relative, root, rust_files};

/// Folders of the root that contain no documents of the project.
const GENERATED: &[&str] = &["target"];

/// Folders that a path may start from: the root, or `services`.
const BASES: [&str; 2] = ["", "services"];

/// Types of media types.
const MEDIA: [&str; 3] = ["application", "text", "image"];

/// Maximum number of characters of a line, except in tables and code blocks.
const WIDTH: usize = 120;

/// Guide that lists all settings and metrics.
const OPERATORS_GUIDE: &str = "ops/guides/operators.md";

/// Settings with their defaults.
const DEFAULTS: &str = "services/server/src/config.default.toml";

/// Macros that record a metric.
const METRIC_MACROS: [&str; 3] = ["counter!(", "gauge!(", "histogram!("];

#[test]
fn documents_name_files_that_exist() {
    let mut violations = Vec::new();
    for document in documents() {
        for (line, path) in mentioned(&read(&document)) {
            if !BASES.iter().any(|base| root().join(base).join(&path).exists()) {
                violations.push(format!("{}:{line}: {path}", relative(&document)));
            }
        }
    }
    assert_none(
        &violations,
        "The document names a file that does not exist: correct it (paths start at the root, or below services/).",
    );
}

#[test]
fn lines_of_documents_are_short() {
    let mut violations = Vec::new();
    for document in documents() {
        for (line, width) in long_lines(&read(&document)) {
            violations.push(format!("{}:{line}: {width} characters", relative(&document)));
        }
    }
    assert_none(&violations, &format!("Wrap the line at {WIDTH} characters:"));
}

#[test]
fn the_operators_guide_lists_every_setting_with_its_default() {
    let settings = settings(&read(&root().join(DEFAULTS)));
    assert!(!settings.is_empty(), "{DEFAULTS} has settings");
    let expected: Vec<_> = settings
        .into_iter()
        .map(|(key, default)| {
            let default = default.map_or_else(|| "unset".to_owned(), |default| format!("`{default}`"));
            format!("| `{key}` | {default} |")
        })
        .collect();
    let guide = read(&root().join(OPERATORS_GUIDE));
    let rows = rows(&guide, "Settings");
    let missing = expected.iter().filter(|row| !rows.iter().any(|line| line.starts_with(&**row)));
    let mut violations: Vec<_> = missing.map(|row| format!("missing: {row} meaning |")).collect();
    let stale = rows.iter().filter(|line| !expected.iter().any(|row| line.starts_with(&**row)));
    violations.extend(stale.map(|line| format!("stale: {line}")));
    assert_none(
        &violations,
        &format!("Correct the table of settings in {OPERATORS_GUIDE}: it follows {DEFAULTS}."),
    );
}

#[test]
fn the_operators_guide_lists_every_metric() {
    let services = root().join("services");
    let sources = rust_files().into_iter().filter(|path| path.starts_with(&services));
    let recorded: Vec<_> = sources.flat_map(|path| metrics(&read(&path))).collect();
    assert!(!recorded.is_empty(), "the services record metrics");
    let guide = read(&root().join(OPERATORS_GUIDE));
    let listed: Vec<_> =
        rows(&guide, "Metrics").into_iter().filter_map(|row| row.split('`').nth(1)).collect();
    let missing = recorded.iter().filter(|metric| !listed.contains(&metric.as_str()));
    let mut violations: Vec<_> = missing.map(|metric| format!("missing: {metric}")).collect();
    let stale = listed.iter().filter(|metric| !recorded.iter().any(|name| name == **metric));
    violations.extend(stale.map(|metric| format!("stale: {metric}")));
    violations.sort_unstable();
    violations.dedup();
    assert_none(
        &violations,
        &format!("Correct the table of metrics in {OPERATORS_GUIDE}: it follows the sources."),
    );
}

#[test]
fn the_operators_guide_gives_each_metric_the_type_and_the_meaning_of_its_help() {
    let guide = read(&root().join(OPERATORS_GUIDE));
    let listed: Vec<_> = rows(&guide, "Metrics").iter().filter_map(|row| metric_row(row)).collect();
    let described = METRICS.iter().map(|metric| {
        let metric_type = format!("{:?}", metric.metric_type).to_lowercase();
        (metric.name.to_owned(), metric_type, metric.help.to_owned())
    });
    let described: Vec<_> = described.collect();
    let missing = described.iter().filter(|metric| !listed.contains(metric));
    let mut violations: Vec<_> = missing.map(|metric| format!("only in the catalog: {metric:?}")).collect();
    let stale = listed.iter().filter(|metric| !described.contains(metric));
    violations.extend(stale.map(|metric| format!("only in the guide: {metric:?}")));
    violations.sort_unstable();
    assert_none(
        &violations,
        &format!(
            "Make the table of metrics in {OPERATORS_GUIDE} and metric_catalog.rs of the server the same."
        ),
    );
}

/// Returns the name, the type and the meaning, without code marks, of a row of the table of metrics.
fn metric_row(row: &str) -> Option<(String, String, String)> {
    let mut cells = row.trim_matches('|').split('|').map(str::trim);
    let name = cells.next()?.split('`').nth(1)?.to_owned();
    Some((name, cells.next()?.to_owned(), cells.next()?.replace('`', "")))
}

/// Returns all documents of the project.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    for entry in fs::read_dir(root()).expect("the root is a folder") {
        let path = entry.expect("an entry of the root").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy();
        if name.starts_with('.') || GENERATED.contains(&&*name) {
            continue;
        }
        if path.is_dir() { documents.extend(files(&path)) } else { documents.push(path) }
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents.sort();
    assert!(documents.len() > 2, "the project has documents");
    documents
}

/// Returns the paths that a text mentions, each with its line: in `code`, and in blocks if they start with a folder of
/// the root.
fn mentioned(text: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (line, text, is_in_block) in lines(text) {
        if is_in_block {
            let ours = text.split_whitespace().filter_map(path).filter(|path| starts_in_the_root(path));
            paths.extend(ours.map(|path| (line, path.to_owned())));
        } else {
            let code = text.split('`').skip(1).step_by(2);
            let first_words = code.filter_map(|code| code.split_whitespace().next());
            paths.extend(first_words.filter_map(path).map(|path| (line, path.to_owned())));
        }
    }
    paths
}

/// Returns the lines that are too long, each with its number of characters. Tables and code blocks are exempt.
fn long_lines(text: &str) -> Vec<(usize, usize)> {
    let prose =
        lines(text).filter(|(_, text, is_in_block)| !is_in_block && !text.trim_start().starts_with('|'));
    prose.map(|(line, text, _)| (line, text.chars().count())).filter(|(_, width)| *width > WIDTH).collect()
}

/// Returns the lines of a text with their numbers, except the fences of code blocks; true: inside a block.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str, bool)> {
    let mut is_in_block = false;
    (1..).zip(text.lines()).filter_map(move |(line, text)| {
        if text.trim_start().starts_with("```") {
            is_in_block = !is_in_block;
            return None;
        }
        Some((line, text, is_in_block))
    })
}

/// Returns the word if it is a path inside the project.
fn path(word: &str) -> Option<&str> {
    let word = word.strip_prefix("./").unwrap_or(word).trim_end_matches(['/', ',', ':', ';', '.']);
    let (top, _) = word.split_once('/')?;
    let is_plain =
        word.chars().all(|character| character.is_ascii_alphanumeric() || "._-/".contains(character));
    let is_elsewhere = top.is_empty() || top == ".." || GENERATED.contains(&top) || MEDIA.contains(&top);
    (is_plain && !is_elsewhere).then_some(word)
}

fn starts_in_the_root(path: &str) -> bool {
    path.split('/').next().is_some_and(|top| root().join(top).is_dir())
}

/// Returns the settings of a TOML file with their defaults; a commented setting has none.
fn settings(text: &str) -> Vec<(String, Option<String>)> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
            continue;
        }
        let commented = line.strip_prefix("# ");
        let Some((key, value)) = commented.unwrap_or(line).split_once(" = ") else { continue };
        let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if is_key {
            let default = commented.is_none().then(|| value.to_owned());
            settings.push((format!("{section}{key}"), default));
        }
    }
    settings
}

/// Returns the rows of the table in a section of a document, without its header.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    let start = format!("## {heading}");
    let section = text.lines().skip_while(|line| *line != start).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    section.filter(|line| line.starts_with("| `")).collect()
}

/// Returns the names of the metrics that a source records.
fn metrics(source: &str) -> Vec<String> {
    let after = |name: &'static str| source.split(name).skip(1);
    let literals =
        METRIC_MACROS.into_iter().flat_map(after).filter_map(|rest| rest.trim_start().strip_prefix('"'));
    literals.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn a_path_is_distinguished_from_other_words_with_a_slash() {
    let text = "Run `ops/test --fast`; `domain/src/` is pure.\nNot `GET /v1/events`, `application/json`, `and`.\n\
                ```sh\nops/quickstart --stay # either/or\n```\n";
    let found = [(1, "ops/test"), (1, "domain/src"), (4, "ops/quickstart")];
    assert_eq!(mentioned(text), found.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn tables_and_code_blocks_may_be_wide() {
    let wide = "x".repeat(WIDTH + 1);
    let text = format!("{wide}\n| {wide} |\n```\n{wide}\n```\n{}\n", "ü".repeat(WIDTH));
    assert_eq!(long_lines(&text), [(1, WIDTH + 1)]);
}

#[test]
fn settings_and_metrics_are_found_in_their_sources() {
    let defaults =
        "# Tenants, such as a = b.\ntenants = [\"a\"]\n\n[http]\n# certificate = \"file\"\nlisten = \"x\"\n";
    let found = settings(defaults);
    let found: Vec<_> = found.iter().map(|(key, default)| (key.as_str(), default.as_deref())).collect();
    assert_eq!(
        found,
        [("tenants", Some("[\"a\"]")), ("http.certificate", None), ("http.listen", Some("\"x\""))]
    );
    let source = "counter!(\"a_total\").increment(1);\n    gauge!(\n        \"b\", \"tenant\" => t).set(0);";
    assert_eq!(metrics(source), ["a_total", "b"]);
}
