//! The side-band: data, progress and a fatal error multiplexed over pkt-lines (`gitprotocol-pack`).

use bytes::Bytes;

use crate::pktline::{Decoder, Packet, PktError};
use crate::printable;

/// Longest text kept of a remote's fatal error, in bytes.
pub(crate) const FATAL_LEN_MAX: usize = 8 * 1024;

/// What a side-band packet brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Channel 1: a piece of the payload.
    Data(Bytes),
    /// Channel 2: text for the user, as sent; see [`printable`].
    Progress(Bytes),
    /// Channel 3, or an `ERR` packet outside of any: the remote gave up; its words, printable.
    Fatal(String),
    /// The flush packet: the payload is complete.
    End,
}

/// What is wrong with a side-band stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SidebandError {
    /// It is no stream of packets.
    #[error(transparent)]
    Packet(#[from] PktError),
    /// A packet on a channel that does not exist, or without any.
    #[error("a side-band packet names channel {0:?}")]
    Channel(Option<u8>),
    /// A delimiter where only data may come.
    #[error("a delimiter inside a side-band stream")]
    Delimiter,
}

/// The event that one packet of a side-band stream stands for.
pub fn classify(packet: Packet) -> Result<Event, SidebandError> {
    let Packet::Data(mut payload) = packet else {
        return match packet {
            Packet::Delim => Err(SidebandError::Delimiter),
            _ => Ok(Event::End),
        };
    };
    if payload.is_empty() {
        return Err(SidebandError::Channel(None));
    }
    if let Some(message) = payload.strip_prefix(b"ERR ") {
        return Ok(Event::Fatal(printable(message.trim_ascii(), FATAL_LEN_MAX)));
    }
    let channel = payload.split_to(1)[0];
    match channel {
        1 => Ok(Event::Data(payload)),
        2 => Ok(Event::Progress(payload)),
        3 => Ok(Event::Fatal(printable(payload.trim_ascii(), FATAL_LEN_MAX))),
        other => Err(SidebandError::Channel(Some(other))),
    }
}

/// Takes bytes in any portions and gives side-band events out.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    decoder: Decoder,
}

impl Demultiplexer {
    /// A demultiplexer at the start of a side-band stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues where `decoder` stands: a v2 answer becomes side-band in its `packfile` section.
    pub fn resume(decoder: Decoder) -> Self {
        Self { decoder }
    }

    /// Appends what the transport received.
    pub fn push(&mut self, chunk: &[u8]) {
        self.decoder.push(chunk);
    }

    /// The next event; `None` = push more.
    pub fn next_event(&mut self) -> Result<Option<Event>, SidebandError> {
        self.decoder.next_packet()?.map(classify).transpose()
    }

    /// Checks that the stream did not end inside a packet.
    pub fn finish(&self) -> Result<(), SidebandError> {
        Ok(self.decoder.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline;

    #[test]
    fn channels_come_apart() {
        let mut bytes = Vec::new();
        for payload in [&b"\x01PACK"[..], b"\x02counting\r", b"\x01", b"\x03\x1b[2Jno\n", b"ERR denied\n"] {
            pktline::write(&mut bytes, payload).unwrap();
        }
        bytes.extend_from_slice(pktline::FLUSH);
        let mut demux = Demultiplexer::new();
        let mut events = Vec::new();
        for chunk in bytes.chunks(3) {
            demux.push(chunk);
            while let Some(event) = demux.next_event().unwrap() {
                events.push(event);
            }
        }
        demux.finish().unwrap();
        assert_eq!(
            events,
            [
                Event::Data(Bytes::from_static(b"PACK")),
                Event::Progress(Bytes::from_static(b"counting\r")),
                Event::Data(Bytes::new()),
                Event::Fatal("\\u{1b}[2Jno".into()),
                Event::Fatal("denied".into()),
                Event::End
            ]
        );
    }

    #[test]
    fn unknown_channels_and_delimiters_are_errors() {
        for (bytes, error) in [
            (&b"0005\x04"[..], SidebandError::Channel(Some(4))),
            (b"0007EUR", SidebandError::Channel(Some(b'E'))),
            (b"0004", SidebandError::Channel(None)),
            (b"0001", SidebandError::Delimiter),
            (b"zzzz", SidebandError::Packet(PktError::Length("zzzz".into()))),
        ] {
            let mut demux = Demultiplexer::new();
            demux.push(bytes);
            assert_eq!(demux.next_event(), Err(error));
        }
    }
}
