//! `cargo xtask setup`: finds or installs what the eBPF half needs to be built, and what the demo and the tests run.
//!
//! The eBPF half wants a compiler that builds `core` from source and a linker that reads that compiler's LLVM bitcode.
//! There are two routes to the pair, since a machine may reach only one of them: a rustup nightly with its `rust-src`,
//! or Debian's rustc with its source package. Either way the linker is built into `target/bpf`, where the build looks.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::command::{self, line};

/// Everything at once, for a person.
pub(crate) fn run() -> Result<()> {
    let tools = tools(&[Tool::Ip, Tool::Ethtool]);
    ebpf()?;
    tools?;
    println!("ready        cargo build --release");
    Ok(())
}

/// Finds or installs what building the eBPF half needs.
pub(crate) fn ebpf() -> Result<()> {
    for route in [Route::Rustup, Route::Debian] {
        match route.prepare() {
            Ok(()) => return Ok(()),
            Err(error) => println!("  not by the {} route: {error:#}", route.name()),
        }
    }
    bail!("the eBPF half cannot be built here, for want of what is named above; the rest works without it")
}

/// Finds or installs what building the fuzz targets needs, and returns cargo-fuzz. That is rustup's nightly alone: libFuzzer
/// counts what is executed through flags that no other compiler takes.
pub(crate) fn fuzzer() -> Result<PathBuf> {
    if Route::Rustup.sysroot().is_none() {
        Route::Rustup.install_compiler()?;
    }
    if command::find("c++").is_none() {
        apt(&["g++"], "libFuzzer is written in C++")?;
    }
    let folder = command::root().join("target/fuzz");
    let fuzzer = folder.join("bin/cargo-fuzz");
    let found = command::output(Command::new(&fuzzer).arg("--version")).unwrap_or_default();
    if found.trim_end() != format!("cargo-fuzz {FUZZER_VERSION}") {
        println!("  installing cargo-fuzz {FUZZER_VERSION} into {} (a minute)", folder.display());
        let mut install = command::cargo();
        install.args(["install", "cargo-fuzz", "--version", FUZZER_VERSION, "--locked", "--force", "--root"]);
        command::logged(install.arg(&folder), &folder.join("install.log"))?;
    }
    println!("cargo-fuzz   {}", fuzzer.display());
    Ok(fuzzer)
}

/// `program` with rustup's nightly in place of the toolchain that runs us.
pub(crate) fn nightly(program: &Path) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]).arg(program);
    for name in ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

/// Programs that the demo, the kernel tests and the comparison with other programs run.
#[derive(Clone, Copy)]
pub(crate) enum Tool {
    Ip,
    Ethtool,
    Tcpdump,
    Tcpflow,
    Tcpreplay,
    Tshark,
    Go,
    Nginx,
    Wrk,
}

/// Finds or, as root, installs programs.
pub(crate) fn tools(wanted: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = wanted.iter().copied().filter(|tool| command::find(tool.program()).is_none()).collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().map(|tool| tool.package()).collect();
        apt(&packages, "the demo, the kernel tests and the comparison with other programs run them")?;
    }
    let names: Vec<&str> = wanted.iter().map(|tool| tool.program()).collect();
    println!("tools        {}", names.join(", "));
    Ok(())
}

/// Builds one of our programs on gopacket's library, which has none that writes streams, and of which Debian has the source.
pub(crate) fn gopacket(name: &str, program: &Path) -> Result<()> {
    tools(&[Tool::Go])?;
    packages(&GO_PACKAGES, "the programs in xtask/gopacket are built with it")?;
    let source = command::root().join("xtask/gopacket");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(program).args([name, "connection.go"].map(|file| source.join(file)));
    build.envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("CGO_ENABLED", "0")]);
    build.env("GOCACHE", command::target().join("go"));
    command::logged(&mut build, &program.with_extension("log"))
}

/// The first is the library.
pub(crate) const GO_PACKAGES: [&str; 3] =
    ["golang-github-google-gopacket-dev", "golang-golang-x-net-dev", "golang-golang-x-sys-dev"];

