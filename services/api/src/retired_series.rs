//! Metrics without the series of retired tenants.
//!
//! The recorder keeps a series for as long as the process runs. Those of a tenant that is retired would keep their last
//! values, and alerts on them would never end.

use std::collections::BTreeSet;

use ledger_domain::TenantName;

/// Returns metrics in the Prometheus text format without the series of these tenants.
pub(crate) fn without_tenants(text: String, tenants: &BTreeSet<TenantName>) -> String {
    if tenants.is_empty() {
        return text;
    }
    let is_of_others =
        |line: &&str| tenant_of(line).is_none_or(|name| tenants.iter().all(|tenant| tenant.as_str() != name));
    text.split_inclusive('\n').filter(is_of_others).collect()
}

/// Returns the label `tenant` of a line; `None` without one. The name of a tenant has no character that is escaped, and a
/// quote in the value of another label is.
fn tenant_of(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    let (_, value) = line.split_once("{tenant=\"").or_else(|| line.split_once(",tenant=\""))?;
    let (name, _) = value.split_once('"')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"# TYPE ledger_up gauge
ledger_up{tenant="maps",part="journal"} 1
ledger_up{part="journal",tenant="maps"} 1
ledger_up{tenant="maps-2",part="journal"} 1
ledger_up{tenant="default",part="journal"} 1
ledger_lag{of_tenant="maps"} 2
ledger_lag{follower="a\",tenant=\"maps\"",tenant="default"} 3
ledger_seconds_bucket{tenant="maps",le="+Inf"} 4
ledger_http_connections 5
"#;

    fn retired(names: &[&str]) -> BTreeSet<TenantName> {
        names.iter().map(|name| TenantName::parse(name).expect("a tenant")).collect()
    }

    #[test]
    fn series_of_retired_tenants_are_left_out_and_all_other_lines_stay() {
        let text = without_tenants(METRICS.to_owned(), &retired(&["maps", "other"]));

        let expected = METRICS.lines().enumerate().filter(|(index, _)| ![1, 2, 7].contains(index));
        let expected: Vec<&str> = expected.map(|(_, line)| line).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn without_retired_tenants_nothing_changes() {
        assert_eq!(without_tenants(METRICS.to_owned(), &retired(&[])), METRICS);
    }
}
