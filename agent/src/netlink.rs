//! As much of rtnetlink (RFC 3549) as the interface list and the clsact fallback need.

use std::io;

use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with},
};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_DELQDISC: u16 = 37;
pub(crate) const RTM_NEWTFILTER: u16 = 44;
pub(crate) const RTM_GETTFILTER: u16 = 46;

/// The fixed part of a message and the attributes behind it, for each message of type `answer` in the dump.
pub(crate) fn dump(request: u16, payload: &[u8], answer: u16) -> io::Result<Vec<Vec<u8>>> {
    let socket = ask(request, NLM_F_REQUEST | NLM_F_DUMP, payload)?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let (_, len) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        for (kind, payload) in messages(buffer.get(..len).unwrap_or_default()) {
            match kind {
                NLMSG_DONE => return Ok(answers),
                NLMSG_ERROR => return Err(error(payload)),
                kind if kind == answer => answers.push(payload.to_vec()),
                _ => {}
            }
        }
    }
}

/// Sends a request and waits for its acknowledgement.
pub(crate) fn change(request: u16, payload: &[u8]) -> io::Result<()> {
    let socket = ask(request, NLM_F_REQUEST | NLM_F_ACK, payload)?;
    let mut buffer = vec![0; BUFFER_SIZE];
    let (_, len) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    match messages(buffer.get(..len).unwrap_or_default()).next() {
        Some((NLMSG_ERROR, [0, 0, 0, 0, ..])) => Ok(()),
        Some((NLMSG_ERROR, payload)) => Err(error(payload)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes of a message, or of an attribute that holds attributes.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    split(bytes, 4, |header| {
        let len = u16::from_ne_bytes([header[0], header[1]]);
        // The upper two bits say that the attribute is nested, or in network byte order.
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        (usize::from(len), kind)
    })
}

fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    split(bytes, HEADER_LEN, |header| {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        (len as usize, u16::from_ne_bytes([header[4], header[5]]))
    })
}

/// Splits what comes as headers with a length that counts the header, each followed by its content and padding to four
/// octets. Ends at the first header that contradicts itself.
fn split(
    mut bytes: &[u8],
    header_len: usize,
    header: impl Fn(&[u8]) -> (usize, u16),
) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = header(bytes.get(..header_len)?);
        let content = bytes.get(header_len..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

fn ask(request: u16, flags: u16, payload: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(HEADER_LEN + payload.len());
    message.extend_from_slice(&((HEADER_LEN + payload.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&request.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port: one request per socket needs neither.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(payload);
    send(&socket, &message, SendFlags::empty())?;
    Ok(socket)
}

fn error(payload: &[u8]) -> io::Error {
    match payload.first_chunk() {
        Some(&code) => io::Error::from_raw_os_error(i32::from_ne_bytes(code).wrapping_neg()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

const HEADER_LEN: usize = 16;
/// What libmnl and iproute2 use at least; the kernel never puts more into one datagram of a dump.
const BUFFER_SIZE: usize = 64 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_end_where_they_contradict_themselves() {
        let bytes = [5, 0, 1, 0, b'x', 0, 0, 0, 6, 0, 2, 0x80, 1, 2, 0, 0, 40, 0, 3, 0];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &b"x"[..]), (2, &[1, 2][..])]);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}
