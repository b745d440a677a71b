//! Numbers, times and addresses as text. A record has sixty of them, and `fmt` takes longer over them than the kernel does
//! over the record.

use std::{
    fmt::{Arguments, Write as _},
    net::IpAddr,
};

use crate::clock::{Civil, Wall};

pub(super) fn number(out: &mut String, value: impl Into<u64>) {
    out.push_str(itoa::Buffer::new().format(value.into()));
}

/// The last `N` digits, zeros in front.
pub(super) fn digits<const N: usize>(out: &mut String, mut value: u64) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.push_str(str::from_utf8(&text).unwrap_or_default());
}

/// The first ten characters of [`time`].
pub(super) fn date(out: &mut String, Civil { year, month, day, .. }: Civil) {
    digits::<4>(out, year);
    for value in [month, day] {
        out.push('-');
        digits::<2>(out, value);
    }
}

/// As [`Wall`] displays it.
pub(super) fn time(out: &mut String, time: Wall) {
    let civil = time.civil();
    let Civil { hour, minute, second, nanosecond, .. } = civil;
    date(out, civil);
    for (before, value) in [('T', hour), (':', minute), (':', second)] {
        out.push(before);
        digits::<2>(out, value);
    }
    out.push('.');
    digits::<9>(out, nanosecond);
    out.push('Z');
}

pub(super) fn ip(out: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [first, rest @ ..] = ip.octets();
            number(out, first);
            for octet in rest {
                out.push('.');
                number(out, octet);
            }
        }
        IpAddr::V6(ip) => format(out, format_args!("{ip}")),
    }
}

pub(super) fn format(out: &mut String, arguments: Arguments<'_>) {
    // A String takes everything.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_fmt_makes_of_it() {
        for value in [0, 7, 99, 100, 65_535, 951_868_799_123_456_789, u64::MAX] {
            let (mut ours, wall) = (String::new(), Wall(value));
            number(&mut ours, value);
            time(&mut ours, wall);
            digits::<3>(&mut ours, value);
            assert_eq!(ours, format!("{value}{wall}{:03}", value % 1_000));
        }
        for address in ["0.0.0.0", "192.0.2.255", "2001:db8::1"] {
            let mut ours = String::new();
            ip(&mut ours, address.parse().unwrap());
            assert_eq!(ours, address);
        }
    }
}
