//! SQL statements as files of the folder `sql`, one per statement.
//!
//! A line `-- include fragments/NAME.sql` stands for a fragment that several statements share. Statements with another
//! text on each call are built in code.

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
            std::sync::LazyLock::new(|| $crate::sql::expand($crate::sql::sql!($path)));
        STATEMENT.as_str()
    }};
}

pub(crate) use {expanded_sql, sql};

/// The fragments, by the line that includes them.
const FRAGMENTS: [(&str, &str); 2] = [
    ("-- include fragments/check_start.sql", sql!("fragments/check_start")),
    ("-- include fragments/tracks_of_environment.sql", sql!("fragments/tracks_of_environment")),
];

/// Replaces the lines that include fragments with the fragments.
pub(crate) fn expand(statement: &str) -> String {
    FRAGMENTS.iter().fold(statement.to_owned(), |text, (line, fragment)| text.replace(line, fragment))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_statement_has_its_fragments_in_place_of_the_lines_that_include_them() {
        let statement = "SELECT\n-- include fragments/tracks_of_environment.sql\nWHERE true";

        let expanded = expand(statement);

        assert_eq!(expanded, format!("SELECT\n{}\nWHERE true", sql!("fragments/tracks_of_environment")));
    }

    #[test]
    fn every_statement_is_used_and_every_fragment_is_included() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = read_all(&root.join("src"));
        let statements = read_all(&root.join("sql"));
        let is_unused = |path: &&str| {
            let name = path.trim_end_matches(".sql");
            let is_included = statements.iter().any(|(_, text)| text.contains(&format!("include {path}")));
            !is_included && !sources.iter().any(|(_, text)| text.contains(&format!("sql!(\"{name}\")")))
        };

        let unused: Vec<&str> = statements.iter().map(|(path, _)| path.as_str()).filter(is_unused).collect();

        assert_eq!(unused, Vec::<&str>::new());
    }

    #[test]
    fn a_statement_with_includes_is_expanded_completely() {
        let statements = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sql"));

        let incomplete: Vec<&String> = statements
            .iter()
            .filter(|(_, text)| expand(text).contains("-- include"))
            .map(|(path, _)| path)
            .collect();

        assert_eq!(incomplete, Vec::<&String>::new());
    }

    /// Returns the files of a folder and of its subfolders: path below the folder, and text.
    fn read_all(folder: &Path) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).expect("read a folder") {
                let path = entry.expect("read an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(folder).expect("a path below the folder");
                files.push((name.display().to_string(), fs::read_to_string(&path).expect("read a file")));
            }
        }
        files
    }
}
