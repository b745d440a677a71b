//! `xdpflow filter set` and `show`: the filter of a capture that runs. What is typed is sent, and parsed by the capture once
//! more, here: so there is one parser.

use std::path::{Path, PathBuf};

use agent_common::tunnel::Tunnels;
use anyhow::{Context as _, anyhow, ensure};
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser};

use super::filter::FilterArgs;
use crate::{
    control::{Parsed, Words},
    filter::{self, explain},
};

#[derive(Args, Debug)]
pub struct FilterSet {
    #[command(flatten)]
    filter: Line,

    #[command(flatten)]
    pub control: ControlArgs,

    // Refused in words of its own.
    #[arg(long, hide = true)]
    decap: Option<String>,
}

impl FilterSet {
    /// Whether the capture will understand it.
    ///
    /// # Errors
    ///
    /// When it will not, and when it is about what does not change.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.decap.is_none(), "--decap {FIXED}");
        self.filter.parsed(Path::new("")).map(|_| ())
    }
}

#[derive(Args, Debug)]
pub struct FilterShow {
    #[command(flatten)]
    pub control: ControlArgs,

    /// Print what the capture answers: one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ControlArgs {
    /// Control socket of the capture [default: that of the only one that runs]
    #[arg(long = "control", value_name = "PATH")]
    pub path: Option<PathBuf>,
}

pub(super) const SET_EXAMPLES: &str = "\
Examples:
  xdpflow filter set --port 443 --port 8443
  xdpflow filter set 'tcp port 443 and not net 10.0.0.0/8'
  xdpflow filter set --nets-file ours.txt --control /run/xdpflow/4711.sock

The whole filter is replaced; without flags and expression it becomes all TCP. Frames are judged by the old filter or the new
one, and nothing is detached or lost meanwhile. The snaplen and --decap stay as they are. The exit status is 0 when the new
filter is in force, 1 when the old one is, 2 when the command line is wrong.";

const FIXED: &str = "is fixed when a capture starts: what was captured before would mean something else";

/// The words of a filter by themselves.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Line {
    /// Expression as tcpdump takes it, in one argument or several
    #[arg(value_name = "EXPR")]
    expression: Vec<String>,

    #[command(flatten)]
    filter: FilterArgs,
}

impl Line {
    /// With paths relative to `directory`.
    fn parsed(&self, directory: &Path) -> anyhow::Result<Parsed> {
        ensure!(self.filter.snaplen() == 0, "--snaplen {FIXED}");
        let expression = self.filter.clone().within(directory).expression_and(&self.expression)?;
        Ok(Parsed {
            filter: filter::compile(&expression, 0, Tunnels::NONE)?,
            meaning: explain::Words(&expression).to_string(),
            reads_files: self.filter.reads_files(),
        })
    }
}

/// What was typed of a filter among all that was typed, in words that [`parse`] takes. What is not about the filter alone
/// is left out.
pub fn words(matches: &ArgMatches) -> anyhow::Result<Words> {
    let mut words = Vec::new();
    for arg in Line::command().get_arguments() {
        let id = arg.get_id().as_str();
        // What is fixed is not changed. And not every command has all of the others.
        if id == "snaplen" {
            continue;
        }
        let Ok(Some(values)) = matches.try_get_raw(id) else { continue };
        if matches.value_source(id) != Some(clap::parser::ValueSource::CommandLine) {
            continue;
        }
        let flag = arg.get_long().map(|long| format!("--{long}"));
        if !arg.get_action().takes_values() {
            words.extend(flag);
            continue;
        }
        for value in values {
            let value = value.to_str().with_context(|| format!("{}: not UTF-8", value.display()))?;
            match &flag {
                Some(flag) if value.starts_with('-') => words.push(format!("{flag}={value}")),
                Some(flag) => words.extend([flag.clone(), value.to_owned()]),
                None => words.push(value.to_owned()),
            }
        }
    }
    // Where that cannot be said, absolute paths still mean what they say.
    let directory = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Words { words, directory })
}