/// Installs, as root, Debian packages that are no programs.
fn packages(wanted: &[&str], why: &str) -> Result<()> {
    let installed = |package: &&str| command::output(Command::new("dpkg").args(["-s", package])).is_ok();
    let missing: Vec<&str> = wanted.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() { Ok(()) } else { apt(&missing, why) }
}

impl Tool {
    fn program(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ethtool => "ethtool",
            Self::Tcpdump => "tcpdump",
            Self::Tcpflow => "tcpflow",
            Self::Tcpreplay => "tcpreplay",
            Self::Tshark => "tshark",
            Self::Go => "go",
            Self::Nginx => "nginx",
            Self::Wrk => "wrk",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Ip => "iproute2",
            Self::Ethtool => "ethtool",
            Self::Tcpdump => "tcpdump",
            Self::Tcpflow => "tcpflow",
            Self::Tcpreplay => "tcpreplay",
            Self::Tshark => "tshark",
            Self::Go => "golang-go",
            Self::Nginx => "nginx-light",
            Self::Wrk => "wrk",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Route {
    Rustup,
    Debian,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "Debian",
        }
    }

    fn rustc(self) -> Command {
        match self {
            Self::Rustup => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", "rustc"]);
                rustup
            }
            Self::Debian => Command::new("/usr/bin/rustc"),
        }
    }

    fn prepare(self) -> Result<()> {
        let sysroot = match self.sysroot() {
            Some(sysroot) => sysroot,
            None => {
                self.install_compiler()?;
                self.sysroot().with_context(|| format!("{} still fails", line(&self.rustc())))?
            }
        };
        if !sysroot.join(CORE).exists() {
            self.install_source()?;
            if !sysroot.join(CORE).exists() {
                bail!("the source of core is not in {}", sysroot.join(CORE).display());
            }
        }
        let version = self.version()?;
        println!("compiler     {} ({} route), with the source of core", version.name, self.name());

        let linker = match find_linker(version.llvm) {
            Some(linker) => linker,
            None => self.install_linker(&sysroot, version.llvm)?,
        };
        println!("linker       {}", linker.display());
        Ok(())
    }

    fn sysroot(self) -> Option<PathBuf> {
        let path = command::output(self.rustc().args(["--print", "sysroot"])).ok()?;
        Some(PathBuf::from(path.trim_end()))
    }

    fn version(self) -> Result<Version> {
        let text = command::output(self.rustc().arg("-vV"))?;
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let llvm = field("LLVM version:").and_then(|version| version.split('.').next()?.parse().ok());
        Ok(Version {
            name: format!("rustc {}", field("release:").unwrap_or("of unknown release")),
            llvm: llvm.with_context(|| format!("{} names no LLVM version", line(&self.rustc())))?,
        })
    }

    fn install_compiler(self) -> Result<()> {
        match self {
            Self::Rustup => {
                if command::find("rustup").is_none() {
                    bail!("rustup is not installed (see https://rustup.rs)");
                }
                outside(
                    Command::new("rustup").args(["toolchain", "install", "nightly"]).args([
                        "--profile",
                        "minimal",
                        "--component",
                        "rust-src",
                    ]),
                    "rustup's home",
                    "building core for the eBPF target takes a nightly compiler",
                )
            }
            Self::Debian => apt(&["rustc-web", "cargo-web", "rust-web-src"], "the compiler of the eBPF half"),
        }
    }

    fn install_source(self) -> Result<()> {
        match self {
            Self::Rustup => outside(
                Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", "nightly"]),
                "rustup's home",
                "core is compiled for the eBPF target from it",
            ),
            // An older rustc may be installed, whose source has another package.
            Self::Debian => {
                apt(&["rustc-web", "cargo-web", "rust-web-src"], "core is compiled for eBPF from its source")
            }
        }
    }

    /// bpf-linker links against an LLVM. The rustup route takes the compiler's own, so that the two always fit and no
    /// other LLVM is needed; Debian's compiler uses Debian's.
    fn install_linker(self, sysroot: &Path, llvm: u32) -> Result<PathBuf> {
        let prefix = match self {
            Self::Rustup => link_llvm(&sysroot.join("lib"))?,
            Self::Debian => {
                let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
                if !prefix.join("include/llvm").exists() {
                    apt(&[&format!("llvm-{llvm}-dev"), &format!("libpolly-{llvm}-dev")], "bpf-linker links to it")?;
                }
                prefix
            }
        };
        let folder = folder();
        let mut install = command::cargo();
        install
            .args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--force", "--root"])
            .arg(&folder)
            .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
            .env("LLVM_PREFIX", &prefix);
        println!("  installing bpf-linker {LINKER_VERSION} for LLVM {llvm} into {} (a minute)", folder.display());
        command::logged(&mut install, &folder.join("install.log"))?;
        let linker = folder.join("bin/bpf-linker");
        if !works(&linker) {
            bail!("{} was built and does not run", linker.display());
        }
        fs::write(built_for(), llvm.to_string()).with_context(|| format!("write {}", built_for().display()))?;
        Ok(linker)
    }
}

