//! Metrics of the process, from `/proc`. A system without it has none of them.

use std::fs;

use metrics::gauge;

/// Clock ticks per second in `/proc` (`USER_HZ`): 100 on every architecture of Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Use of resources, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    /// Start of the process, in seconds after that of the system.
    started_after_boot: f64,
}

/// Sets the gauges of the process. Reads files of `/proc`, which takes less than a millisecond.
pub(crate) fn set_gauges() {
    let read = |path: &str| fs::read_to_string(path).ok();
    if let Some(usage) = read("/proc/self/stat").as_deref().and_then(parse_usage) {
        gauge!("process_cpu_seconds_total").set(usage.cpu_seconds);
        if let Some(boot) = read("/proc/stat").as_deref().and_then(parse_boot_time) {
            gauge!("process_start_time_seconds").set(boot + usage.started_after_boot);
        }
    }
    if let Some(bytes) = read("/proc/self/status").as_deref().and_then(parse_resident_bytes) {
        gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // Without the one that lists them.
        gauge!("process_open_fds").set(descriptors.count().saturating_sub(1) as f64);
    }
}

/// Parses `/proc/self/stat`. The name of the program, in parentheses, may contain spaces and parentheses.
fn parse_usage(stat: &str) -> Option<Usage> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The first of them is field 3 of proc(5): 14 and 15 are the times in user and kernel mode, 22 is the start.
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Usage {
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
        started_after_boot: ticks(22)? / TICKS_PER_SECOND,
    })
}

/// Returns the Unix time at which the system started, from `/proc/stat`.
fn parse_boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Returns the resident memory, from `/proc/self/status`, which states it in units of 1024 bytes.
fn parse_resident_bytes(status: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_found_behind_any_name_of_the_program() {
        for name in ["release-ledger", "a b", "a) R 1 (b"] {
            let stat = format!(
                "4711 ({name}) S 1 4711 4711 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 9 0 12345 2621440 800 18446744073709551615\n"
            );
            let expected = Usage { cpu_seconds: 2.0, started_after_boot: 123.45 };
            assert_eq!(parse_usage(&stat), Some(expected), "{name}");
        }
        assert_eq!(parse_usage("4711 (release-ledger) S 1"), None);
        assert_eq!(parse_usage(""), None);
    }

    #[test]
    fn memory_and_boot_time_are_found_among_other_lines() {
        assert_eq!(
            parse_resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\nVmData:\t 1 kB\n"),
            Some(2_097_152.0)
        );
        assert_eq!(parse_resident_bytes("Name:\ta\n"), None);
        assert_eq!(parse_boot_time("cpu 1 2 3\nbtime 1785585600\nprocesses 9\n"), Some(1_785_585_600.0));
        assert_eq!(parse_boot_time("cpu 1 2 3\n"), None);
    }
}
