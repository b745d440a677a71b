//! The server with something to serve, and those who ask for it.

use std::{env, fs, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{
    super::server::Server,
    bodies::{Bodies, PORT},
    client::Answered,
};
use crate::{
    command,
    network::{Network, Side},
};

pub(super) struct Site {
    server: Server,
    pub(super) bodies: Bodies,
}

impl Site {
    /// Frames are those of a cable, of 1,514 octets at most: whoever watches sees the same ones, whichever way it is attached.
    pub(super) fn start(seed: u64) -> Result<Self> {
        let site = Self { server: Server::start()?, bodies: Bodies::new(seed) };
        site.bodies.write(&site.server.root())?;
        no_offloads(site.network())?;
        Ok(site)
    }

    pub(super) fn network(&self) -> &Network {
        self.server.network()
    }

    /// At so many requests a second, or as many as are answered.
    pub(super) fn ask(&self, rate: Option<f64>, seconds: u64) -> Result<Answered> {
        let this = env::current_exe().context("find this program")?;
        let mut client = self.network().command(Side::Client, this)?;
        client.args(["bench", "client", &format!("{}:{PORT}", Network::SERVER_V4), "--seconds", &seconds.to_string()]);
        if let Some(rate) = rate {
            client.args(["--rate", &rate.to_string()]);
        }
        serde_json::from_str(&command::output(&mut client)?).context("read what the client says")
    }

    /// Has wrk ask as fast as it can; returns how many requests were answered.
    pub(super) fn saturate(&self, time: Duration) -> Result<u64> {
        let script = self.server.root().with_file_name("requests.lua");
        fs::write(&script, SCRIPT.replace("COUNT", &Bodies::COUNT.to_string()))?;
        let printed = self.server.wrk(time, Some(&script))?;
        let count = printed.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
        count.with_context(|| format!("wrk printed no count:\n{printed}"))
    }
}

/// Neither end has frames merged or cut by the device.
pub(super) fn no_offloads(network: &Network) -> Result<()> {
    for side in [Side::Server, Side::Client] {
        let mut ethtool: Command = network.command(side, "ethtool")?;
        ethtool.args(["-K", Network::INTERFACE, "tso", "off", "gso", "off", "gro", "off"]);
        command::output(&mut ethtool)?;
    }
    Ok(())
}

const SCRIPT: &str = "\
local requests = {}
local turn = 0
function init(args)
  for number = 0, COUNT - 1 do
    requests[number] = wrk.format(\"GET\", \"/\" .. number)
  end
end
function request()
  turn = turn + 1
  return requests[turn % COUNT]
end
";
