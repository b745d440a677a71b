//! Arguments, dispatch, exit status.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write as _, stderr, stdout},
    path::PathBuf,
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use agent::{
    capture::{self, Capture},
    cli::{self, Cli, Command, ControlArgs, FilterCommand, FilterSet, FilterShow, OutputArgs},
    clock::{self, Clock},
    control::{self, InForce, Request, Status},
    error::Reason,
    filter::{self, explain},
    interface::Interface,
    pcap, replay,
    report::Report,
    signals::{self, Signals},
    sink::{OnFull, Output, Report as Tell},
    voice::Voice,
};
use agent_common::{frame::INTERFACES_MAX, tunnel::Tunnels};
use anyhow::Context as _;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use tokio::runtime;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut Cli::command()).exit());
    let result = match cli.command {
        Command::Replay(args) => run_replay(&args),
        Command::Capture(args) => run_capture(&args, innermost(&matches)),
        Command::Filter(FilterCommand::Set(args)) => set_filter(&args, innermost(&matches)),
        Command::Filter(FilterCommand::Show(args)) => show_filter(&args),
        Command::Interfaces => list_interfaces(),
        Command::Filter(FilterCommand::Explain(args)) => explain(&args),
    };
    result.unwrap_or_else(|error| {
        say(&format!("{error:#}"));
        let misuse = error.downcast_ref().is_some_and(pcap::Error::is_misuse);
        if misuse { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

/// What was typed behind the name of the subcommand.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

fn run_capture(args: &cli::Capture, typed: &ArgMatches) -> anyhow::Result<ExitCode> {
    signals::survive_file_size_limit()?;
    let settings = &args.settings;
    let words = cli::words(typed)?;
    let mut filter = cli::parse(&words).unwrap_or_else(|error| misused("capture", &error));
    settings.fix(&mut filter.filter);
    let given = args.interface.len();
    if given > INTERFACES_MAX {
        misused("capture", &anyhow::anyhow!("{given} interfaces were given: a capture takes at most {INTERFACES_MAX}"));
    }
    let mut names = args.interface.iter();
    while let Some(name) = names.next() {
        if names.as_slice().contains(name) {
            misused("capture", &anyhow::anyhow!("the interface {name} was given twice"));
        }
    }
    let interfaces = args.interface.iter().map(|name| Interface::find(name)).collect::<Result<Vec<_>, _>>()?;
    let shards = args.shards.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get().min(8) as u32));
    let voice = Voice::start(stderr()).context("start the thread that speaks")?;
    let complain = voice.teller(NAME);
    let output = Output { interfaces: args.interface.clone(), ..output(&settings.output, Clock::live(), &complain) };
    let capture = Capture {
        interfaces,
        attach: args.attach.into(),
        direction: args.direction.into(),
        filter,
        words,
        parse: cli::parse,
        control: args.control.clone(),
        shards,
        ring_size: args.ring_size,
        withheld: args.withheld(),
        decode: settings.decode(shards),
        config: settings.reassembly(shards, capture::random_key()?),
        output: settings.output(shards, output),
        tell: voice.teller(""),
    };
    let capture::Outcome { report, errors } = capture.run()?;
    let status = conclude(&report, &settings.output, &voice);
    errors.iter().for_each(|error| complain(&format!("{error:#}")));
    Ok(if errors.is_empty() { status } else { ExitCode::FAILURE })
}

fn list_interfaces() -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    for interface in Interface::all()? {
        // A reader that went away wants no more.
        if write!(out, "{interface}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn set_filter(args: &FilterSet, typed: &ArgMatches) -> anyhow::Result<ExitCode> {
    args.check().unwrap_or_else(|error| misused("filter set", &error));
    let (in_force, _): (InForce, _) = control::ask(&agent(&args.control)?, &Request::Set(cli::words(typed)?))?;
    print_line(&format!("generation {}: {in_force}", in_force.generation));
    Ok(ExitCode::SUCCESS)
}

fn show_filter(args: &FilterShow) -> anyhow::Result<ExitCode> {
    let (status, line): (Status, _) = control::ask(&agent(&args.control)?, &Request::Show)?;
    print_line(&if args.json { line.trim_end().to_owned() } else { status.to_string() });
    Ok(ExitCode::SUCCESS)
}

/// Where the capture is that is meant.
fn agent(args: &ControlArgs) -> anyhow::Result<PathBuf> {
    args.path.clone().map_or_else(control::only_one, Ok)
}

/// What a command is for. A reader that went away wants no more.
fn print_line(line: &str) {
    let _ = writeln!(stdout(), "{line}");
}

fn explain(args: &cli::filter::Explain) -> anyhow::Result<ExitCode> {
    let tunnels = args.decap.iter().fold(Tunnels::NONE, |set, &tunnel| set | tunnel);
    let compiled = args.filter.expression_and(&args.words).and_then(|expression| {
        let filter = filter::compile(&expression, args.filter.snaplen(), tunnels)?;
        Ok((expression, filter))
    });
    let (expression, filter) = compiled.unwrap_or_else(|error| misused("filter explain", &error));
    let (files, verbose, connection) = (&args.read, args.verbose, args.tuple);
    let explain = explain::Explain { expression: &expression, filter: &filter, files, verbose, connection };
    match explain.run(&mut BufWriter::new(stdout().lock())) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // A reader that went away wants no more.
        Err(error) if error.downcast_ref().is_some_and(|e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
    }
}

fn run_replay(args: &cli::Replay) -> anyhow::Result<ExitCode> {
    let started = clock::now();
    signals::survive_file_size_limit()?;
    let settings = &args.settings;
    let filter = settings.filter().unwrap_or_else(|error| misused("replay", &error));
    let config = settings.reassembly(args.shards, agent::reassembly::Config::default().hash_key);
    let voice = Voice::start(stderr()).context("start the thread that speaks")?;
    let complain = voice.teller(NAME);
    let output = Output { on_full: OnFull::Wait, ..output(&settings.output, Clock::replay(), &complain) };
    let output = settings.output(args.shards, output);
    // Every shard puts all fragments together, so that what is written does not depend on how many there are.
    let decode = settings.decode(1);
    let replay = replay::Replay { files: args.files.clone(), filter, shards: args.shards, decode, config, output };

    let read = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let stop = Arc::new(AtomicBool::new(false));
    if args.shards == 1 {
        stop_on_signal(stop.clone(), complain.clone())?;
    }
    let outcome = thread::scope(|scope| {
        let bar = stderr().is_terminal().then(|| scope.spawn(|| show_progress(&read, replay.size(), &done)));
        let outcome = replay.run(&read, &stop);
        done.store(true, Ordering::Relaxed);
        if let Some(bar) = bar {
            bar.thread().unpark();
        }
        outcome
    })?;
    let replay::Outcome { mut report, errors } = outcome;
    report.elapsed = Duration::from_nanos(clock::now().since(started));
    let status = conclude(&report, &settings.output, &voice);
    errors.iter().for_each(|error| complain(&error.to_string()));
    Ok(match &errors[..] {
        [] if stop.load(Ordering::Relaxed) => ExitCode::FAILURE,
        [] => status,
        errors if errors.iter().any(pcap::Error::is_misuse) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    })
}

/// The first signal ends the files where they have been read to; what feeds a pipe has usually got it, too, and ends. The
/// second one does not wait for that.
fn stop_on_signal(stop: Arc<AtomicBool>, complain: Tell) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let mut signals = runtime.block_on(async { Signals::unless_ignored() })?;
    let wait = move || {
        runtime.block_on(signals.recv());
        stop.store(true, Ordering::Relaxed);
        complain("interrupted: the rest is not read (once more to lose what is not written yet)");
        runtime.block_on(signals.recv());
        process::exit(INTERRUPTED);
    };
    thread::Builder::new().name("signals".into()).spawn(wait).context("start the thread for signals")?;
    Ok(())
}

/// As a shell says of what SIGINT has killed.
const INTERRUPTED: i32 = 130;

/// Draws a bar until `done` says otherwise; without a size, what it would be a part of.
fn show_progress(read: &AtomicU64, size: Option<u64>, done: &AtomicBool) {
    use indicatif::{ProgressBar, ProgressStyle};
    let template = match size {
        Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        None => "{spinner} {bytes}, {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = size.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style);
    while !done.load(Ordering::Relaxed) {
        bar.set_position(read.load(Ordering::Relaxed));
        thread::park_timeout(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}

/// What every output has in common.
fn output(args: &OutputArgs, clock: Clock, complain: &Tell) -> Output {
    let run = format!("{:x}-{:x}", Clock::live().wall(clock::now()).0 / 1_000, process::id());
    Output::new(args.output.clone(), run, clock, Arc::clone(complain))
}

/// Prints the summary; the status says whether it adds up.
fn conclude(report: &Report, args: &OutputArgs, voice: &Voice) -> ExitCode {
    let complain = voice.teller(NAME);
    let imbalances = report.imbalances();
    let mut told = true;
    if args.json {
        // A summary that nobody reads is no reason to fail; one that someone will miss is.
        if let Err(error) = writeln!(stdout(), "{}", report.to_json())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            complain(&format!("write the summary to standard output: {}", Reason(&error)));
            told = false;
        }
        imbalances.iter().for_each(|equation| complain(&format!("does not balance: {equation}")));
    } else {
        voice.say(report.to_string());
    }
    if told && imbalances.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends with a usage error of a subcommand, as the parser of arguments does.
fn misused(subcommand: &str, error: &anyhow::Error) -> ! {
    let mut command = Cli::command();
    command.build();
    let names = subcommand.split(' ');
    let command = names.fold(command, |command, name| command.find_subcommand(name).cloned().unwrap_or(command));
    command.clone().error(ErrorKind::ValueValidation, format_args!("{error:#}")).exit()
}

/// One line about something that went wrong.
fn say(line: &str) {
    let _ = writeln!(stderr(), "{NAME}{line}");
}

/// Before what went wrong.
const NAME: &str = "xdpflow: ";
