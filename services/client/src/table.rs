//! Tables for a terminal: without borders, and without empty columns.

use comfy_table::{Table, presets};

/// Renders a table. Omits the columns that are empty in every row.
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
    fn an_empty_column_is_omitted() {
        let rows = [["api", "", "v1"], ["frontend", "", "v22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            render(["service", "slot", "version"], &rows),
            "service   version\napi       v1\nfrontend  v22"
        );
    }
}
