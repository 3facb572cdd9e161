"""Makes packets.txt with scapy 2.8: python3 packets.py > packets.txt

Each line is the name of a frame and its bytes. Names that end in a number are the fragments of the
frame that has the rest of the name.
"""

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    fragment6,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

PAYLOAD = bytes(i % 251 for i in range(1000))
LINK = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
TAGGED = LINK / Dot1AD(vlan=100) / Dot1Q(vlan=7)
NEW_LINK = Ether(dst="02:00:00:00:00:b2", src="02:00:00:00:00:a1")

CLIENT, SERVER, TARGET = "198.51.100.1", "192.0.2.9", "198.18.5.6"
CLIENT6, SERVER6, TARGET6 = "2001:db8::1", "2001:db8::9", "2001:db8:ffff::6"

LOOSE_ROUTE = IPOption(bytes.fromhex("8307041234567f"))  # copied
RECORD_ROUTE = IPOption(bytes.fromhex("0707040a0a0a0a"))  # not copied
NO_OPERATION = IPOption(b"\x01")
ROUTER_ALERT = IPOption(bytes.fromhex("94040000"))  # copied
END = IPOption(b"\x00")


def show(name, frame):
    print(name, bytes(frame).hex())


def show_all(name, frames):
    for number, frame in enumerate(frames):
        show(f"{name}-{number}", frame)


def ipv4(link, name, packet, size):
    """A packet whole, and its fragments of `size` bytes of data."""
    packet = IP(bytes(packet))
    show(name, link / packet)
    show_all(name, [link / piece for piece in fragment(packet, size)])


def udp(destination, port, **fields):
    header = IP(src=CLIENT, dst=destination, id=0x1234, ttl=61, tos=0x28, **fields)
    return header / UDP(sport=40000, dport=port) / Raw(PAYLOAD)


ipv4(LINK, "udp", udp(SERVER, 9995), 400)
ipv4(NEW_LINK, "translated", udp(TARGET, 9005), 400)
ipv4(LINK, "small-pieces", udp(SERVER, 9995), 48)
ipv4(TAGGED, "tagged", IP(src=CLIENT, dst=SERVER, id=7) / ICMP() / Raw(PAYLOAD), 256)
# A fragment with "more fragments" in the middle of a datagram, fragmented again.
ipv4(LINK, "middle", IP(src=CLIENT, dst=SERVER, id=9, frag=50, flags="MF", proto=17) / Raw(PAYLOAD[:800]), 256)

# All options stand in the first fragment, those that are to be copied in the others.
ALL = [NO_OPERATION, LOOSE_ROUTE, RECORD_ROUTE, ROUTER_ALERT, END]
COPIED = [LOOSE_ROUTE, ROUTER_ALERT, END]
DATA = bytes(UDP(sport=1, dport=2) / Raw(PAYLOAD[:200]))
FIELDS = {"src": CLIENT, "dst": SERVER, "id": 77, "proto": 17}
show("options", LINK / IP(options=ALL, **FIELDS) / Raw(DATA))
show("options-0", LINK / IP(options=ALL, flags="MF", **FIELDS) / Raw(DATA[:96]))
show("options-1", LINK / IP(options=COPIED, flags="MF", frag=12, **FIELDS) / Raw(DATA[96:200]))
show("options-2", LINK / IP(options=COPIED, frag=25, **FIELDS) / Raw(DATA[200:]))


def ipv6(link, name, before, inner):
    """A packet whole, and its fragments; `before` stands before the fragment header."""
    show(name, link / before() / inner())
    whole = IPv6(bytes(before() / inner()))
    upper = whole.getlayer(type(inner()))
    fragmented = before() / IPv6ExtHdrFragment(id=0xABCD) / upper
    show_all(name, [link / piece for piece in fragment6(fragmented, 500)])


def plain6(destination):
    return lambda: IPv6(src=CLIENT6, dst=destination, hlim=60)


def chained6():
    return (
        IPv6(src=CLIENT6, dst=SERVER6)
        / IPv6ExtHdrHopByHop(bytes.fromhex("0000050200000100"))
        / IPv6ExtHdrDestOpt(bytes.fromhex("0000010400000000"))
        / IPv6ExtHdrRouting(addresses=[SERVER6])
    )


ipv6(LINK, "udp6", plain6(SERVER6), lambda: UDP(sport=5, dport=9995) / Raw(PAYLOAD))
ipv6(NEW_LINK, "translated6", plain6(TARGET6), lambda: UDP(sport=5, dport=9005) / Raw(PAYLOAD))
ipv6(TAGGED, "echo6", plain6(SERVER6), lambda: ICMPv6EchoRequest(data=PAYLOAD))
ipv6(LINK, "chained6", chained6, lambda: TCP(sport=5, dport=6) / Raw(PAYLOAD))
