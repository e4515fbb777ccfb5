//! Examples: commands of a document, with the output that the document shows for them.

use super::block::Block;

/// Place in an expected output where any text may stand.
const ANY: char = '…';

/// Commands, and what they print together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    /// The line of the block in the document, from 1.
    pub(crate) line: usize,
    /// Lines of a shell script.
    pub(crate) commands: String,
    /// The expected output; empty if the document shows none.
    pub(crate) output: String,
    /// True if the commands run until they are interrupted.
    pub(crate) follows: bool,
}

impl Example {
    /// Returns the examples of a document, in order. A block that is marked `output` belongs to the commands above it.
    pub(crate) fn all(blocks: &[Block]) -> Vec<Self> {
        let mut examples: Vec<Self> = Vec::new();
        for block in blocks {
            if block.is("output") {
                let example = examples.last_mut().expect("an output stands below commands");
                example.output += &block.text;
            } else if block.is_commands() {
                examples.extend(Self::of(block));
            }
        }
        examples
    }

    fn of(block: &Block) -> Vec<Self> {
        let (line, follows) = (block.line, block.is("follow"));
        let parts = match &*block.language {
            "sh" => of_script(&block.text),
            "console" => of_console(&block.text),
            _ => vec![(format!("python3 - <<'END_OF_BLOCK'\n{}END_OF_BLOCK\n", block.text), String::new())],
        };
        parts.into_iter().map(|(commands, output)| Self { line, commands, output, follows }).collect()
    }

    /// Returns true if the text contains the expected output; `…` stands for any text, and columns may have any width.
    pub(crate) fn is_printed_in(&self, text: &str) -> bool {
        let text = single_spaced(text);
        let mut rest = &*text;
        single_spaced(&self.output).split(ANY).map(str::trim).all(|part| {
            let found = rest.split_once(part);
            rest = found.map_or(rest, |(_, after)| after);
            found.is_some()
        })
    }
}

/// Returns commands with their output: lines that begin with `#` are the output of the commands above them.
fn of_script(text: &str) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    let (mut commands, mut output) = (String::new(), String::new());
    for line in text.lines() {
        let printed = if line == "#" { Some("") } else { line.strip_prefix("# ") };
        if let Some(printed) = printed {
            output += &format!("{printed}\n");
            continue;
        }
        if !output.is_empty() {
            parts.push((std::mem::take(&mut commands), std::mem::take(&mut output)));
        }
        commands += &format!("{line}\n");
    }
    parts.push((commands, output));
    parts
}

/// Returns commands with their output: a line that begins with `$`, and those that it continues on, are a command.
fn of_console(text: &str) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut is_continued = false;
    for line in text.lines() {
        let typed = line.strip_prefix("$ ");
        if typed.is_some() {
            parts.push((String::new(), String::new()));
        }
        let (commands, output) = parts.last_mut().expect("a console begins with a command");
        let is_command = typed.is_some() || is_continued;
        let part = if is_command { commands } else { output };
        *part += &format!("{}\n", typed.unwrap_or(line));
        is_continued = is_command && line.ends_with('\\');
    }
    parts
}

fn single_spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_output_of_a_script_stands_below_its_commands() {
    let text = "first\nsecond # a note\n# 1 … 2\n#\n# 3\n\nthird\n";
    let part = |commands: &str, output: &str| (commands.to_owned(), output.to_owned());
    assert_eq!(of_script(text), [part("first\nsecond # a note\n", "1 … 2\n\n3\n"), part("\nthird\n", "")]);
}

#[test]
fn the_commands_of_a_console_stand_behind_the_prompt() {
    let part = |commands: &str, output: &str| (commands.to_owned(), output.to_owned());
    assert_eq!(
        of_console("$ first \\\n  --flag\n$ second\n1\n2\n"),
        [part("first \\\n  --flag\n", ""), part("second\n", "1\n2\n")]
    );
}

#[test]
fn an_output_matches_in_order_with_any_text_and_width() {
    let example = Example { output: "a  b … d\ne".to_owned(), ..Example::default() };
    assert!(example.is_printed_in("a b\nc\nd    e"));
    assert!(!example.is_printed_in("a b\nc\nd x e"));
    assert!(!example.is_printed_in("d e\na b"));
}
