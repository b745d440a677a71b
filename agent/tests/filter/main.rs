//! What a filter means, held against others who know: a slow and obvious evaluator of random expressions over what
//! etherparse reads in a frame, tcpdump, and tshark's display filters. Nothing expected here comes from the agent's own
//! parser, compiler or graph.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world fails there")]

mod ask;
mod capture;
mod packet;
mod peers;
mod random;

mod meaning;
mod refusal;
mod role;
