//! Two network namespaces and the cable between them.

use std::{
    ffi::OsStr,
    path::Path,
    process::{self, Command},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command;

/// Gone when this value goes.
pub(crate) struct Network {
    keep: bool,
    server: String,
    client: String,
}

#[derive(Clone, Copy)]
pub(crate) enum Side {
    Server,
    Client,
}

impl Network {
    /// The server's end is [`Self::INTERFACE`] with [`Self::SERVER_V4`] and [`Self::SERVER_V6`].
    pub(crate) fn create() -> Result<Self> {
        remove_leftovers()?;
        let name = |side| format!("{PREFIX}{}-{side}", process::id());
        let network = Self { keep: false, server: name("server"), client: name("client") };
        let (server, client) = (&*network.server, &*network.client);
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", client])?;
        let interface = Self::INTERFACE;
        ip(&["link", "add", interface, "netns", server, "type", "veth", "peer", "name", interface, "netns", client])?;
        for (namespace, v4, v6) in [(server, Self::SERVER_V4, Self::SERVER_V6), (client, CLIENT_V4, CLIENT_V6)] {
            ip(&["-n", namespace, "address", "add", &format!("{v4}/24"), "dev", interface])?;
            // Without duplicate address detection, which takes longer than the demo.
            ip(&["-n", namespace, "address", "add", &format!("{v6}/64"), "dev", interface, "nodad"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        Ok(network)
    }

    pub(crate) const INTERFACE: &str = "eth0";
    pub(crate) const SERVER_V4: &str = "10.9.0.2";
    pub(crate) const SERVER_V6: &str = "fd09::2";

    /// A command that will run on one side.
    pub(crate) fn command(&self, side: Side, program: impl AsRef<OsStr>) -> Result<Command> {
        let namespace = match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        };
        let mut command = Command::new(command::find("ip").context("ip is not installed (Debian package iproute2)")?);
        command.args(["netns", "exec", namespace]).arg(program);
        Ok(command)
    }

    /// Whether an XDP program is attached to the server's end.
    pub(crate) fn has_xdp(&self) -> Result<bool> {
        Ok(ip(&["-n", &self.server, "-details", "link", "show", "dev", Self::INTERFACE])?.contains("prog/xdp"))
    }

    /// Leaves the namespaces to whoever wants to look around in them, until the next demo or bench.
    pub(crate) fn keep(mut self) {
        self.keep = true;
        println!("\nkept: ip netns exec {} bash (and {}), until the next demo or bench", self.server, self.client);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !self.keep {
            for namespace in [&self.server, &self.client] {
                // Fails for what was not made yet, when making it failed.
                let _ = ip(&["netns", "delete", namespace]);
            }
        }
    }
}

/// Nobody can clean up after SIGKILL, so the next run does.
fn remove_leftovers() -> Result<()> {
    for line in ip(&["netns", "list"])?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            for pid in ip(&["netns", "pids", name])?.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
                // One that has just ended is as good as killed.
                let _ = kill_process(pid, Signal::KILL);
            }
            ip(&["netns", "delete", name])?;
        }
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<String> {
    let Some(ip) = command::find("ip") else { bail!("ip is not installed (Debian package iproute2)") };
    command::output(Command::new(ip).args(arguments))
}

/// Followed by the process id and the side.
const PREFIX: &str = "xdpflow-net-";

const CLIENT_V4: &str = "10.9.0.1";
const CLIENT_V6: &str = "fd09::1";
