//! Asking the kernel about interfaces, routes and neighbours, and being told of changes.

pub mod events;
pub mod interface;
pub mod neighbour;
pub mod route;

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Enough for what the kernel puts into one datagram of a dump (32 KiB).
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a netlink message's header.
const HEADER_BYTES: usize = 16;

/// A socket for questions.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the network namespace of this process.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Asks one thing; `flags` beside those that every question has.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_ACK | flags)?;
        self.receive()
    }

    /// Asks for all of a kind.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_DUMP)?;
        self.receive()
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Reads up to the end of the answer: its acknowledgement, or the end of the dump.
    fn receive(&mut self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for bytes in messages(&self.buffer) {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if message.header.sequence_number != self.sequence {
                    continue; // the rest of an answer that was given up
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(answers),
                        Some(_) => return Err(error.to_io()),
                    },
                    _ => {}
                }
            }
        }
    }
}

/// The messages of a datagram, headers included.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = datagram.get(..length).filter(|message| message.len() >= HEADER_BYTES)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_cut_into_its_messages() {
        let mut datagram = vec![0; 44];
        datagram[0] = 18; // padded to 20
        datagram[20] = 24;
        let lengths: Vec<_> = messages(&datagram).map(<[u8]>::len).collect();
        assert_eq!(lengths, [18, 24]);
    }

    #[test]
    fn a_broken_length_ends_the_datagram() {
        for length in [0u8, 15, 17] {
            let mut datagram = [0; 16];
            datagram[0] = length;
            assert_eq!(messages(&datagram).count(), 0);
        }
        assert_eq!(messages(&[1, 2]).count(), 0);
    }
}
