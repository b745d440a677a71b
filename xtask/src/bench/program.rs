//! Who is measured: xdpflow, its peers, and the least that anyone can do.

use std::{
    env,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use super::{
    measured::Cost,
    workload::{Manifest, Stream, Verdict},
};
use crate::{command, output, setup};

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Program {
    /// To files
    Xdpflow,
    /// To files, with two shards
    Xdpflow2,
    /// With --output digest
    Digest,
    /// The same with two shards
    Digest2,
    /// -r and -o
    Tcpflow,
    /// Our program on gopacket's library
    Gopacket,
    /// The same, and it writes nothing
    GopacketOnly,
    /// To /dev/null, frame by frame
    Tcpdump,
    /// Nothing is printed
    Tshark,
    /// read(2) in 256 KiB, and files of the same lengths by write(2) of up to 1 MiB
    Floor,
    /// The first half of that
    Read,
    /// To /dev/null
    Cat,
}

/// Where a program finds what it needs, and puts what it makes.
pub(super) struct Paths {
    pub(super) capture: PathBuf,
    pub(super) lengths: PathBuf,
    pub(super) output: PathBuf,
    pub(super) log: PathBuf,
}

/// What a program made of a capture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Made {
    Files(Verdict),
    Digest { right: bool },
    Nothing,
}

impl Program {
    pub(super) const ALL: [Self; 12] = [
        Self::Xdpflow,
        Self::Xdpflow2,
        Self::Digest,
        Self::Digest2,
        Self::Tcpflow,
        Self::Gopacket,
        Self::GopacketOnly,
        Self::Tcpdump,
        Self::Tshark,
        Self::Floor,
        Self::Read,
        Self::Cat,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Xdpflow => "xdpflow",
            Self::Xdpflow2 => "xdpflow, 2 shards",
            Self::Digest => "xdpflow, digest",
            Self::Digest2 => "digest, 2 shards",
            Self::Tcpflow => "tcpflow",
            Self::Gopacket => "gopacket",
            Self::GopacketOnly => "gopacket, no output",
            Self::Tcpdump => "tcpdump",
            Self::Tshark => "tshark",
            Self::Floor => "floor: read, write",
            Self::Read => "floor: read",
            Self::Cat => "cat",
        }
    }

    /// Who does the same with nothing in between.
    pub(super) fn floor(self) -> Self {
        match self {
            Self::Xdpflow | Self::Xdpflow2 | Self::Tcpflow | Self::Gopacket | Self::Floor => Self::Floor,
            _ => Self::Read,
        }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Xdpflow | Self::Xdpflow2 | Self::Digest | Self::Digest2)
    }

    /// Builds what is ours. What is not installed is not measured.
    pub(super) fn prepare(self) -> Result<()> {
        match self {
            Self::Tcpflow | Self::Tcpdump | Self::Tshark | Self::Cat => {
                let name = self.name();
                command::find(name).with_context(|| format!("{name} is not installed"))?;
            }
            Self::Gopacket | Self::GopacketOnly => setup::gopacket("bench.go", &gopacket())?,
            Self::Xdpflow | Self::Xdpflow2 | Self::Digest | Self::Digest2 => {
                command::build_agent(&["--bins"])?;
            }
            Self::Floor | Self::Read => {}
        }
        Ok(())
    }

    /// Lets it read a capture once.
    pub(super) fn run(self, paths: &Paths, manifest: &Manifest) -> Result<(Cost, Made)> {
        let shards = if matches!(self, Self::Xdpflow2 | Self::Digest2) { 2 } else { 1 };
        self.run_with(shards, paths, manifest)
    }

    /// The same with so many shards, if it has any.
    pub(super) fn run_with(self, shards: u32, paths: &Paths, manifest: &Manifest) -> Result<(Cost, Made)> {
        remove(&paths.output)?;
        fs::create_dir_all(&paths.output).with_context(|| format!("create {}", paths.output.display()))?;
        let log = File::create(&paths.log).with_context(|| format!("write {}", paths.log.display()))?;
        let mut command = self.command(shards, paths)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let said = || fs::read_to_string(&paths.log).unwrap_or_default();
        let cost = Cost::of(&mut command).with_context(|| said().trim().to_owned())?;
        let made = match self {
            Self::Xdpflow | Self::Xdpflow2 | Self::Tcpflow | Self::Gopacket => {
                Made::Files(manifest.compare(files(&paths.output)?.into_iter().map(|path| stream(&path))))
            }
            Self::Digest | Self::Digest2 => {
                let summary: serde_json::Value = serde_json::from_str(&said()).context("read xdpflow's summary")?;
                let expected = format!("{:016x}", manifest.digest);
                let right = summary["sink"]["digest"] == expected
                    && summary["sink"]["digested"] == manifest.octets
                    && summary["sink"]["digested_streams"] == manifest.count;
                Made::Digest { right }
            }
            _ => Made::Nothing,
        };
        remove(&paths.output)?;
        Ok((cost, made))
    }

    fn command(self, shards: u32, paths: &Paths) -> Result<Command> {
        let Paths { capture, lengths, output, .. } = paths;
        let mut command;
        match self {
            Self::Xdpflow | Self::Xdpflow2 | Self::Digest | Self::Digest2 => {
                let to_files = matches!(self, Self::Xdpflow | Self::Xdpflow2);
                command = Command::new(command::xdpflow());
                command.arg("replay").arg(capture).args(["--shards", &shards.to_string(), "--json", "--output"]);
                command.arg(if to_files { output.as_path() } else { Path::new("digest") });
            }
            Self::Tcpflow => {
                command = Command::new("tcpflow");
                command.args(["-q", "-S", "enable_report=NO", "-r"]).arg(capture).arg("-o").arg(output);
            }
            Self::Gopacket => {
                command = Command::new(gopacket());
                command.args([capture, output]);
            }
            Self::GopacketOnly => {
                command = Command::new(gopacket());
                command.arg(capture);
            }
            Self::Tcpdump => {
                command = Command::new("tcpdump");
                if command::is_root() {
                    // Otherwise it becomes another user, who may not read the capture.
                    command.args(["-Z", "root"]);
                }
                command.args(["-w", "/dev/null", "-r"]).arg(capture);
            }
            Self::Tshark => {
                command = Command::new("tshark");
                command.args(["-q", "-n", "-r"]).arg(capture);
            }
            Self::Floor | Self::Read => {
                command = Command::new(env::current_exe().context("find this program")?);
                command.args(["bench", "floor"]).arg(capture);
                if self == Self::Floor {
                    command.args([lengths, output]);
                }
            }
            Self::Cat => {
                command = Command::new("sh");
                command.args(["-c", "exec cat \"$0\" > /dev/null"]).arg(capture);
            }
        }
        Ok(command)
    }
}

