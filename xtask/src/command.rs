//! Running other programs, and how their failures read.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::interrupt::Running;

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    // Relative paths are meant from where cargo was started, which for `cargo xtask` is the current folder.
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| env::current_dir().unwrap_or_default().join(dir))
}

/// The binary that users run.
pub(crate) fn xdpflow() -> PathBuf {
    target().join("release/xdpflow")
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether `program` is in PATH. Debian keeps `ip` and its like in /usr/sbin, which is not in everyone's.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs with the terminal's own input and output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = Running::start(command)?.wait(Duration::MAX)?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs in silence and returns what was printed; a failure says what the program said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {}", line(command)))?;
    if !output.status.success() {
        bail!("{}: {}", line(command), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs in silence with everything printed going to `log`; a failure shows the end of it.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let status = into_log(command, log, Duration::MAX)?;
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n    ");
        bail!("{} failed ({status}); the end of {}:\n    {tail}", line(command), log.display());
    }
    Ok(())
}

/// Runs in silence with everything printed going to `log`, and not for longer than `limit`.
pub(crate) fn into_log(command: &mut Command, log: &Path, limit: Duration) -> Result<ExitStatus> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let file = fs::File::create(log).with_context(|| format!("write {}", log.display()))?;
    Running::start(command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))?.wait(limit)
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Enough of a build log to hold an error and what led to it.
const LOG_LINES: usize = 12;
