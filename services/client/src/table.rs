//! Tables for a terminal: without borders, and without empty columns.

use comfy_table::{Table, presets};
use ledger_domain::escape_line;

/// Renders a table, with unprintable characters and line feeds in cells escaped. Omits the columns that are empty in
/// every row.
pub fn render<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let filled: Vec<usize> =
        (0..N).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(filled.iter().map(|column| header[*column]));
    for row in rows {
        table.add_row(filled.iter().map(|column| escape_line(&row[*column])));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_column_is_omitted() {
        let rows = [["api", "", "v1"], ["frontend", "", "v22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(["service", "slot", "version"], &rows),
            "service   version\napi       v1\nfrontend  v22"
        );
    }

    #[test]
    fn a_cell_is_one_line_and_cannot_control_the_terminal() {
        let rows = [["api", "a\n\u{1b}[2J\u{202e}b"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(["service", "reason"], &rows),
            "service  reason\napi      a\\n\\u{1b}[2J\\u{202e}b"
        );
    }
}
