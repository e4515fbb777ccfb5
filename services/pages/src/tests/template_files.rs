//! Rules for the files of the templates.

use std::path::PathBuf;

/// Returns the templates with their names.
fn templates() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("templates");
    let files = std::fs::read_dir(folder).expect("the folder of the templates");
    let paths = files.map(|file| file.expect("a file").path());
    paths.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a template"))).collect()
}

#[test]
fn a_template_has_no_script_no_inline_style_and_no_event_handler() {
    let templates = templates();
    assert!(templates.len() > 10, "the templates are found");
    for (path, text) in templates {
        let text = text.to_lowercase();
        for banned in
            ["<script", "<style", " style=", "javascript:", "data:", "<iframe", "<svg", "<img", "<base"]
        {
            assert!(!text.contains(banned), "{}: {banned}", path.display());
        }
        let attributes = text.split(|c: char| c.is_whitespace() || c == '"');
        let handler = attributes.into_iter().find(|word| word.starts_with("on") && word.contains('='));
        assert_eq!(handler, None, "{}", path.display());
    }
}

#[test]
fn a_template_escapes_everything() {
    for (path, text) in templates() {
        assert_eq!(
            path.extension().and_then(|extension| extension.to_str()),
            Some("html"),
            "{}",
            path.display()
        );
        for banned in ["|safe", "| safe", "|escape", "| escape", "{% filter"] {
            assert!(!text.contains(banned), "{}: {banned}", path.display());
        }
    }
}
