//! pcap-filter(7), as far as it is about TCP, to an [`Expression`].

mod relation;
mod word;

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use agent_common::head::VLAN_ID;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    End, Error, Expression, Test,
    lexer::{self, Kind, Token},
    services,
};
use word::{TCP_ALONE, is_address, is_keyword, refusal};

/// What `text` says. Nothing at all means everything.
///
/// # Errors
///
/// When it is no expression, or when it asks what the kernel half does not answer.
pub fn parse(text: &str) -> Result<Expression, Error> {
    let mut parser = Parser { text, tokens: lexer::split(text), next: 0, subject: None, vlan: None, depth: 0 };
    if parser.peek().kind == Kind::End {
        return Ok(Expression::everything());
    }
    let Tree { expression, .. } = parser.expression()?;
    match parser.peek() {
        Token { kind: Kind::End, .. } => Ok(expression),
        Token { text: ")", .. } => Err(parser.refuse("this parenthesis was never opened")),
        _ => Err(parser.refuse_junction()),
    }
}

/// Recursive descent: a method for each rule of the grammar, which reads from `next` on.
pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    /// What the next value is about when nothing is said: the same as the last one.
    subject: Option<Subject>,
    /// The first `vlan` of the term at hand.
    vlan: Option<Range<usize>>,
    /// Parentheses and negations around.
    depth: usize,
}

/// An expression, and how many are inside of each other in it.
struct Tree {
    expression: Expression,
    height: usize,
}

/// What a value is about.
#[derive(Clone, Copy)]
struct Subject {
    version: Option<Version>,
    ends: Ends,
    kind: What,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Version {
    V4,
    V6,
}

#[derive(Clone, Copy)]
enum Ends {
    One(End),
    /// `src and dst`.
    Both,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum What {
    /// Nothing was said: an address.
    Address,
    Host,
    Net,
    Port,
    PortRange,
    Protocol,
}

type Parsed<T> = Result<T, Error>;

impl<'a> Parser<'a> {
    /// `and` and `or` bind alike, from the left.
    fn expression(&mut self) -> Parsed<Tree> {
        let mut tree = self.term()?;
        loop {
            let and = match self.peek().text {
                "and" | "&&" => true,
                "or" | "||" => false,
                _ => return Ok(tree),
            };
            self.skip();
            let vlan = self.vlan.take();
            let term = self.term()?;
            if and && needs_tag(&term.expression) && needs_tag(&tree.expression) {
                let at = self.vlan.clone().unwrap_or_default();
                return Err(Error::new(self.text, at, "a tag inside of a tag is not looked at".to_owned()));
            }
            self.vlan = vlan.or_else(|| self.vlan.take());
            tree = self.join(tree, term, and)?;
        }
    }

    fn join(&self, left: Tree, right: Tree, and: bool) -> Parsed<Tree> {
        if and && left.expression == Expression::everything() {
            return Ok(right);
        }
        if and && right.expression == Expression::everything() {
            return Ok(left);
        }
        // What is of one kind is one list, however long.
        let (mut list, height) = match (left.expression, and) {
            (Expression::And(list), true) | (Expression::Or(list), false) => (list, left.height),
            (expression, _) => (vec![expression], left.height + 1),
        };
        list.push(right.expression);
        let height = height.max(right.height + 1);
        if height > DEPTH_MAX {
            return Err(self.refuse_depth());
        }
        Ok(Tree { expression: if and { Expression::And(list) } else { Expression::Or(list) }, height })
    }

    fn term(&mut self) -> Parsed<Tree> {
        match self.peek().text {
            "not" | "!" => {
                self.skip();
                let Tree { expression, height } = self.within(Self::term)?;
                Ok(Tree { expression: !expression, height: height + 1 })
            }
            "(" => self.group(),
            _ => self.primitive(),
        }
    }

    /// What is in parentheses may be a number: `(tcp[13] & 2) != 0`.
    fn group(&mut self) -> Parsed<Tree> {
        let (start, subject, mut arithmetic) = (self.next, self.subject, None);
        if self.is_arithmetic() {
            match self.relation() {
                Ok(expression) => return Ok(leaf(expression)),
                Err(error) => arithmetic = Some(error),
            }
            (self.next, self.subject) = (start, subject);
        }
        self.skip();
        let grouped = self.within(Self::expression).and_then(|tree| match self.peek().text {
            ")" => {
                self.skip();
                Ok(tree)
            }
            "" => Err(self.refuse("a parenthesis is not closed")),
            _ => Err(self.refuse_junction()),
        });
        // Of two readings, the one that came further is the one that was meant.
        grouped.map_err(|error| arithmetic.filter(|other| other.offset() > error.offset()).unwrap_or(error))
    }

