//! Expressions that are refused: the reason, and the caret under the word that is to blame.

use agent::filter;

use crate::random::Random;

/// An expression, a line with the caret, and the reason.
const TABLE: &[(&str, &str, &str)] = &[
    ("udp", "^~~", "xdpflow captures TCP alone"),
    ("port 53 and udp", "            ^~~", "xdpflow captures TCP alone"),
    ("not arp", "    ^~~", "xdpflow captures TCP alone"),
    ("udp port 53", "^~~", "xdpflow captures TCP alone"),
    ("icmp[0] = 8", "^~~~", "xdpflow captures TCP alone"),
    ("ip proto \\udp", "         ^~~~", "xdpflow captures TCP alone"),
    ("ip proto 17", "         ^~", "xdpflow captures TCP alone"),
    ("ether host 02:00:00:00:00:01", "^~~~~", "what lies below IP is not looked at, but for VLAN tags (vlan)"),
    ("ether[0] & 1 = 0", "^~~~~", "what lies below IP is not looked at, but for VLAN tags (vlan)"),
    ("gateway 10.0.0.1", "^~~~~~~", "a gateway is known by its Ethernet address, which is not looked at"),
    ("tcp and not broadcast", "            ^~~~~~~~~", "TCP has one receiver"),
    ("less 100", "^~~~", "the length of a frame is not looked at"),
    ("len <= 100", "^~~", "the length of a frame is not looked at"),
    ("port 80 and len > 100", "            ^~~", "the length of a frame is not looked at"),
    ("inbound", "^~~~~~~", "the direction has a flag (--direction rx or tx)"),
    ("ip6 protochain 6", "    ^~~~~~~~~~", "chains of headers are followed without asking (try proto)"),
    ("vlan 1 and vlan 2", "           ^~~~", "a tag inside of a tag is not looked at"),
    ("vlan && port 80 && (vlan 3 || vlan 4)", "                    ^~~~", "a tag inside of a tag is not looked at"),
    ("vlan 4096", "     ^~~~", "a VLAN id is a number of at most 4095"),
    ("sample 16", "       ^~", "not a part (try 1/16)"),
    ("sample 1/0", "       ^~~", "not a part (try 1/16)"),
    ("host example.com", "     ^~~~~~~~~~~", "not an address (try 192.0.2.1 or 2001:db8::1; names are not looked up)"),
    ("host 256.1.1.1", "     ^~~~~~~~~", "not an address (try 192.0.2.1 or 2001:db8::1; names are not looked up)"),
    ("host 10.0.0.0/8", "     ^~~~~~~~~~", "a host has no prefix length (try net)"),
    ("net 10.1.0.0/8", "    ^~~~~~~~~~", "bits of the address are set outside the prefix (try 10.0.0.0/8)"),
    ("net 10.0.0.0/33", "    ^~~~~~~~~~~", "not a prefix length: at most 32 for IPv4, 128 for IPv6"),
    ("net 10.0.0.0 mask 255.0.255.0", "                  ^~~~~~~~~~~", "not a mask of IPv4 (try 255.255.255.0)"),
    ("net nowhere", "    ^~~~~~~", "not a network (try 10.0.0.0/8 or 2001:db8::/32; names are not looked up)"),
    ("ip host 2001:db8::1", "        ^~~~~~~~~~~", "not an address of IPv4"),
    ("ip6 net 10.0.0.0/8", "        ^~~~~~~~~~", "not an address of IPv6"),
    ("port 65536", "     ^~~~~", "not a port: at most 65535"),
    ("port 80-90", "     ^~~~~", "a range is written with portrange"),
    ("port nosuchservice", "     ^~~~~~~~~~~~~", "no TCP port of /etc/services has this name (try its number)"),
    ("portrange 80-", "          ^~~", "no TCP port of /etc/services has this name (try its number)"),
    ("src proto 6", "    ^~~~~", "a protocol has no ends"),
    ("port 80,443", "       ^", "a list is written with or: port 80 or 443"),
    ("port 80 443", "        ^~~", "and, or or is missing before this"),
    ("port 80 host 10.0.0.1", "        ^~~~", "and, or or is missing before this"),
    ("port 80 AND port 81", "        ^~~", "keywords are written in lower case (try and)"),
    ("10.0.0.1", "^~~~~~~~", "what is it? (try host 10.0.0.1, or net, port, src, dst)"),
    ("port 80 or tcp or 443", "                  ^~~", "what is it? (try host 443, or net, port, src, dst)"),
    ("frobnicate", "^~~~~~~~~~", "this is no word of an expression (such as host, net, port, and, or, not)"),
    ("port 80 and é", "            ^", "this is no word of an expression (such as host, net, port, and, or, not)"),
    ("port", "    ^", "a port is missing here (try 443)"),
    ("src and", "    ^~~", "an address is missing here (try 192.0.2.1 or 2001:db8::1)"),
    ("host", "    ^", "an address is missing here (try 192.0.2.1 or 2001:db8::1)"),
    ("net or port 80", "    ^~", "a network is missing here (try 10.0.0.0/8 or 2001:db8::/32)"),
    ("portrange )", "          ^", "two ports are missing here (try 8000-9000)"),
    ("port 80 and", "           ^", "something is missing at the end"),
    ("not", "   ^", "something is missing at the end"),
    ("()", " ^", "something is missing before this parenthesis"),
    ("(port 80", "        ^", "a parenthesis is not closed"),
    ("port 80)", "       ^", "this parenthesis was never opened"),
    ("tcp[13]", "       ^", "a comparison is missing here (such as != 0)"),
    ("tcp[13] & 2", "           ^", "a comparison is missing here (such as != 0)"),
    ("tcp[13 & 2 != 0", "           ^~", "a bracket is not closed before this"),
    (
        "tcp[20] = 1",
        "    ^~",
        "beyond the 20 octets of a TCP header without options, which is what the kernel looks at",
    ),
    (
        "tcp[18:4] = 1",
        "    ^~~~",
        "beyond the 20 octets of a TCP header without options, which is what the kernel looks at",
    ),
    (
        "ip[20] = 1",
        "   ^~",
        "beyond the 20 octets of an IPv4 header without options, which is what the kernel looks at",
    ),
    ("ip6[40] = 6", "    ^~", "beyond the 40 octets of an IPv6 header, which is what the kernel looks at"),
    ("tcp[0:3] = 1", "      ^", "so many octets are not compared at once (1, 2 or 4)"),
    ("tcp[0:2] = tcp[2:2]", "         ^", "octets are compared with a number, not with other octets"),
    ("tcp[0] + 1 = 2", "       ^", "of octets and a number, only &, << and >> are evaluated in the kernel"),
    ("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "    ^~~~~~~~~~~~~~~~~~~~~~~~~", OFFSET),
    ("tcp[13] = syn", "          ^~~", "not a number, and no octets of a header (such as tcp[13])"),
    ("tcp[13] = 1/0", "          ^~~", "not a number, and no octets of a header (such as tcp[13])"),
    ("tcp[13] = 1 / 0", "            ^", "a division by zero"),
    ("foo[13] = 1", "^~~", "octets of ip, ip6 and tcp can be asked for"),
    ("(tcp[13] & 2)", "             ^", "a comparison is missing here (such as != 0)"),
];

const OFFSET: &str = "an offset that differs from frame to frame is not evaluated in the kernel";

#[test]
fn what_is_refused_is_pointed_at() {
    for &(text, caret, reason) in TABLE {
        let error = filter::parse(text).expect_err(text);
        assert_eq!(error.to_string(), format!("filter expression: {reason}\n  {text}\n  {caret}"));
    }
}

#[test]
fn controls_do_not_tear_the_lines_apart() {
    let error = filter::parse("port 80\nand\tudp").unwrap_err();
    assert_eq!(
        error.to_string(),
        "filter expression: xdpflow captures TCP alone\n  port 80 and udp\n              ^~~"
    );
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |text: &str, n: usize| text.repeat(n);
    for (text, fits) in [
        (deep("not ", 50) + "tcp", true),
        (deep("(", 50) + "tcp" + &deep(")", 50), true),
        (deep("not ", 100_000) + "tcp", false),
        (deep("(", 100_000) + "tcp" + &deep(")", 100_000), false),
        (deep("(", 100_000) + "tcp[13] = 2" + &deep(")", 100_000), false),
        ("port ".to_owned() + &deep("(", 100_000) + "80", false),
        ("tcp[".to_owned() + &deep("(", 100_000), false),
        ("port 1".to_owned() + &deep(" or port 2 and port 3", 100_000), false),
        ("port 1".to_owned() + &deep(" or port 2", 100_000), true),
        ("port 1".to_owned() + &deep(" and 2", 100_000), true),
    ] {
        assert_eq!(filter::parse(&text).is_ok(), fits, "{:.40}", text);
    }
}

#[test]
fn words_in_any_order_are_an_expression_or_refused() {
    let words: Vec<&str> = TABLE.iter().flat_map(|(text, ..)| text.split(' ')).chain(["(", ")", "not", "or"]).collect();
    let (mut random, mut census) = (Random(3), [0_u32; 2]);
    for _ in 0..200_000 {
        let count = random.below(8);
        let text = (0..count).map(|_| random.pick(&words)).collect::<Vec<_>>().join(" ");
        match filter::parse(&text) {
            Ok(_) => census[0] += 1,
            Err(error) => {
                assert!(text[error.offset()..].starts_with(error.word()), "{error}");
                census[1] += 1;
            }
        }
    }
    assert!(census.iter().all(|count| *count > 1_000), "{census:?}");
}
