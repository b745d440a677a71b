//! What the parts of the agent cost, each by itself: `cargo bench -p agent`. Figures are for one frame, segment or
//! connection, whatever the bench is called after.

mod assembler;
mod decode;
mod segment;
mod sink;
mod table;

fn main() {
    divan::main();
}
