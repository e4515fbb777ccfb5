//! SQL statements as files of the folder `sql`, one per statement.
//!
//! A line `-- include fragments/NAME.sql` stands for a fragment that several statements share. Session settings, bulk
//! inserts and statements with varying text are built in code.

/// Returns the text of `sql/<path>.sql`, which includes no fragment.
macro_rules! sql {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/", $path, ".sql"))
    };
}

/// Returns the text of `sql/<path>.sql` with its fragments. Assembles it once.
macro_rules! expanded_sql {
    ($path:literal) => {{
        static STATEMENT: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| $crate::sql::expand_includes($crate::sql::sql!($path)));
        STATEMENT.as_str()
    }};
}

pub(crate) use {expanded_sql, sql};

/// The fragments, by the line that includes them. A fragment follows those that include it.
const FRAGMENTS: [(&str, &str); 6] = [
    ("-- include fragments/check_start.sql", sql!("fragments/check_start")),
    ("-- include fragments/composition_since.sql", sql!("fragments/composition_since")),
    ("-- include fragments/freeze_holds.sql", sql!("fragments/freeze_holds")),
    ("-- include fragments/returns_to.sql", sql!("fragments/returns_to")),
    ("-- include fragments/tracks_of_environment.sql", sql!("fragments/tracks_of_environment")),
    ("-- include fragments/traffic_before.sql", sql!("fragments/traffic_before")),
];

/// Replaces the lines of a statement that include fragments with the fragments. Tests that read the files of the folder
/// `sql` thus get the text that the program runs.
#[must_use]
pub fn expand_includes(statement: &str) -> String {
    FRAGMENTS.iter().fold(statement.to_owned(), |text, (line, fragment)| text.replace(line, fragment))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_statement_has_its_fragments_in_place_of_the_lines_that_include_them() {
        let statement = "SELECT\n-- include fragments/tracks_of_environment.sql\nWHERE true";

        let expanded = expand_includes(statement);

        assert_eq!(expanded, format!("SELECT\n{}\nWHERE true", sql!("fragments/tracks_of_environment")));
    }

    #[test]
    fn every_statement_is_used_and_every_fragment_is_included() {
        let sources = sources();
        let statements = read_all("sql");
        let includes: Vec<&str> = statements.iter().flat_map(|(_, text)| included(text)).collect();
        let is_unused = |path: &&str| {
            let used = format!("sql!(\"{}\")", path.trim_end_matches(".sql"));
            !includes.contains(path) && !sources.iter().any(|source| source.contains(&used))
        };

        let unused: Vec<&str> = statements.iter().map(|(path, _)| path.as_str()).filter(is_unused).collect();

        assert_eq!(unused, Vec::<&str>::new());
    }

    /// Postgres takes an include that is not expanded for a comment.
    #[test]
    fn a_statement_with_includes_is_used_only_expanded() {
        let sources = sources();
        let statements = read_all("sql");
        let with_includes = statements.iter().filter(|(_, text)| included(text).next().is_some());
        let is_used_plain = |path: &&String| {
            let used = format!("sql!(\"{}\")", path.trim_end_matches(".sql"));
            let uses = |source: &String| source.matches(&used).count();
            sources.iter().any(|source| uses(source) > source.matches(&format!("expanded_{used}")).count())
        };

        let used_plain: Vec<&String> = with_includes.map(|(path, _)| path).filter(is_used_plain).collect();

        assert_eq!(used_plain, Vec::<&String>::new());
    }

    #[test]
    fn a_statement_with_includes_is_expanded_completely() {
        let statements = read_all("sql");

        let incomplete: Vec<&String> = statements
            .iter()
            .filter(|(_, text)| expand_includes(text).contains("-- include"))
            .map(|(path, _)| path)
            .collect();

        assert_eq!(incomplete, Vec::<&String>::new());
    }

    /// Returns the paths of the fragments that a text includes.
    fn included(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.trim().strip_prefix("-- include "))
    }

    /// Returns the sources that use statements, without white space: all but this file, which names every fragment.
    fn sources() -> Vec<String> {
        let sources = read_all("src").into_iter().filter(|(path, _)| path != "sql.rs");
        sources.map(|(_, text)| text.split_whitespace().collect()).collect()
    }

    /// Returns the files of a folder of the crate and of its subfolders: path below the folder, and text.
    pub(crate) fn read_all(folder: &str) -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files = Vec::new();
        let mut folders = vec![folder.clone()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).expect("read a folder") {
                let path = entry.expect("read an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&folder).expect("a path below the folder");
                files.push((name.display().to_string(), fs::read_to_string(&path).expect("read a file")));
            }
        }
        files
    }
}
