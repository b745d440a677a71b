//! Running other programs, and how their failures read.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
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

/// Builds parts of the agent as users do.
pub(crate) fn build_agent(parts: &[&str]) -> Result<()> {
    run(cargo().args(["build", "--quiet", "--release", "--package", "agent"]).args(parts))
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
    start(command, log)?.wait(limit)
}

/// Starts what prints to `log` a line with `ready` in it when it is; returns that line, too.
pub(crate) fn start_until(command: &mut Command, ready: &str, log: &Path) -> Result<(Running, String)> {
    let said = || fs::read_to_string(log).unwrap_or_default();
    let mut running = start(command, log)?;
    let start = Instant::now();
    loop {
        // The last line may still be incomplete.
        if let Some(line) = said().split_inclusive('\n').find(|line| line.contains(ready) && line.ends_with('\n')) {
            return Ok((running, line.trim_end().to_owned()));
        }
        if let Ok(status) = running.wait(Duration::ZERO) {
            bail!("{} ended ({status}): {}", line(command), said().trim());
        }
        if start.elapsed() > START_LIMIT {
            bail!("{} did not start within {} s: {}", line(command), START_LIMIT.as_secs(), said().trim());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn start(command: &mut Command, log: &Path) -> Result<Running> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let file = fs::File::create(log).with_context(|| format!("write {}", log.display()))?;
    Running::start(command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Loading takes the verifier a second at worst; native mode may rebuild the rings of a card.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Enough of a build log to hold an error and what led to it.
const LOG_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_is_ready_when_it_has_said_all_of_the_line() {
        let log = env::temp_dir().join(format!("xtask-command-{}.log", std::process::id()));
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let script = "echo loaded; printf 'listening '; sleep 0.1; echo on eth0; exec sleep 60";
        let (_running, line) = start_until(&mut shell(script), "listening", &log).unwrap();
        assert_eq!(line, "listening on eth0");
        let error = start_until(&mut shell("echo no device >&2; exit 3"), "listening", &log).err().unwrap().to_string();
        assert!(error.contains("no device") && error.contains("exit status: 3"), "{error}");
        fs::remove_file(log).unwrap();
    }
}
