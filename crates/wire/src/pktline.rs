//! pkt-lines: four hexadecimal digits of length, then the payload (`gitprotocol-common`).

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length prefix.
pub const PREFIX_LEN: usize = 4;
/// The longest packet, prefix included (`LARGE_PACKET_MAX`).
pub const PACKET_LEN_MAX: usize = 65_520;
/// The longest payload.
pub const PAYLOAD_LEN_MAX: usize = PACKET_LEN_MAX - PREFIX_LEN;

/// `0000`: the end of a message.
pub const FLUSH: &[u8; 4] = b"0000";
/// `0001`: the end of a section.
pub const DELIM: &[u8; 4] = b"0001";
/// `0002`: the end of a response on a stateless connection.
pub const RESPONSE_END: &[u8; 4] = b"0002";

/// What is wrong with a stream of pkt-lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PktError {
    /// The four length bytes are no hexadecimal number.
    #[error("a packet starts with {0:?}, not with its length")]
    Length(String),
    /// The length is one that the protocol does not have (3, or more than 65,520).
    #[error("a packet claims {0} bytes")]
    Size(usize),
    /// A payload to encode is longer than a packet can be.
    #[error("{0} bytes do not fit into a packet")]
    TooLong(usize),
    /// The stream ended inside a packet.
    #[error("the stream ends inside a packet")]
    Truncated,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A payload (possibly empty).
    Data(Bytes),
    /// [`FLUSH`].
    Flush,
    /// [`DELIM`].
    Delim,
    /// [`RESPONSE_END`].
    ResponseEnd,
}

/// One packet that lies in a message held as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketSlice<'a> {
    /// A payload (possibly empty).
    Data(&'a [u8]),
    /// [`FLUSH`].
    Flush,
    /// [`DELIM`].
    Delim,
    /// [`RESPONSE_END`].
    ResponseEnd,
}

/// Takes the first packet off `bytes`, copying nothing; `None` = there is no whole packet.
pub fn take<'a>(bytes: &mut &'a [u8]) -> Result<Option<PacketSlice<'a>>, PktError> {
    let Some(len) = length(bytes)? else { return Ok(None) };
    let Some((packet, rest)) = bytes.split_at_checked(len.max(PREFIX_LEN)) else { return Ok(None) };
    *bytes = rest;
    Ok(Some(match len {
        0 => PacketSlice::Flush,
        1 => PacketSlice::Delim,
        2 => PacketSlice::ResponseEnd,
        _ => PacketSlice::Data(&packet[PREFIX_LEN..]),
    }))
}

/// The length of the packet that `bytes` start with, prefix included, or 0, 1 and 2 for those without a payload.
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, PktError> {
    let Some(digits) = bytes.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
    match parse_length(*digits)? {
        len if len == 3 || len > PACKET_LEN_MAX => Err(PktError::Size(len)),
        len => Ok(Some(len)),
    }
}

/// Appends `payload` as one packet.
pub fn write(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), PktError> {
    if payload.len() > PAYLOAD_LEN_MAX {
        return Err(PktError::TooLong(payload.len()));
    }
    out.extend_from_slice(&prefix(payload.len() + PREFIX_LEN));
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends `parts`, joined and ended by LF, as one packet.
pub fn write_line(out: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), PktError> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
    if len > PAYLOAD_LEN_MAX {
        return Err(PktError::TooLong(len));
    }
    out.extend_from_slice(&prefix(len + PREFIX_LEN));
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
    Ok(())
}

pub(crate) fn prefix(len: usize) -> [u8; PREFIX_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [12, 8, 4, 0].map(|shift| DIGITS[(len >> shift) & 15])
}

/// A line's text: the payload without the LF that senders may add.
pub fn chomp(payload: &[u8]) -> &[u8] {
    payload.strip_suffix(b"\n").unwrap_or(payload)
}

