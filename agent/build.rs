//! Builds the kernel half for the BPF target and leaves two objects in OUT_DIR: `kernel.rs` embeds the programs, and
//! the measurements in examples what they are measured against.
//!
//! It needs another compiler than the rest: one with the sources of `core`, and bpf-linker. Where they are missing the
//! host half still builds, around an empty object that `capture` refuses by name; `cargo xtask setup` provides them.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> io::Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir.parent().expect("the package lies in the workspace");
    let installed = workspace.join("target/bpf");
    // A folder that exists can be watched for the linker's arrival; a file that does not would make every build rerun.
    fs::create_dir_all(&installed)?;
    for path in ["agent-ebpf", "agent-common/src", "agent-common/Cargo.toml", "Cargo.toml", "Cargo.lock", "target/bpf"]
    {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let objects = OBJECTS.map(|name| (name, out_dir.join(name).with_extension("o")));
    let leave_empty = || objects.iter().try_for_each(|(_, object)| fs::write(object, []));
    // Fuzz targets never load it.
    if env::var_os("CARGO_CFG_FUZZING").is_some() {
        return leave_empty();
    }
    for variable in ["XDPFLOW_BPF_LINKER", "PATH", "RUSTUP_HOME"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    match build(workspace, &installed, &out_dir.join("ebpf")) {
        Ok((route, built)) => {
            println!("eBPF half built with {route}");
            for (name, object) in &objects {
                fs::copy(built.join(name), object)?;
            }
        }
        Err(Missing::Tool(what)) => {
            println!("cargo:warning=eBPF half not built: {what}; run cargo xtask setup");
            leave_empty()?;
        }
        Err(Missing::Object(output)) => {
            for line in output.lines() {
                println!("cargo:warning={line}");
            }
            return Err(io::Error::other("build the eBPF half: the compiler failed (see the warnings above)"));
        }
    }
    Ok(())
}

/// What the crate builds, by name.
const OBJECTS: [&str; 2] = ["xdpflow", "bench"];

/// Why there is no object.
enum Missing {
    Tool(String),
    /// What the compiler said.
    Object(String),
}

/// Where the objects are and the name of the route that led to them: the first that works.
fn build(workspace: &Path, installed: &Path, target_dir: &Path) -> Result<(&'static str, PathBuf), Missing> {
    let linker = linker(installed)
        .ok_or_else(|| Missing::Tool("no bpf-linker in XDPFLOW_BPF_LINKER, target/bpf/bin or PATH".to_owned()))?;
    let mut missing = Missing::Tool("no compiler with the sources of core (rustup's nightly, or rustc-web)".to_owned());
    for route in [rustup(), debian()].into_iter().flatten() {
        match compile(route.cargo, workspace, &linker, &target_dir.join(route.folder)) {
            Ok(object) => return Ok((route.name, object)),
            Err(output) => missing = Missing::Object(output),
        }
    }
    Err(missing)
}

fn linker(installed: &Path) -> Option<PathBuf> {
    let named = env::var_os("XDPFLOW_BPF_LINKER").map(PathBuf::from);
    let searched = env::var_os("PATH").unwrap_or_default();
    let searched: Vec<_> = env::split_paths(&searched).map(|folder| folder.join("bpf-linker")).collect();
    named.into_iter().chain([installed.join("bin/bpf-linker")]).chain(searched).find(|path| path.is_file())
}

/// One way to a compiler for the BPF target.
struct Route {
    name: &'static str,
    folder: &'static str,
    cargo: Command,
}

/// rustup's nightly with the component rust-src.
fn rustup() -> Option<Route> {
    let run = |program| {
        let mut command = command("rustup");
        command.args(["run", "nightly", program]);
        command
    };
    has_core_source(run("rustc")).then(|| Route { name: "rustup's nightly", folder: "nightly", cargo: run("cargo") })
}

/// Debian's rustc-web, cargo-web and rust-web-src: a stable compiler, told to accept what only nightly does.
fn debian() -> Option<Route> {
    let mut cargo = command("/usr/bin/cargo");
    cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
    has_core_source(command("/usr/bin/rustc")).then_some(Route { name: "Debian's rustc", folder: "debian", cargo })
}

fn has_core_source(mut rustc: Command) -> bool {
    let Ok(output) = rustc.args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success() && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir()
}

fn compile(mut cargo: Command, workspace: &Path, linker: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let linker = format!("-Clinker={}", linker.display());
    let output = cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--package", "agent-ebpf", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(target_dir)
        // Debug info is what bpf-linker makes BTF from.
        .env("CARGO_ENCODED_RUSTFLAGS", [&*linker, "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f"))
        // bpf-linker sees the whole program anyway.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .output()
        .map_err(|error| format!("run cargo for the eBPF half: {error}"))?;
    if output.status.success() {
        Ok(target_dir.join(TARGET).join("release"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What cargo tells a build script about the compiler of the host half must not reach the other one.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in ["RUSTC", "RUSTDOC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO", "CARGO_MAKEFLAGS"] {
        command.env_remove(name);
    }
    command
}

const TARGET: &str = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