struct Version {
    name: String,
    /// Major version of the LLVM whose bitcode the compiler writes.
    llvm: u32,
}

/// Where the build of the agent looks, in the same order. One that somebody else installed is taken as it is; ours must
/// have been built for the compiler's LLVM, which an update of the compiler may change.
fn find_linker(llvm: u32) -> Option<PathBuf> {
    let named = env::var_os("XDPFLOW_BPF_LINKER").map(PathBuf::from);
    let fits = fs::read_to_string(built_for()).is_ok_and(|built| built == llvm.to_string());
    let ours = fits.then(|| folder().join("bin/bpf-linker"));
    [named, ours, command::find("bpf-linker")].into_iter().flatten().find(|linker| works(linker))
}

/// Not so when the LLVM it was linked against is gone, after a move of the repository for example.
fn works(linker: &Path) -> bool {
    command::output(Command::new(linker).arg("--version")).is_ok()
}

/// Holds the major version of the LLVM that our linker was built for.
fn built_for() -> PathBuf {
    folder().join("llvm-version")
}

fn folder() -> PathBuf {
    command::root().join("target/bpf")
}

/// Makes `target/bpf/llvm/lib` look like an LLVM's: the compiler's own library, under the name that is asked for when
/// linking and under the one that is asked for when running.
fn link_llvm(lib: &Path) -> Result<PathBuf> {
    let library = fs::read_dir(lib)
        .with_context(|| format!("read {}", lib.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libLLVM.so.")))
        .with_context(|| format!("no libLLVM.so.* in {}", lib.display()))?;
    let prefix = folder().join("llvm");
    let links = prefix.join("lib");
    if links.exists() {
        fs::remove_dir_all(&links).with_context(|| format!("remove {}", links.display()))?;
    }
    fs::create_dir_all(&links).with_context(|| format!("create {}", links.display()))?;
    let soname = library.file_name().unwrap_or_default();
    for name in [Path::new("libLLVM.so"), Path::new(soname)] {
        let link = links.join(name);
        symlink(&library, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(prefix)
}

/// Installs Debian packages, or names them when this user may not.
fn apt(packages: &[&str], why: &str) -> Result<()> {
    let names = packages.join(" ");
    if command::find("apt-get").is_none() {
        bail!("not installed: {names} (names of Debian packages)");
    }
    if !command::is_root() {
        bail!("not installed: {names} (as root: apt-get install {names})");
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    if outside(&mut install, "the system", why).is_ok() {
        return Ok(());
    }
    // A fresh image has no package lists, an old one stale ones.
    outside(Command::new("apt-get").args(["update", "-q"]), "the system", "to know the packages of today")?;
    outside(&mut install, "the system", why)
}

/// Runs what changes something outside the repository, and says so first.
fn outside(command: &mut Command, place: &str, why: &str) -> Result<()> {
    println!("  changes {place}: {} ({why})", line(command));
    command::logged(command, &folder().join("setup.log"))
}

const LINKER_VERSION: &str = "0.13.0";
const FUZZER_VERSION: &str = "0.13.2";

/// Of a compiler's sysroot.
const CORE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";
