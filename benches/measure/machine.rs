//! On what it was measured.

use std::fs;
use std::process::Command;
use std::thread;

/// One sentence for below a table; made before the bench starts, whose own work is no load to tell of.
pub(crate) fn description() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let version = |text: &str| text.split('-').next().unwrap_or_default().trim().to_owned();
    let linux = version(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let python = Command::new("python3").arg("--version").output();
    let python = match python {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => "no Python".to_owned(),
    };
    format!("On {cores} cores, Linux {linux}, {python}; load before the start: {load}.\n")
}
