//! Filter expressions: whatever is typed, it is an expression or it is refused with a word to blame. What is taken compiles, or
//! has too many terms, and its graph comes to an end.

use agent::filter::{self, explain::Words};
use agent_common::{head::Client, tunnel::Tunnels};

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let expression = match filter::parse(&text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(text[error.offset()..].starts_with(error.word()), "{error}");
            assert_eq!(error.to_string().lines().count(), 3, "{error:?}");
            return;
        }
    };
    assert!(!Words(&expression).to_string().is_empty());
    let Ok(filter) = filter::compile(&expression, 0, Tunnels::NONE) else { return };
    let Ok(negated) = filter::compile(&!expression, 0, Tunnels::NONE) else { return };
    let segment =
        agent_common::head::Head { src: [1, 2], dst: [3, 4], src_port: 80, dst_port: 443, ..Default::default() };
    // Both hold only where it hangs on who the client is.
    for client in [Client::Source, Client::Destination] {
        assert_ne!(filter.accepts(&segment, client), negated.accepts(&segment, client), "{text}");
    }
    let fragment = agent_common::head::Head { fragment: true, ..segment };
    if filter.accepts(&segment, Client::Unknown) {
        assert!(filter.accepts(&fragment, Client::Unknown), "{text}: a fragment of what matches does not");
    }
}