/// The one parser of words, which both ends use.
///
/// # Errors
///
/// When they do not say what a filter is, in one line.
pub fn parse(words: &Words) -> anyhow::Result<Parsed> {
    // Words that are sent ask for no help. As an attribute this would hold for `filter set` as well.
    let parser = Line::command().disable_help_flag(true);
    let line = parser.try_get_matches_from(&words.words).and_then(|matches| Line::from_arg_matches(&matches));
    let line = line.map_err(|error| {
        let text = error.to_string();
        let text = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<_> = text.trim_start_matches("error: ").split_whitespace().collect();
        anyhow!("{}", words.join(" "))
    })?;
    line.parsed(Path::new(&words.directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn typed(line: &str) -> anyhow::Result<Vec<String>> {
        let matches = Cli::command().try_get_matches_from(line.split_whitespace())?;
        let mut matches = &matches;
        while let Some((_, inner)) = matches.subcommand() {
            matches = inner;
        }
        Ok(words(matches)?.words)
    }

    #[test]
    fn what_is_typed_of_a_filter_is_typed_again() {
        for (line, expected) in [
            ("xdpflow capture -i eth0 -o out", ""),
            ("xdpflow capture --port 80 -i eth0 --port=443 -o out --snaplen 100", "--port 80 --port 443"),
            ("xdpflow capture -i eth0 -o out --decap all --net ::/0 --host 10.0.0.1", "--host 10.0.0.1 --net ::/0"),
            ("xdpflow filter set --port 80 --control /tmp/x", "--port 80"),
            ("xdpflow filter set", ""),
            (
                "xdpflow capture -i eth0 -o out --sample 1/4 --ipv4-only --exclude-port 22,80 tcp port 443",
                "tcp port 443 --ipv4-only --sample 1/4 --exclude-port 22 --exclude-port 80",
            ),
            ("xdpflow filter set -F /dev/null not host ::1 --control x", "not host ::1 --filter-file /dev/null"),
        ] {
            let words = typed(line).unwrap();
            assert_eq!(words.join(" "), expected, "{line}");
            let words = Words { words, directory: "/".into() };
            parse(&words).unwrap();
        }
    }

    #[test]
    fn every_command_explains_itself() {
        for line in ["capture", "replay", "filter", "filter set", "filter show", "filter explain", "interfaces"] {
            for flag in ["-h", "--help"] {
                let line = format!("xdpflow {line} {flag}");
                let said = Cli::command().try_get_matches_from(line.split(' ')).unwrap_err();
                assert_eq!(said.kind(), clap::error::ErrorKind::DisplayHelp, "{line}");
            }
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_named_in_a_line() {
        for (words, error) in [
            ("--port 0", "invalid value '0' for '--port <PORTS>'"),
            ("--net 10.0.0.1/8", "invalid value '10.0.0.1/8' for '--net <CIDR>'"),
            ("--snaplen 9", "--snaplen is fixed when a capture starts"),
            ("port 80 and", "filter expression"),
            ("--control /tmp/x", "unexpected argument '--control' found"),
            ("--help", "unexpected argument '--help' found"),
            ("-o out", "unexpected argument '-o' found"),
        ] {
            let words = words.split_whitespace().map(str::to_owned).collect();
            let found = parse(&Words { words, directory: "/".into() }).unwrap_err().to_string();
            assert!(found.starts_with(error), "{found}");
        }
    }

    #[test]
    fn what_does_not_change_is_refused_with_a_reason() {
        for (line, flag) in [("--decap all", "--decap"), ("--snaplen 100 --port 80", "--snaplen")] {
            let words = ["xdpflow", "filter", "set"].into_iter().chain(line.split_whitespace());
            let crate::cli::Command::Filter(crate::cli::FilterCommand::Set(set)) =
                Cli::try_parse_from(words).unwrap().command
            else {
                panic!("{line}")
            };
            let error = set.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{flag} is fixed when a capture starts")), "{error}");
        }
    }
}
