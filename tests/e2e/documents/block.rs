//! Fenced blocks of a document, with the words of their info strings.

/// A fenced block. After the language, its info string may say `file:NAME` (the block is this file), `output` (it is
/// what the commands above print), `follow` (its commands run until they are interrupted) and `not-run:REASON`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The number of the line that opens the block, from 1.
    pub(crate) line: usize,
    /// The language; empty if the block names none.
    pub(crate) language: String,
    /// The words after the language.
    pub(crate) words: Vec<String>,
    /// The content, without the indentation of the block, ending with a line feed unless it is empty.
    pub(crate) text: String,
}

impl Block {
    /// Returns the blocks of a document, in order.
    pub(crate) fn parse(document: &str) -> Vec<Self> {
        let mut blocks = Vec::new();
        let mut open: Option<(usize, Self)> = None;
        for (line, text) in (1..).zip(document.lines()) {
            let content = text.trim_start();
            match (open.take(), content.strip_prefix("```")) {
                (None, None) => {}
                (None, Some(info)) => {
                    let mut words = info.split_whitespace().map(str::to_owned);
                    let language = words.next().unwrap_or_default();
                    let block = Self { line, language, words: words.collect(), text: String::new() };
                    open = Some((text.len() - content.len(), block));
                }
                (Some((_, block)), Some(_)) => blocks.push(block),
                (Some((indentation, mut block)), None) => {
                    block.text += text.get(indentation..).unwrap_or_default();
                    block.text.push('\n');
                    open = Some((indentation, block));
                }
            }
        }
        assert!(open.is_none(), "every block is closed");
        blocks
    }

    /// Returns true if the info string has this word.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.words.iter().any(|given| given == word)
    }

    /// Returns the name of the file that the block is.
    pub(crate) fn file(&self) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix("file:"))
    }

    /// Returns the reason for which the block is not run.
    pub(crate) fn not_run(&self) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix("not-run:"))
    }

    /// Returns true if the block consists of commands that are run.
    pub(crate) fn is_commands(&self) -> bool {
        matches!(&*self.language, "sh" | "console" | "python")
            && self.file().is_none()
            && self.not_run().is_none()
    }
}

#[test]
fn a_block_has_its_line_its_words_and_its_text_without_indentation() {
    let document = "Text\n\n1. Item:\n\n   ```sh follow\n   one\n     two\n\n   ```\n\n```\nthree\n```\n";
    let block = |line, language: &str, words: &[&str], text: &str| Block {
        line,
        language: language.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        text: text.to_owned(),
    };
    assert_eq!(
        Block::parse(document),
        [block(5, "sh", &["follow"], "one\n  two\n\n"), block(11, "", &[], "three\n")]
    );
}
