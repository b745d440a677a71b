//! An expression in words and symbols, each with its place.

use std::ops::Range;

/// A word or a symbol of an expression.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Octets of the expression.
    pub(super) at: Range<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A keyword, a name, a number, an address or a net.
    Word,
    Symbol,
    /// Behind the last one.
    End,
}

/// Splits an expression; the last token is [`Kind::End`]. A character that means nothing is a symbol of its own, so that
/// whoever reads it can say what belongs in its place.
pub(super) fn split(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    // Between brackets a colon stands between offset and width; elsewhere it is a part of an address.
    let mut brackets = 0_usize;
    while let Some(first) = rest.chars().next() {
        let in_brackets = brackets > 0;
        let (kind, len) =
            if first.is_ascii_alphanumeric() || matches!(first, '\\' | '_') || first == ':' && !in_brackets {
                let number = in_brackets && first.is_ascii_digit();
                let is_inside = |c: char| match c {
                    '_' => true,
                    '-' | '.' => !number,
                    ':' | '/' => !in_brackets,
                    c => c.is_ascii_alphanumeric(),
                };
                let behind = rest[1..].find(|c| !is_inside(c));
                (Kind::Word, behind.map_or(rest.len(), |behind| 1 + behind))
            } else {
                let two = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
                (Kind::Symbol, two.map_or_else(|| first.len_utf8(), |symbol| symbol.len()))
            };
        let (token, behind) = rest.split_at(len);
        match token {
            "[" => brackets += 1,
            "]" => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        let start = text.len() - rest.len();
        tokens.push(Token { kind, text: token, at: start..start + len });
        rest = behind.trim_start();
    }
    tokens.push(Token { kind: Kind::End, text: "", at: text.trim_end().len()..text.trim_end().len() });
    tokens
}

/// Those of two characters.
const SYMBOLS: [&str; 8] = ["&&", "||", "<<", ">>", "<=", ">=", "==", "!="];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_symbols() {
        for (text, expected) in [
            ("tcp port 80", "tcp port 80"),
            ("tcp[0:2]=443&&net 10.0.0.0/8", "tcp [ 0 : 2 ] = 443 && net 10.0.0.0/8"),
            ("tcp[tcpflags]&(tcp-syn|tcp-fin)!=0", "tcp [ tcpflags ] & ( tcp-syn | tcp-fin ) != 0"),
            ("!(host ::1 or 2001:db8::/32)", "! ( host ::1 or 2001:db8::/32 )"),
            ("ip[12-4]<=0x7f>>1", "ip [ 12 - 4 ] <= 0x7f >> 1"),
            ("tcp[((tcp[12:1]&0xf0)>>2):4]=1", "tcp [ ( ( tcp [ 12 : 1 ] & 0xf0 ) >> 2 ) : 4 ] = 1"),
            ("proto \\tcp", "proto \\tcp"),
            ("port 80,443 é", "port 80 , 443 é"),
            (" \t\n", ""),
        ] {
            let tokens = split(text);
            let (end, tokens) = tokens.split_last().unwrap();
            assert_eq!((end.kind, &end.at), (Kind::End, &(text.trim_end().len()..text.trim_end().len())));
            assert_eq!(tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" "), expected);
            assert!(tokens.iter().all(|token| &text[token.at.clone()] == token.text));
        }
    }
}
