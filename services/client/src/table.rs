//! Tables for a terminal: columns without lines, and no column that says nothing.

use comfy_table::{Table, presets};

/// A table's text. A column is left out where every row is empty in it.
pub fn render<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let filled: Vec<usize> =
        (0..N).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(filled.iter().map(|column| header[*column]));
    for row in rows {
        table.add_row(filled.iter().map(|column| &row[*column]));
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
    fn a_column_that_says_nothing_is_left_out() {
        let rows = [["api", "", "v1"], ["frontend", "", "v22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(["service", "slot", "version"], &rows),
            "service   version\napi       v1\nfrontend  v22"
        );
    }
}
