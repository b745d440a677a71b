//! Comparisons of a header's octets with numbers.

use super::{Expression, Layer, Test, parse::number};

/// A number, known now or when there is a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Constant(u32),
    Octets(Octets),
}

/// `(octets & mask)`, shifted to the right by so many bits, or to the left where that is negative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octets {
    layer: Layer,
    offset: u8,
    width: u8,
    mask: u32,
    shift: i32,
}

impl Value {
    /// A number, or the name of one.
    pub(super) fn named(text: &str) -> Option<Self> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
        named.or_else(|| number(text)).map(Self::Constant)
    }

    pub(super) fn layer(text: &str) -> Option<Layer> {
        match text {
            "ip" => Some(Layer::Ip),
            "ip6" => Some(Layer::Ip6),
            "tcp" => Some(Layer::Tcp),
            _ => None,
        }
    }

    pub(super) fn octets(layer: Layer, offset: Self, width: u8) -> Result<Self, String> {
        let Self::Constant(offset) = offset else {
            return Err("an offset that differs from frame to frame is not evaluated in the kernel".to_owned());
        };
        let (len, what) = match layer {
            Layer::Ip => (20, "the 20 octets of an IPv4 header without options"),
            Layer::Ip6 => (40, "the 40 octets of an IPv6 header"),
            Layer::Tcp => (20, "the 20 octets of a TCP header without options"),
        };
        match u8::try_from(offset) {
            Ok(offset) if u32::from(offset) + u32::from(width) <= len => {
                Ok(Self::Octets(Octets { layer, offset, width, mask: octets_max(width), shift: 0 }))
            }
            _ => Err(format!("beyond {what}, which is what the kernel looks at")),
        }
    }

    /// As in C, with 32 bits.
    pub(super) fn join(self, operator: &str, right: Self) -> Result<Self, String> {
        match (self, operator, right) {
            (Self::Constant(left), _, Self::Constant(right)) => {
                let by_zero = || "a division by zero".to_owned();
                Ok(Self::Constant(match operator {
                    "|" => left | right,
                    "&" => left & right,
                    "^" => left ^ right,
                    "<<" => left.checked_shl(right).unwrap_or(0),
                    ">>" => left.checked_shr(right).unwrap_or(0),
                    "+" => left.wrapping_add(right),
                    "-" => left.wrapping_sub(right),
                    "*" => left.wrapping_mul(right),
                    "/" => left.checked_div(right).ok_or_else(by_zero)?,
                    _ => left.checked_rem(right).ok_or_else(by_zero)?,
                }))
            }
            (Self::Octets(octets), "&", Self::Constant(mask)) | (Self::Constant(mask), "&", Self::Octets(octets)) => {
                let mask = shifted(mask.into(), -octets.shift) as u32;
                Ok(Self::Octets(Octets { mask: octets.mask & mask, ..octets }))
            }
            (Self::Octets(octets), ">>", Self::Constant(by @ 0..32)) => {
                let shift = octets.shift + by as i32;
                // Bits that leave at the lower end do not come back.
                let gone = u32::try_from(shift).map_or(0, |shift| !u32::MAX.checked_shl(shift).unwrap_or(0));
                let mask = octets.mask & !gone;
                Ok(Self::Octets(Octets { mask, shift: if mask == 0 { 0 } else { shift }, ..octets }))
            }
            (Self::Octets(octets), "<<", Self::Constant(by @ 0..32)) => {
                let shift = octets.shift - by as i32;
                if shifted(octets.mask.into(), shift) > u64::from(u32::MAX) {
                    return Err("bits are shifted out of the 32 of a number".to_owned());
                }
                Ok(Self::Octets(Octets { shift, ..octets }))
            }
            (Self::Octets(_), _, Self::Octets(_)) => Err(TWO_SIDES.to_owned()),
            _ => Err("of octets and a number, only &, << and >> are evaluated in the kernel".to_owned()),
        }
    }

    pub(super) fn negate(self) -> Result<Self, String> {
        Self::Constant(0).join("-", self)
    }
}

/// What a comparison says of the left side: it lies between two numbers, or it does not.
pub(super) struct Relation {
    operator: Operator,
}

#[derive(Clone, Copy)]
enum Operator {
    Less,
    AtMost,
    Equal,
    Unequal,
    AtLeast,
    More,
}

