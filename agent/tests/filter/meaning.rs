//! One meaning: of the kernel's half, of the agent's, and of the reference.

use agent::{
    decode::{self, Decoder, Reject},
    filter::{self, Expression, Filter},
    frame::Frame,
    judge::Judge,
    reassembly::NoFlows,
    segment::{Origin, Timestamp},
};
use agent_common::{
    frame::LinkType,
    head::{Client, Parsed, parse},
    tunnel::Tunnels,
};

use crate::{
    ask::{Ask, Vocabulary},
    packet::Packet,
    random::Random,
};

const EXPRESSIONS: u64 = 1_000;
const FRAMES: usize = 150;

#[test]
fn kernel_and_agent_agree_with_the_reference() {
    let mut census = [0_u64; 2];
    for seed in 0..EXPRESSIONS {
        let mut random = Random(seed);
        let Some((ask, filter)) = draw(&mut random) else { continue };
        for _ in 0..FRAMES {
            let packet = Packet::random(&mut random);
            let frame = packet.frame();
            let expected = [None, Some(true), Some(false)].map(|source| ask.holds(&frame, source));
            let clients = [Client::Unknown, Client::Source, Client::Destination];
            let found = clients.map(|client| kernel_accepts(&filter, &frame, client));
            assert_eq!(found, expected, "the kernel, seed {seed}: {ask}\n{packet:?}");
            assert_eq!(agent_accepts(&filter, &frame), expected[0], "the agent, seed {seed}: {ask}\n{packet:?}");
            census[usize::from(expected[0])] += 1;
        }
    }
    assert!(census.iter().all(|count| *count > EXPRESSIONS * FRAMES as u64 / 10), "{census:?}");
}

#[test]
fn of_a_segment_that_matches_every_fragment_matches() {
    let mut census = [0_u64; 2];
    for seed in 0..EXPRESSIONS {
        let mut random = Random(seed ^ 0xf4a6);
        let Some((ask, filter)) = draw(&mut random) else { continue };
        for _ in 0..FRAMES / 10 {
            let packet = Packet { tags: Vec::new(), ..Packet::random(&mut random) };
            let expected = ask.holds(&packet.frame(), None);
            let size = random.pick(&[8, 16, 24, 64]);
            let fragments = packet.fragments(size);
            if fragments.len() < 2 {
                continue;
            }
            for fragment in &fragments {
                let found = kernel_accepts(&filter, fragment, Client::Unknown);
                assert!(found || !expected, "seed {seed}: {ask}\n{packet:?}");
                census[usize::from(found)] += 1;
            }
            if ask.asks_ip() {
                continue;
            }
            let mut decoder = Decoder::new(decode::Config::default());
            let (last, others) = fragments.split_last().unwrap();
            for fragment in others {
                assert_eq!(decoder.decode(&frame(fragment)).unwrap_err(), Reject::Fragment);
            }
            let whole = decoder.decode(&frame(last)).unwrap();
            assert_eq!(
                Judge::new(filter.clone()).accepts(&whole, &mut NoFlows),
                expected,
                "seed {seed}: {ask}\n{packet:?}"
            );
        }
    }
    assert!(census.iter().all(|count| *count > 500), "{census:?}");
}

/// An expression, and what the agent makes of its text.
fn draw(random: &mut Random) -> Option<(Ask, Filter)> {
    let ask = Ask::random(random, 4, Vocabulary { ours: true, octets: true });
    match filter::parse(&ask.to_string()) {
        Ok(expression) => Some((ask, compile(&expression))),
        Err(error) => {
            assert_eq!(error.reason(), "a tag inside of a tag is not looked at", "{error}");
            None
        }
    }
}

pub(crate) fn compile(expression: &Expression) -> Filter {
    filter::compile(expression, 0, Tunnels::NONE).unwrap()
}

pub(crate) fn frame(bytes: &[u8]) -> Frame<'_> {
    Frame {
        timestamp: Timestamp(1),
        len: bytes.len() as u32,
        bytes,
        link_type: LinkType::ETHERNET,
        origin: Origin::default(),
        flow: None,
    }
}

/// What the programs do with a frame, of whose connection `client` is known.
pub(crate) fn kernel_accepts(filter: &Filter, frame: &[u8], client: Client) -> bool {
    let Parsed::Tcp(head) = parse(frame, LinkType::ETHERNET) else { panic!("{frame:02x?}") };
    let said = head.client();
    filter.accepts(&head, if said == Client::Unknown { client } else { said })
}

pub(crate) fn agent_accepts(filter: &Filter, bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new(decode::Config::default());
    let decoded = decoder.decode(&frame(bytes)).unwrap();
    Judge::new(filter.clone()).accepts(&decoded, &mut NoFlows)
}