pub(super) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn gopacket() -> PathBuf {
    command::target().join("bench/gopacket")
}

/// All files with octets that hold streams.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = output::files(folder)?;
    files.retain(|file| !output::is_index(file) && fs::metadata(file).is_ok_and(|it| it.len() > 0));
    Ok(files)
}

/// A stream as a file has it; `None` when its name does not say whose it is, or it cannot be read.
fn stream(path: &Path) -> Option<Stream> {
    let [src, dst] = ends(path.file_name()?.to_str()?)?;
    let content = fs::read(path).ok()?;
    Some(Stream { src, dst, len: content.len() as u64, hash: Sha256::digest(&content).into() })
}

/// All programs end names with both ends, with a dot before the port; tcpflow writes zeros in front of numbers, and `c1`
/// behind the ends.
pub(super) fn ends(name: &str) -> Option<[SocketAddrV4; 2]> {
    let end = |text: &str| {
        let numbers: Vec<u16> = text.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [address @ .., port] = &numbers[..] else { return None };
        let address: Vec<u8> = address.iter().map(|&octet| octet.try_into().ok()).collect::<Option<_>>()?;
        Some(SocketAddrV4::new(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?), *port))
    };
    let mut parts = name.rsplit('-');
    let dst = parts.next()?;
    let src = parts.next()?;
    let dst = dst.split_once('c').map_or(dst, |(dst, _)| dst);
    Some([end(src)?, end(dst)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_programs_say_whose_a_stream_is() {
        let expected = Some([("10.1.0.2:32768"), ("192.0.2.1:80")].map(|end| end.parse().unwrap()));
        for name in [
            "000001.123456000-10.1.0.2.32768-192.0.2.1.80",
            "010.001.000.002.32768-192.000.002.001.00080",
            "010.001.000.002.32768-192.000.002.001.00080c12",
            "17-10.1.0.2.32768-192.0.2.1.80",
        ] {
            assert_eq!(ends(name), expected, "{name}");
        }
        for name in ["report.xml", "10.1.0.2.80", "a-b", "1-300.1.0.2.80-10.0.0.1.80", ""] {
            assert_eq!(ends(name), None, "{name}");
        }
    }
}