impl Relation {
    pub(super) fn of(text: &str) -> Option<Self> {
        let operator = match text {
            "<" => Operator::Less,
            "<=" => Operator::AtMost,
            "=" | "==" => Operator::Equal,
            "!=" => Operator::Unequal,
            ">=" => Operator::AtLeast,
            ">" => Operator::More,
            _ => return None,
        };
        Some(Self { operator })
    }

    pub(super) fn compare(self, left: Value, right: Value) -> Result<Expression, String> {
        let (octets, operator, constant) = match (left, right) {
            (Value::Octets(octets), Value::Constant(constant)) => (octets, self.operator, constant),
            (Value::Constant(constant), Value::Octets(octets)) => (octets, self.operator.mirrored(), constant),
            (Value::Constant(left), Value::Constant(right)) => {
                let (low, high) = self.operator.range(right);
                let holds = (low..=high).contains(&i64::from(left)) != self.operator.is_negative();
                return Ok(if holds { Expression::everything() } else { Expression::nothing() });
            }
            (Value::Octets(_), Value::Octets(_)) => return Err(TWO_SIDES.to_owned()),
        };
        let (low, high) = operator.range(constant);
        let found = octets.between(low, high);
        Ok(octets.of_version(if operator.is_negative() { !found } else { found }))
    }
}

impl Operator {
    /// The same with its sides exchanged.
    fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::More,
            Self::AtMost => Self::AtLeast,
            Self::AtLeast => Self::AtMost,
            Self::More => Self::Less,
            Self::Equal | Self::Unequal => self,
        }
    }

    /// Where the left side has to lie; empty when the first is larger. Where it must not, of [`Self::Unequal`].
    fn range(self, right: u32) -> (i64, i64) {
        let right = i64::from(right);
        match self {
            Self::Less => (0, right - 1),
            Self::AtMost => (0, right),
            Self::Equal | Self::Unequal => (right, right),
            Self::AtLeast => (right, u32::MAX.into()),
            Self::More => (right + 1, u32::MAX.into()),
        }
    }

    fn is_negative(self) -> bool {
        matches!(self, Self::Unequal)
    }
}

impl Octets {
    fn between(self, low: i64, high: i64) -> Expression {
        let Self { layer, offset, width, mask, shift } = self;
        let (Ok(low), Ok(high)) = (u64::try_from(low), u64::try_from(high)) else { return Expression::nothing() };
        // To the numbers before the shift: all that end up between.
        let (low, high) = if shift >= 0 {
            (low << shift, ((high + 1) << shift) - 1)
        } else {
            (low.div_ceil(1 << -shift), high >> -shift)
        };
        if low > high || low > u64::from(mask) {
            return Expression::nothing();
        }
        if low == 0 && high >= u64::from(mask) {
            return Expression::everything();
        }
        let (low, high) = (low as u32, high.min(octets_max(width).into()) as u32);
        Test::Header { layer, offset, width, mask, low, high }.into()
    }

    /// There are octets of IPv4 in IPv4 alone.
    fn of_version(self, expression: Expression) -> Expression {
        let version = match self.layer {
            Layer::Ip => Test::Ipv4,
            Layer::Ip6 => Test::Ipv6,
            Layer::Tcp => return expression,
        };
        match expression {
            Expression::And(all) if all.is_empty() => version.into(),
            Expression::Test(_) => expression,
            expression => Expression::And(vec![version.into(), expression]),
        }
    }
}

/// To the right by so many bits, or to the left.
fn shifted(value: u64, by: i32) -> u64 {
    if by >= 0 { value.checked_shr(by as u32).unwrap_or(0) } else { value.checked_shl(by.unsigned_abs()).unwrap_or(0) }
}

fn octets_max(width: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(width))
}

const TWO_SIDES: &str = "octets are compared with a number, not with other octets";

/// Those of pcap-filter(7) that are about TCP.
const NAMES: [(&str, u32); 9] = [
    ("tcpflags", 13),
    ("tcp-fin", 0x01),
    ("tcp-syn", 0x02),
    ("tcp-rst", 0x04),
    ("tcp-push", 0x08),
    ("tcp-ack", 0x10),
    ("tcp-urg", 0x20),
    ("tcp-ece", 0x40),
    ("tcp-cwr", 0x80),
];
