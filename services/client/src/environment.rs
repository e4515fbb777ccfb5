//! Process environment of the commands: variables, user and signal dispositions.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Returns the search path of programs.
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Returns the folder in which the project's scripts install servers, beside the folder of this program: for a program
/// in `target/debug` it is `target/servers`.
pub fn servers_dir() -> Option<PathBuf> {
    servers_beside(&std::env::current_exe().ok()?)
}

fn servers_beside(program: &Path) -> Option<PathBuf> {
    Some(program.parent()?.parent()?.join("servers"))
}

/// Returns the default folder of a ledger's data. For root it is outside root's home: Postgres does not run
/// as root, and its own user cannot enter that home.
pub fn data_dir() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/release-ledger".into());
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("release-ledger"));
    }
    let home = std::env::var_os("HOME").context("no data folder: set --data-dir or HOME")?;
    Ok(PathBuf::from(home).join(".local/share/release-ledger"))
}

/// Returns the default folder for the state of commands.
pub fn state_dir() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/release-ledger".into());
    }
    if let Some(state) = std::env::var_os("XDG_STATE_HOME") {
        return Ok(PathBuf::from(state).join("release-ledger"));
    }
    let home =
        std::env::var_os("HOME").context("no folder for the finished steps: set --state-dir or HOME")?;
    Ok(PathBuf::from(home).join(".local/state/release-ledger"))
}

/// Returns the folder of the spool if no flag names one.
pub fn spool_dir() -> anyhow::Result<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(spool) = folder("RELEASE_LEDGER_SPOOL") {
        return Ok(spool);
    }
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let state = state.context("no spool folder: set --spool, RELEASE_LEDGER_SPOOL or HOME")?;
    Ok(state.join("release-ledger/spool"))
}

/// Returns the folder of the settings of commands.
pub fn config_dir() -> anyhow::Result<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let config = config.context("no folder for contexts: set XDG_CONFIG_HOME or HOME to an absolute path")?;
    Ok(config.join("release-ledger"))
}

/// Returns all variables that are valid UTF-8.
pub fn variables() -> BTreeMap<String, String> {
    let text = |value: OsString| value.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

/// Returns true if the environment asks for output without colours: `NO_COLOR` has a value, or the terminal is `dumb`.
pub fn no_colour() -> bool {
    let is_set = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_set || std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// The pager if `PAGER` is not set.
pub(super) const DEFAULT_PAGER: &str = "less";

/// Returns the program and the arguments of the pager: `PAGER`, or `less`. There is none if `NO_PAGER` has a value,
/// `PAGER` is empty or `cat`, or the terminal is `dumb`.
pub(super) fn pager() -> Option<Vec<String>> {
    let variable = std::env::var_os::<&str>;
    pager_of(variable("NO_PAGER").as_deref(), variable("PAGER").as_deref(), variable("TERM").as_deref())
}

fn pager_of(off: Option<&OsStr>, pager: Option<&OsStr>, terminal: Option<&OsStr>) -> Option<Vec<String>> {
    if off.is_some_and(|value| !value.is_empty()) || terminal.is_some_and(|terminal| terminal == "dumb") {
        return None;
    }
    let words: Vec<String> = match pager {
        Some(pager) => pager.to_str()?.split_whitespace().map(str::to_owned).collect(),
        None => vec![DEFAULT_PAGER.to_owned()],
    };
    (!words.is_empty() && words != ["cat"]).then_some(words)
}

/// Returns true if the variable `LESS` has the options of `less`.
pub(super) fn has_less_options() -> bool {
    std::env::var_os("LESS").is_some()
}

/// Returns the user who runs the program, if the environment names one.
pub fn user() -> Option<String> {
    let user = std::env::var_os("USER").or_else(|| std::env::var_os("LOGNAME"))?;
    user.into_string().ok().filter(|user| !user.is_empty())
}

/// Returns the command of the editor that the user prefers: `VISUAL`, or else `EDITOR`.
pub fn editor() -> Option<String> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    named("VISUAL").or_else(|| named("EDITOR"))?.into_string().ok()
}

/// Returns the variables that configure an object store: `AWS_ENDPOINT_URL` and all others with the prefix
/// `AWS_`.
pub fn storage() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    let text = variables.filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    text.filter(|(name, _)| name.starts_with("AWS_")).collect()
}

/// Returns the signals that this process was started with ignored, one bit each; signal 1 is the lowest bit.
/// Returns 0 on systems without `/proc`, such as macOS, where only unsafe code could ask.
pub fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored_signals(&status)
}

/// Parses the mask in the line `SigIgn:` of a process's status.
fn parse_ignored_signals(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_installed_beside_the_folder_of_the_program() {
        let beside = |program| servers_beside(Path::new(program));
        assert_eq!(beside("/ledger/target/debug/release-ledger"), Some("/ledger/target/servers".into()));
        assert_eq!(beside("/release-ledger"), None);
    }

    #[test]
    fn the_pager_is_less_unless_the_environment_names_another_one_or_none() {
        let pager = |off: &str, pager: Option<&str>, terminal: &str| {
            let words = pager_of(Some(off.as_ref()), pager.map(OsStr::new), Some(terminal.as_ref()));
            words.map(|words| words.join("|"))
        };
        assert_eq!(pager("", None, "xterm").as_deref(), Some("less"));
        assert_eq!(pager("", Some(" most  -w "), "xterm").as_deref(), Some("most|-w"));
        assert_eq!(pager("0", None, "xterm"), None);
        assert_eq!(pager("", None, "dumb"), None);
        for none in ["", " ", "cat"] {
            assert_eq!(pager("", Some(none), "xterm"), None, "{none:?}");
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let status =
            "Name:\tsh\nSigBlk:\t0000000000000006\nSigIgn:\t0000000000000005\nSigCgt:\t0000000000000000\n";
        assert_eq!(parse_ignored_signals(status), 0b101);
        assert_eq!(parse_ignored_signals("Name:\tsh\n"), 0);
    }
}
