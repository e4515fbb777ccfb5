//! What the commands take from the environment they are run in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;

/// Where programs are looked for.
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Where a ledger is kept if nobody says otherwise. Postgres does not run as root, and the user that it
/// runs as instead cannot enter root's home.
pub fn data_dir() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/release-ledger".into());
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("release-ledger"));
    }
    let home =
        std::env::var_os("HOME").context("neither --data-dir nor HOME says where to keep the ledger")?;
    Ok(PathBuf::from(home).join(".local/share/release-ledger"))
}

/// Where commands keep what they must remember if nobody says otherwise.
pub fn state_dir() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/release-ledger".into());
    }
    if let Some(state) = std::env::var_os("XDG_STATE_HOME") {
        return Ok(PathBuf::from(state).join("release-ledger"));
    }
    let home = std::env::var_os("HOME")
        .context("neither --state-dir nor HOME says where to remember finished steps")?;
    Ok(PathBuf::from(home).join(".local/state/release-ledger"))
}

/// Where commands keep what they could not send if nobody says otherwise.
pub fn spool_dir() -> anyhow::Result<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let state = state
        .context("none of --spool, RELEASE_LEDGER_SPOOL and HOME says where to keep what cannot be sent")?;
    Ok(state.join("release-ledger/spool"))
}

/// All variables that are text.
pub fn variables() -> BTreeMap<String, String> {
    let text = |value: OsString| value.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

/// Who runs the program, if the environment says so.
pub fn user() -> Option<String> {
    let user = std::env::var_os("USER").or_else(|| std::env::var_os("LOGNAME"))?;
    user.into_string().ok().filter(|user| !user.is_empty())
}

/// What is said of an object storage: the usual variables, `AWS_ENDPOINT_URL` and its like.
pub fn storage() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    let text = variables.filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    text.filter(|(name, _)| name.starts_with("AWS_")).collect()
}

/// The signals that this process was started with ignored, one bit each: signal 1 is the lowest. None where the
/// system has no `/proc`, as macOS: there is no other way to ask without unsafe code.
pub fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

/// The mask in the line `SigIgn:` of a process's status.
fn ignored_in(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let status =
            "Name:\tsh\nSigBlk:\t0000000000000006\nSigIgn:\t0000000000000005\nSigCgt:\t0000000000000000\n";
        assert_eq!(ignored_in(status), 0b101);
        assert_eq!(ignored_in("Name:\tsh\n"), 0);
    }
}
