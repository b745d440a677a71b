//! A web server in a namespace, somebody who asks it as fast as it can answer, and somebody who watches.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    command,
    interrupt::Running,
    network::{Network, Side},
};

/// nginx in the server's namespace.
pub(super) struct Server {
    network: Network,
    dir: PathBuf,
    _nginx: Running,
}

/// Who looks at the server's frames, none of which is wanted.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Watcher {
    Nobody,
    Tcpdump,
    /// A program that does nothing.
    Empty(Mode),
    Xdpflow(Mode),
}

/// How a program is attached.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Native,
    Generic,
    Tc,
}

/// A watcher at work.
pub(super) struct Watching(Option<Running>);

impl Mode {
    pub(super) const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Tc];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        }
    }
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Tcpdump => f.write_str("tcpdump"),
            Self::Empty(mode) => write!(f, "an empty program, {}", mode.name()),
            Self::Xdpflow(mode) => write!(f, "xdpflow, {}", mode.name()),
        }
    }
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let network = Network::create()?;
        // A connection for each request uses up the ports of the client within seconds.
        for setting in ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1"] {
            let (name, value) = setting.split_once('=').context("a setting")?;
            let file = format!("/proc/sys/{}", name.replace('.', "/"));
            let mut write = network.command(Side::Client, "sh")?;
            command::output(write.args(["-c", &format!("echo {value} > {file}")]))?;
        }
        let dir = command::target().join("bench/server");
        // Workers run as another user, who has to read this.
        fs::create_dir_all(dir.join("html")).with_context(|| format!("create {}", dir.display()))?;
        fs::write(dir.join("html/index.html"), [b'x'; 612]).context("write what the server serves")?;
        let configuration = dir.join("nginx.conf");
        fs::write(&configuration, CONFIGURATION.replace("DIR", &dir.display().to_string()))?;
        let mut nginx = network.command(Side::Server, "nginx")?;
        nginx.arg("-c").arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { network, dir, _nginx: Running::start(&mut nginx)? };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// Requests per second, of which each has a connection of its own.
    pub(super) fn load(&self, time: Duration) -> Result<f64> {
        let printed = self.wrk(time, None)?;
        let rate = printed.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
        rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk printed no rate:\n{printed}"))
    }

    /// Has wrk ask as fast as it can, for what the script says; returns what it prints.
    pub(super) fn wrk(&self, time: Duration, script: Option<&Path>) -> Result<String> {
        let mut wrk = self.network.command(Side::Client, "wrk")?;
        wrk.args(["-t1", "-c50", &format!("-d{}s", time.as_secs()), "-H", "Connection: close"]);
        if let Some(script) = script {
            wrk.arg("-s").arg(script);
        }
        command::output(wrk.arg(format!("http://{}/", Network::SERVER_V4)))
    }

    pub(super) fn watch(&self, watcher: Watcher) -> Result<Watching> {
        let out = self.dir.join("out");
        let log = self.dir.join("watcher.log");
        let (mut command, ready) = match watcher {
            Watcher::Nobody => return Ok(Watching(None)),
            Watcher::Tcpdump => {
                let mut tcpdump = self.network.command(Side::Server, "tcpdump")?;
                tcpdump.args(["-i", Network::INTERFACE, "-w", "/dev/null", "port 9"]);
                (tcpdump, "listening on")
            }
            Watcher::Empty(mode) => {
                let mut pass = self.network.command(Side::Server, command::target().join("release/examples/pass"))?;
                pass.args([Network::INTERFACE, mode.name()]);
                (pass, "attached")
            }
            Watcher::Xdpflow(mode) => {
                let mut xdpflow = self.network.command(Side::Server, command::xdpflow())?;
                xdpflow
                    .args(["capture", "-i", Network::INTERFACE, "--attach", mode.name(), "--port", "9", "-o"])
                    .arg(out);
                (xdpflow, "listening on")
            }
        };
        let (running, _) = command::start_until(&mut command, ready, &log)?;
        Ok(Watching(Some(running)))
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    /// The folder whose files are served.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("html")
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let start = Instant::now();
        while self.load(Duration::from_secs(1)).is_ok_and(|rate| rate == 0.0) {
            if start.elapsed() > PATIENCE {
                bail!("nginx does not answer");
            }
        }
        Ok(())
    }
}

impl Watching {
    /// Attached programs are gone when this returns.
    pub(super) fn end(self) -> Result<()> {
        let Some(mut running) = self.0 else { return Ok(()) };
        running.interrupt()?;
        running.wait(PATIENCE).map(drop)
    }
}

/// Time to begin answering, and for a watcher to end.
const PATIENCE: Duration = Duration::from_secs(10);

const CONFIGURATION: &str = "\
daemon off;
user root;
worker_processes 1;
error_log DIR/error.log;
pid DIR/nginx.pid;
events { worker_connections 1024; }
http {
    access_log off;
    server { listen 80; root DIR/html; }
}
";