    fn primitive(&mut self) -> Parsed<Tree> {
        if self.is_arithmetic() {
            return self.relation().map(leaf);
        }
        let token = self.peek().clone();
        let text = token.text;
        match text {
            "tcp" | "ip" | "ip6" | "src" | "dst" | "client" | "server" | "host" | "net" | "port" | "portrange"
            | "proto" => self.qualified(),
            "vlan" => {
                self.skip();
                self.subject = None;
                self.vlan.get_or_insert(token.at);
                let id = match self.peek() {
                    id if id.kind == Kind::Word && id.text.starts_with(|c: char| c.is_ascii_digit()) => {
                        let number = number(id.text).and_then(|id| u16::try_from(id).ok()).filter(|&id| id <= VLAN_ID);
                        let number = number.ok_or_else(|| self.refuse("a VLAN id is a number of at most 4095"))?;
                        self.skip();
                        Some(number)
                    }
                    _ => None,
                };
                Ok(leaf(Test::Vlan(id).into()))
            }
            "sample" => {
                self.skip();
                self.subject = None;
                let part = self.peek().text.strip_prefix("1/").and_then(number).filter(|&of| of != 0);
                let of = part.ok_or_else(|| self.refuse("not a part (try 1/16)"))?;
                self.skip();
                Ok(leaf(Test::Sample(of).into()))
            }
            _ if token.kind == Kind::Word => match (refusal(text), self.subject) {
                (Some(reason), _) => Err(self.refuse(reason)),
                (None, Some(subject)) => self.value(subject),
                (None, None) if is_address(text) => {
                    Err(self.refuse(&format!("what is it? (try host {text}, or net, port, src, dst)")))
                }
                (None, None) => Err(self.refuse_word()),
            },
            "" => Err(self.refuse("something is missing at the end")),
            ")" => Err(self.refuse("something is missing before this parenthesis")),
            _ => Err(self.refuse_word()),
        }
    }

    /// `[tcp|ip|ip6] [src|dst|...] [host|net|port|portrange|proto] value`, of which only a protocol stands alone.
    fn qualified(&mut self) -> Parsed<Tree> {
        let (mut version, mut protocol) = (None, true);
        match self.peek().text {
            "tcp" => {}
            "ip" => version = Some(Version::V4),
            "ip6" => version = Some(Version::V6),
            _ => protocol = false,
        }
        if protocol {
            self.skip();
        }
        let ends = self.ends();
        let kind = match self.peek().text {
            "host" => What::Host,
            "net" => What::Net,
            "port" => What::Port,
            "portrange" => What::PortRange,
            "proto" => What::Protocol,
            _ => What::Address,
        };
        if kind != What::Address {
            self.skip();
        } else if protocol && ends.is_none() {
            self.subject = None;
            return Ok(leaf(of_version(version)));
        }
        if kind == What::Protocol && ends.is_some() {
            return Err(self.refuse_last("a protocol has no ends"));
        }
        let subject = Subject { version, ends: ends.unwrap_or(Ends::One(End::Either)), kind };
        self.subject = Some(subject);
        self.values(subject)
    }

    fn ends(&mut self) -> Option<Ends> {
        let (end, other) = match self.peek().text {
            "src" => (End::Source, "dst"),
            "dst" => (End::Destination, "src"),
            "client" => (End::Client, "server"),
            "server" => (End::Server, "client"),
            _ => return None,
        };
        self.skip();
        let joined = self.tokens.get(self.next + 1).is_some_and(|token| token.text == other);
        let ends = match self.peek().text {
            "or" | "||" if joined => Ends::One(End::Either),
            "and" | "&&" if joined => Ends::Both,
            _ => return Some(Ends::One(end)),
        };
        self.skip();
        self.skip();
        Some(ends)
    }

    /// A value, or several in parentheses, of which each may be negated.
    fn values(&mut self, subject: Subject) -> Parsed<Tree> {
        match self.peek() {
            Token { text: "not" | "!", .. } => {
                self.skip();
                let Tree { expression, height } = self.within(|parser| parser.values(subject))?;
                Ok(Tree { expression: !expression, height: height + 1 })
            }
            Token { text: "(", .. } => self.group(),
            _ => self.value(subject),
        }
    }

