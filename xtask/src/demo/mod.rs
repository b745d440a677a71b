pub(crate) mod client;
pub(crate) mod server;
#[derive(clap::Args, Default)]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args) -> anyhow::Result<()> {
    Ok(())
}