/// Takes bytes in any portions and gives packets out.
///
/// It keeps at most one packet more than was last pushed, if the caller drains it after each push.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends what the transport received.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole packet; `None` = push more.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, PktError> {
        let Some(len) = length(&self.buffer)? else { return Ok(None) };
        let special = match len {
            0 => Packet::Flush,
            1 => Packet::Delim,
            2 => Packet::ResponseEnd,
            _ if self.buffer.len() < len => return Ok(None),
            _ => {
                self.buffer.advance(PREFIX_LEN);
                return Ok(Some(Packet::Data(self.buffer.split_to(len - PREFIX_LEN).freeze())));
            }
        };
        self.buffer.advance(PREFIX_LEN);
        Ok(Some(special))
    }

    /// What was pushed and not yet decoded.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// Checks that the stream did not end inside a packet.
    pub fn finish(&self) -> Result<(), PktError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(PktError::Truncated) }
    }
}

fn parse_length(digits: [u8; PREFIX_LEN]) -> Result<usize, PktError> {
    digits
        .iter()
        .try_fold(0usize, |len, digit| Some(len * 16 + char::from(*digit).to_digit(16)? as usize))
        .ok_or_else(|| PktError::Length(crate::printable(&digits, 16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_all(bytes: &[u8], portion: usize) -> Result<Vec<Packet>, PktError> {
        let (mut decoder, mut packets) = (Decoder::new(), Vec::new());
        for chunk in bytes.chunks(portion) {
            decoder.push(chunk);
            while let Some(packet) = decoder.next_packet()? {
                packets.push(packet);
            }
        }
        decoder.finish().map(|()| packets)
    }

    #[test]
    fn packets_survive_any_portioning() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"a\n").unwrap();
        bytes.extend_from_slice(DELIM);
        write(&mut bytes, &[7; PAYLOAD_LEN_MAX]).unwrap();
        write_line(&mut bytes, &[b"want ", b"x"]).unwrap();
        write(&mut bytes, b"").unwrap();
        bytes.extend_from_slice(RESPONSE_END);
        bytes.extend_from_slice(FLUSH);
        assert!(bytes.starts_with(b"0006a\n0001fff0"));
        let whole = decode_all(&bytes, bytes.len()).unwrap();
        assert_eq!(whole.len(), 7);
        assert_eq!(whole[3], Packet::Data(Bytes::from_static(b"want x\n")));
        assert_eq!(whole[4], Packet::Data(Bytes::new()));
        for portion in [1, 2, 3, 5, 4096] {
            assert_eq!(decode_all(&bytes, portion).unwrap(), whole);
        }
        let mut rest = &bytes[..];
        for packet in whole {
            let slice = match &packet {
                Packet::Data(payload) => PacketSlice::Data(payload),
                Packet::Flush => PacketSlice::Flush,
                Packet::Delim => PacketSlice::Delim,
                Packet::ResponseEnd => PacketSlice::ResponseEnd,
            };
            assert_eq!(take(&mut rest), Ok(Some(slice)));
        }
        assert_eq!((take(&mut rest), take(&mut &b"0006a"[..])), (Ok(None), Ok(None)));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert_eq!(decode_all(b"0003", 4), Err(PktError::Size(3)));
        assert_eq!(decode_all(b"fff1", 4), Err(PktError::Size(0xfff1)));
        assert_eq!(decode_all(b"<htm", 4), Err(PktError::Length("<htm".into())));
        assert_eq!(decode_all(b"+001", 4), Err(PktError::Length("+001".into())));
        assert_eq!(decode_all(b"0006a", 5), Err(PktError::Truncated));
        assert_eq!(write(&mut Vec::new(), &[0; PAYLOAD_LEN_MAX + 1]), Err(PktError::TooLong(PAYLOAD_LEN_MAX + 1)));
        assert_eq!(write_line(&mut Vec::new(), &[&[0; PAYLOAD_LEN_MAX]]), Err(PktError::TooLong(PAYLOAD_LEN_MAX + 1)));
    }
}