    fn value(&mut self, subject: Subject) -> Parsed<Tree> {
        let token = self.peek().clone();
        let text = token.text;
        if token.kind != Kind::Word || is_keyword(text) {
            let missing = match subject.kind {
                What::Address | What::Host => "an address is missing here (try 192.0.2.1 or 2001:db8::1)",
                What::Net => "a network is missing here (try 10.0.0.0/8 or 2001:db8::/32)",
                What::Port => "a port is missing here (try 443)",
                What::PortRange => "two ports are missing here (try 8000-9000)",
                What::Protocol => "a protocol is missing here (xdpflow captures TCP alone)",
            };
            return Err(self.refuse(missing));
        }
        let test: Box<dyn Fn(End) -> Test> = match subject.kind {
            What::Port => {
                let port = self.port(text)?;
                Box::new(move |end| Test::Ports(end, port, port))
            }
            What::PortRange => {
                let (low, high) = text.split_once('-').unwrap_or((text, text));
                let (low, high) = (self.port(low)?, self.port(high)?);
                // As libpcap does.
                Box::new(move |end| Test::Ports(end, low.min(high), low.max(high)))
            }
            What::Protocol => {
                if !matches!(text, "\\tcp" | "tcp") && number(text) != Some(6) {
                    return Err(self.refuse(TCP_ALONE));
                }
                self.skip();
                return Ok(leaf(of_version(subject.version)));
            }
            What::Address | What::Host | What::Net => {
                let net = self.net(text, subject)?;
                Box::new(move |end| Test::Net(end, net))
            }
        };
        self.skip();
        let test = |end| test(end).into();
        let mut expression = match subject.ends {
            Ends::One(end) => test(end),
            Ends::Both => Expression::And(vec![test(End::Source), test(End::Destination)]),
        };
        // An address says its version itself.
        if subject.version.is_some() && matches!(subject.kind, What::Port | What::PortRange) {
            expression = Expression::And(vec![of_version(subject.version), expression]);
        }
        Ok(Tree { expression, height: 3 })
    }

    fn port(&self, text: &str) -> Parsed<u16> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let port = number(text).and_then(|port| u16::try_from(port).ok());
            return port.ok_or_else(|| {
                let range =
                    text.split_once('-').is_some_and(|(low, high)| [low, high].iter().all(|end| number(end).is_some()));
                self.refuse(if range { "a range is written with portrange" } else { "not a port: at most 65535" })
            });
        }
        services::port(text).ok_or_else(|| self.refuse("no TCP port of /etc/services has this name (try its number)"))
    }

    /// The address or net that `text` is; of a net, `mask` may follow.
    fn net(&mut self, text: &str, subject: Subject) -> Parsed<IpNet> {
        let is_net = subject.kind == What::Net;
        let (address, prefix) = match text.split_once('/') {
            Some(_) if subject.kind == What::Host => return Err(self.refuse("a host has no prefix length (try net)")),
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let missing = if is_net {
            "not a network (try 10.0.0.0/8 or 2001:db8::/32; names are not looked up)"
        } else {
            "not an address (try 192.0.2.1 or 2001:db8::1; names are not looked up)"
        };
        let whole: Option<(IpAddr, u8)> = match address.parse() {
            Ok(address @ IpAddr::V4(_)) => Some((address, 32)),
            Ok(address @ IpAddr::V6(_)) => Some((address, 128)),
            Err(_) => short(address).filter(|_| is_net).map(|(address, len)| (address.into(), len)),
        };
        let (address, mut len) = whole.ok_or_else(|| self.refuse(missing))?;
        match (subject.version, address) {
            (Some(Version::V4), IpAddr::V6(_)) => return Err(self.refuse("not an address of IPv4")),
            (Some(Version::V6), IpAddr::V4(_)) => return Err(self.refuse("not an address of IPv6")),
            _ => {}
        }
        let too_long = "not a prefix length: at most 32 for IPv4, 128 for IPv6";
        if let Some(prefix) = prefix {
            len = number(prefix).and_then(|len| u8::try_from(len).ok()).ok_or_else(|| self.refuse(too_long))?;
        } else if is_net && self.tokens.get(self.next + 1).is_some_and(|token| token.text == "mask") {
            self.skip();
            self.skip();
            let mask: Option<Ipv4Addr> = self.peek().text.parse().ok();
            let mask = mask.filter(|_| address.is_ipv4()).and_then(|mask| ipnet::ipv4_mask_to_prefix(mask).ok());
            len = mask.ok_or_else(|| self.refuse("not a mask of IPv4 (try 255.255.255.0)"))?;
        }
        let net: Option<IpNet> = match address {
            IpAddr::V4(address) => Ipv4Net::new(address, len).ok().map(Into::into),
            IpAddr::V6(address) => Ipv6Net::new(address, len).ok().map(Into::into),
        };
        let net = net.ok_or_else(|| self.refuse(too_long))?;
        if net.addr() != net.network() {
            let reason = format!("bits of the address are set outside the prefix (try {})", net.trunc());
            return Err(self.refuse(&reason));
        }
        Ok(net)
    }

    fn expect(&mut self, symbol: &str, missing: &str) -> Parsed<()> {
        if self.peek().text != symbol {
            return Err(self.refuse(missing));
        }
        self.skip();
        Ok(())
    }

    /// One level further down.
    fn within<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return Err(self.refuse_depth());
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    fn peek(&self) -> &Token<'a> {
        // The last one is the end, which nothing skips.
        &self.tokens[self.next]
    }

