//! Comparisons of numbers: `tcp[13] & 2 != 0`.

use super::{Parsed, Parser, number, word::refusal};
use crate::filter::{
    Expression,
    arithmetic::{Relation, Value},
    error::Error,
};

impl Parser<'_> {
    /// Whether a comparison of numbers begins here.
    pub(super) fn is_arithmetic(&self) -> bool {
        let rest = self.tokens.get(self.next..).unwrap_or_default();
        let Some(first) = rest.iter().position(|token| token.text != "(") else { return false };
        let text = |at: usize| rest.get(at).map_or("", |token| token.text);
        match text(first) {
            "-" => true,
            word if text(first + 1) == "[" => refusal(word).is_none(),
            word => Value::named(word).is_some() && is_operator(text(first + 1)),
        }
    }

    /// `octets = number`, and the like.
    pub(super) fn relation(&mut self) -> Parsed<Expression> {
        self.subject = None;
        let left = self.sum(0)?;
        let operator = self.peek().clone();
        let Some(relation) = Relation::of(operator.text) else {
            return Err(self.refuse("a comparison is missing here (such as != 0)"));
        };
        self.skip();
        let right = self.sum(0)?;
        relation.compare(left, right).map_err(|reason| Error::new(self.text, operator.at, reason))
    }

    /// Numbers with operators between them that bind as the one at `level` of [`LEVELS`], or closer.
    fn sum(&mut self, level: usize) -> Parsed<Value> {
        let Some(operators) = LEVELS.get(level) else { return self.number() };
        let mut value = self.sum(level + 1)?;
        while operators.contains(&self.peek().text) {
            let operator = self.peek().clone();
            self.skip();
            let right = self.sum(level + 1)?;
            let joined = value.join(operator.text, right);
            value = joined.map_err(|reason| Error::new(self.text, operator.at, reason))?;
        }
        Ok(value)
    }

    fn number(&mut self) -> Parsed<Value> {
        let token = self.peek().clone();
        match token.text {
            "(" => {
                self.skip();
                let value = self.within(|parser| parser.sum(0))?;
                self.expect(")", "a parenthesis is not closed before this")?;
                Ok(value)
            }
            "-" => {
                self.skip();
                let value = self.within(Self::number)?;
                value.negate().map_err(|reason| Error::new(self.text, token.at, reason))
            }
            text => {
                if let Some(value) = Value::named(text) {
                    self.skip();
                    return Ok(value);
                }
                if self.tokens.get(self.next + 1).is_some_and(|token| token.text == "[") {
                    return self.octets();
                }
                let reason = refusal(text).unwrap_or("not a number, and no octets of a header (such as tcp[13])");
                Err(self.refuse(reason))
            }
        }
    }

    /// `tcp[offset:width]`.
    fn octets(&mut self) -> Parsed<Value> {
        let Some(layer) = Value::layer(self.peek().text) else {
            let reason = refusal(self.peek().text).unwrap_or("octets of ip, ip6 and tcp can be asked for");
            return Err(self.refuse(reason));
        };
        self.skip();
        self.skip();
        let place = self.peek().at.start;
        let offset = self.within(|parser| parser.sum(0))?;
        let offset_at = place..self.tokens.get(self.next.saturating_sub(1)).map_or(place, |token| token.at.end);
        let (mut width, mut width_at) = (1, None);
        if self.peek().text == ":" {
            self.skip();
            width = number(self.peek().text)
                .filter(|width| [1, 2, 4].contains(width))
                .ok_or_else(|| self.refuse("so many octets are not compared at once (1, 2 or 4)"))?;
            width_at = Some(self.peek().at.end);
            self.skip();
        }
        self.expect("]", "a bracket is not closed before this")?;
        let at = offset_at.start..width_at.unwrap_or(offset_at.end);
        Value::octets(layer, offset, width as u8).map_err(|reason| Error::new(self.text, at, reason))
    }
}

fn is_operator(text: &str) -> bool {
    Relation::of(text).is_some() || LEVELS.iter().any(|level| level.contains(&text))
}

/// Operators of arithmetic; those further down bind closer.
const LEVELS: [&[&str]; 4] = [&["|", "&", "^"], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];
