//! Where a run takes place.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Serialize;

/// The machine, as far as it explains a figure.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Model of the first processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in all.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Version of stock git.
    pub git: String,
    /// Load of the last 1, 5 and 15 minutes at the start: above zero, others were at work.
    pub load: String,
}

impl Machine {
    /// Reads /proc. What is not there is `unknown`.
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown);
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        let load: Vec<String> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            git: treehold_tests::git::Git::at("/").run(["version"]),
            load: load.join(" "),
        }
    }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A figure of `/proc/PID/status` in MiB: `VmRSS` (resident now) or `VmHWM` (resident at most, ever).
pub fn memory_mib(pid: u32, name: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let value = field(&status, name).with_context(|| format!("{path} has no {name}"))?;
    let kib: f64 = value.trim_end_matches(" kB").trim().parse().with_context(|| format!("{name} is {value:?}"))?;
    Ok(kib / 1024.0)
}

/// Makes `VmHWM` of a process start again from what is resident now.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").with_context(|| format!("write {path}"))
}

/// What a `treehold` binary calls itself.
pub fn version_of(binary: &Path) -> anyhow::Result<String> {
    let output = Command::new(binary).arg("--version").output();
    let output = output.with_context(|| format!("run {}", binary.display()))?;
    ensure!(output.status.success(), "{} --version failed", binary.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The commit of the checkout, `-dirty` if tracked files were changed, or `unknown` outside of one.
pub fn checkout_commit() -> String {
    let git = treehold_tests::git::Git::at(env!("CARGO_MANIFEST_DIR"));
    if !Path::new(env!("CARGO_MANIFEST_DIR")).is_dir() {
        return "unknown".to_owned();
    }
    let described = git.output(["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]);
    match described.status.success() {
        true => String::from_utf8_lossy(&described.stdout).trim().to_owned(),
        false => "unknown".to_owned(),
    }
}