    fn skip(&mut self) {
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    /// Blames the next word.
    fn refuse(&self, reason: &str) -> Error {
        Error::new(self.text, self.peek().at.clone(), reason.to_owned())
    }

    /// Blames the word before.
    fn refuse_last(&self, reason: &str) -> Error {
        let last = self.tokens.get(self.next.saturating_sub(1)).map_or(0..0, |token| token.at.clone());
        Error::new(self.text, last, reason.to_owned())
    }

    /// Blames the next word for standing where an expression has ended.
    fn refuse_junction(&self) -> Error {
        let Token { text, .. } = self.peek();
        match *text {
            _ if let Some(reason) = refusal(text) => self.refuse(reason),
            _ if is_keyword(text) || is_address(text) || matches!(*text, "(" | "not" | "!") => {
                self.refuse("and, or or is missing before this")
            }
            _ => self.refuse_word(),
        }
    }

    fn refuse_word(&self) -> Error {
        let text = self.peek().text;
        let lower = text.to_ascii_lowercase();
        let reason = if text != lower && (is_keyword(&lower) || matches!(&*lower, "and" | "or" | "not")) {
            format!("keywords are written in lower case (try {lower})")
        } else if matches!(text, "," | ";") {
            "a list is written with or: port 80 or 443".to_owned()
        } else {
            "this is no word of an expression (such as host, net, port, and, or, not)".to_owned()
        };
        self.refuse(&reason)
    }

    fn refuse_depth(&self) -> Error {
        self.refuse(&format!("too many conditions are inside of each other: at most {DEPTH_MAX}"))
    }
}

fn leaf(expression: Expression) -> Tree {
    Tree { expression, height: 3 }
}

fn of_version(version: Option<Version>) -> Expression {
    match version {
        None => Expression::everything(),
        Some(Version::V4) => Test::Ipv4.into(),
        Some(Version::V6) => Test::Ipv6.into(),
    }
}

/// Whether only frames with a VLAN tag can hold.
fn needs_tag(expression: &Expression) -> bool {
    match expression {
        Expression::Test(test) => matches!(test, Test::Vlan(_)),
        Expression::Not(_) => false,
        Expression::And(all) => all.iter().any(needs_tag),
        Expression::Or(any) => !any.is_empty() && any.iter().all(needs_tag),
    }
}

/// Decimal, hexadecimal or octal, as in C.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = |digits: &str, radix| {
        let valid = digits.starts_with(|c: char| c.is_digit(radix));
        if valid { u32::from_str_radix(digits, radix).ok() } else { None }
    };
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => digits(&text[2..], 16),
        [b'0', _, ..] => digits(&text[1..], 8),
        _ => digits(text, 10),
    }
}

/// A net of IPv4 with octets left out: `10`, `172.16`, `192.168.1`.
fn short(text: &str) -> Option<(Ipv4Addr, u8)> {
    let mut octets = [0; 4];
    let mut count = 0;
    for octet in text.split('.') {
        *octets.get_mut(count)? = octet.parse().ok().filter(|_| octet.starts_with(|c: char| c.is_ascii_digit()))?;
        count += 1;
    }
    Some((octets.into(), count as u8 * 8))
}

/// More than anybody writes, and little enough for the stack.
const DEPTH_MAX: usize = 100;
