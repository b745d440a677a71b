//! The programs that are compared, each run as its users run it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    capture::Capture,
    expected::{Found, judge},
    record,
};
use crate::{
    command, interrupt, output,
    setup::{self, Tool},
};

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Program {
    Xdpflow,
    Tcpflow,
    Gopacket,
    Tshark,
}

impl Program {
    pub(crate) const ALL: [Self; 4] = [Self::Xdpflow, Self::Tcpflow, Self::Gopacket, Self::Tshark];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Xdpflow => "xdpflow",
            Self::Tcpflow => "tcpflow",
            Self::Gopacket => "gopacket",
            Self::Tshark => "tshark",
        }
    }

    /// Builds or installs it where that is possible, and says which version it is.
    pub(crate) fn prepare(self) -> Result<String> {
        match self {
            Self::Xdpflow => {
                command::run(command::cargo().args(["build", "--release", "--quiet"]))?;
                let version = command::output(Command::new(command::xdpflow()).arg("--version"))?;
                Ok(version.trim().to_owned())
            }
            Self::Tcpflow => {
                setup::tools(&[Tool::Tcpflow])?;
                // It knows `-V` and fails nevertheless.
                let version = Command::new("tcpflow").arg("-V").output().context("run tcpflow -V")?;
                Ok(first_line(&version.stdout).to_lowercase())
            }
            Self::Tshark => {
                setup::tools(&[Tool::Tshark])?;
                let version = Command::new("tshark").arg("-v").output().context("run tshark -v")?;
                let line = first_line(&version.stdout);
                let number =
                    line.split_whitespace().find(|word| word.starts_with(|digit: char| digit.is_ascii_digit()));
                Ok(format!("tshark {}", number.unwrap_or(&line).trim_end_matches('.')))
            }
            Self::Gopacket => {
                setup::gopacket("conformance.go", &gopacket())?;
                let version =
                    command::output(Command::new("dpkg-query").args(["-Wf", "${Version}", setup::GO_PACKAGES[0]]))?;
                Ok(format!("gopacket {version}"))
            }
        }
    }

    /// Lets it read a capture, and says what is wrong with what it made of it.
    pub(crate) fn try_on(self, capture: &mut Capture, files: &[PathBuf], dir: &Path) -> Result<Result<(), String>> {
        let output = dir.join(self.name());
        fs::create_dir(&output).with_context(|| format!("create {}", output.display()))?;
        let log = dir.join(format!("{}.log", self.name()));
        let mut program = self.command(capture, files, &output)?;
        let status = match command::into_log(&mut program, &log, LIMIT) {
            Ok(status) => status,
            Err(error) => {
                interrupt::check()?;
                // That it hangs is its verdict; that it cannot be run is ours.
                return if error.to_string().contains(" did not end ") {
                    Ok(Err("no end".to_owned()))
                } else {
                    Err(error)
                };
            }
        };
        let expected = capture.streams();
        let found = match self {
            Self::Tshark => followed(&fs::read(&log)?),
            _ => {
                let files = output::files(&output)?.into_iter().filter(|file| !output::is_index(file));
                files.map(Found::read).collect::<io::Result<_>>()?
            }
        };
        let verdict = judge(&expected, found)?;
        if self != Self::Xdpflow || verdict.is_err() {
            return Ok(verdict);
        }
        if status.code() != Some(capture.status) {
            return Ok(Err(format!("{status} instead of {}", capture.status)));
        }
        record::check(capture, &expected, &output)
    }

    fn command(self, capture: &Capture, files: &[PathBuf], output: &Path) -> Result<Command> {
        let verify = capture.flags.contains(&"--verify-checksum");
        let mut command;
        match self {
            Self::Xdpflow => {
                command = Command::new(command::xdpflow());
                command.arg("replay").args(files).arg("-o").arg(output).args(capture.flags);
            }
            Self::Tcpflow => {
                command = Command::new("tcpflow");
                command.args(files.iter().flat_map(|file| [Path::new("-r"), file])).arg("-o").arg(output);
                command.args(["-q", "-S", "enable_report=NO"]);
            }
            Self::Gopacket => {
                command = Command::new(gopacket());
                command.arg("-o").arg(output);
                if verify {
                    command.arg("-checksum");
                }
                command.args(files);
            }
            Self::Tshark => {
                let mut file = files.first().context("a capture has a file")?.clone();
                if files.len() > 1 {
                    file = output.join("merged.pcap");
                    command::output(Command::new("mergecap").arg("-w").arg(&file).args(files))?;
                }
                command = Command::new("tshark");
                command.arg("-nqr").arg(file);
                if verify {
                    command.args(["-o", "tcp.check_checksum:TRUE"]);
                }
                // It follows one stream for each option, and prints nothing for one that is not there.
                let streams = capture.connections() + 4;
                command.args((0..streams).flat_map(|stream| ["-z".to_owned(), format!("follow,tcp,raw,{stream}")]));
            }
        }
        Ok(command)
    }
}

/// What `tshark -z follow,tcp,raw` printed: a line of hexadecimal for each piece, those of the server behind a tab.
fn followed(text: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut streams: [Vec<u8>; 2] = Default::default();
    for line in text.split(|octet| *octet == b'\n') {
        if line.starts_with(b"====") {
            found.extend(std::mem::take(&mut streams).map(Found::Bytes));
            continue;
        }
        let (side, hex) = match line {
            [b'\t', hex @ ..] => (1, hex),
            hex => (0, hex),
        };
        let digit = |octet: &u8| char::from(*octet).to_digit(16).map(|digit| digit as u8);
        let bytes: Option<Vec<u8>> =
            hex.chunks(2).map(|pair| Some(digit(&pair[0])? << 4 | digit(pair.get(1)?)?)).collect();
        streams[side].extend(bytes.unwrap_or_default());
    }
    found
}

fn gopacket() -> PathBuf {
    command::target().join("conformance/gopacket")
}

fn first_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).lines().next().unwrap_or_default().trim().to_owned()
}

/// No capture takes a program as long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tshark_follows_is_read() {
        let text = b"\n====\nFollow: tcp,raw\nFilter: tcp.stream eq 0\nNode 0: 10.1.0.1:40000\nNode 1: 10.1.0.2:80\n\
                     4745\n\t4f4b\n54\n====\n";
        let found: Vec<Vec<u8>> = followed(text)
            .into_iter()
            .filter_map(|found| match found {
                Found::Bytes(bytes) if !bytes.is_empty() => Some(bytes),
                _ => None,
            })
            .collect();
        assert_eq!(found, [b"GET".to_vec(), b"OK".to_vec()]);
    }
}
