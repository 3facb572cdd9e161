//! A11: VXLAN inside GENEVE (RFC 8926).

use config::VniSet;
use dataplane::abi::Verdict::{
    GeneveControl, GeneveCritical, GeneveMalformed, GeneveNotVxlan, OuterFragment, OuterLength,
    VniMismatch, VxlanNoVni, ZeroLength,
};

use crate::case::{Case, case, check, out, passed, verdict};
use crate::frame::{Frame, MF, VNI, ethernet, outer, outer6, pattern, tcp4, udp4, udp6};
use crate::rig::with_rig;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ETHERNET: u16 = 0x6558;

/// What a Gateway Load Balancer adds: its endpoint, its attachment, a flow cookie.
fn aws_options() -> Vec<u8> {
    let option = |kind: u8, words: u8| {
        let data = pattern(usize::from(words) * 4);
        [&[0x01, 0x08, kind, words][..], &data].concat()
    };
    [option(1, 2), option(2, 2), option(3, 1)].concat()
}

fn header(flags: u8, protocol: u16, options: &[u8]) -> Vec<u8> {
    let [high, low] = protocol.to_be_bytes();
    let words = (options.len() / 4) as u8;
    [&[words, flags, high, low, 0, 0, 0, 0][..], options].concat()
}

fn geneve(outer: Frame, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let to = if outer.is_ipv4() { "192.0.2.102:6081" } else { "[2001:db8:aaaa::2]:6081" };
    outer.to(to).payload(&[header, payload].concat()).bytes()
}

fn inner() -> Vec<u8> {
    udp4().bytes()
}

/// The VXLAN packet, from its IP header on.
fn vxlan() -> Vec<u8> {
    outer().carry(&inner()).layer3()
}

#[test]
fn a11_vxlan_inside_geneve() {
    let ipv4 = |options: &[u8]| header(0, IPV4, options);
    let through = |name: &str, packet: Vec<u8>| case(name, packet, out(inner()));
    let tagged = outer().tag(0x8100, 3).carry(&inner()).bytes();
    let cases = vec![
        through("A11 no options", geneve(outer(), &ipv4(&[]), &vxlan())),
        through("A11 AWS", geneve(outer(), &ipv4(&aws_options()), &vxlan())),
        through("A11 longest options", geneve(outer(), &ipv4(&[0; 252]), &vxlan())),
        through("A11 over IPv6", geneve(outer6(), &ipv4(&aws_options()), &vxlan())),
        through("A11 tagged", geneve(outer().tag(0x8100, 7), &ipv4(&[]), &vxlan())),
        through(
            "A11 IPv6 inside",
            geneve(outer(), &header(0, IPV6, &[]), &outer6().carry(&inner()).layer3()),
        ),
        through("A11 Ethernet inside", geneve(outer(), &header(0, ETHERNET, &[]), &tagged)),
        through(
            "A11 reserved bits",
            geneve(
                outer(),
                &{
                    let mut header = header(0x3f, IPV4, &aws_options());
                    header[7] = 0xff;
                    header
                },
                &vxlan(),
            ),
        ),
        case(
            "A11 what stands behind VXLAN is no part of it",
            geneve(outer(), &ipv4(&[]), &[vxlan(), pattern(9)].concat()),
            out(inner()),
        ),
    ];
    with_rig(|config| config.geneve = 1, |rig| check(rig, cases));
}

#[test]
fn a11_geneve_that_is_refused() {
    let ipv4 = header(0, IPV4, &[]);
    let all = |name: &str, bytes: Vec<u8>, expected| case(name, bytes, verdict(expected));
    let version = {
        let mut header = ipv4.clone();
        header[0] = 0x40;
        header
    };
    let long = {
        let mut header = ipv4.clone();
        header[0] = 0x3f;
        header
    };
    let other = |frame: Frame| geneve(outer(), &ipv4, &frame.layer3());
    let mut cases = vec![
        all("A11 version 1", geneve(outer(), &version, &vxlan()), GeneveMalformed),
        all("A11 7 bytes", geneve(outer(), &ipv4[..7], &[]), GeneveMalformed),
        all("A11 options beyond the end", geneve(outer(), &long, &vxlan()), GeneveMalformed),
        all("A11 nothing inside", geneve(outer(), &ipv4, &[]), GeneveNotVxlan),
        all("A11 control", geneve(outer(), &header(0x80, IPV4, &[]), &vxlan()), GeneveControl),
        all(
            "A11 critical",
            geneve(outer(), &header(0x40, IPV4, &[1, 8, 0x81, 0]), &vxlan()),
            GeneveCritical,
        ),
        all("A11 TCP inside", other(tcp4()), GeneveNotVxlan),
        all("A11 other port inside", other(udp4()), GeneveNotVxlan),
        all(
            "A11 GENEVE twice",
            other(outer().to("192.0.2.102:6081").payload(&[&ipv4[..], &vxlan()].concat())),
            GeneveNotVxlan,
        ),
        all(
            "A11 ARP inside",
            geneve(outer(), &header(0, 0x0806, &[]), &pattern(28)),
            GeneveNotVxlan,
        ),
        all(
            "A11 frame inside, not IP",
            geneve(outer(), &header(0, ETHERNET, &[]), &ethernet(0x0806, &pattern(28))),
            GeneveNotVxlan,
        ),
        all("A11 later fragment inside", other(outer().flags(5).carry(&inner())), GeneveNotVxlan),
        all("A11 first fragment inside", other(outer().flags(MF).carry(&inner())), OuterFragment),
        all(
            "A11 no I flag inside",
            other(outer().vxlan([0, 0, 0, 0, 0, 0, 7, 0], &inner())),
            VxlanNoVni,
        ),
        all("A11 other VNI inside", other(outer().carry_vni(8, &inner())), VniMismatch),
        all("A11 no length", other(outer().ip_length(0).carry(&inner())), ZeroLength),
        all("A11 cut inside", geneve(outer(), &ipv4, &vxlan()[..60]), OuterLength),
        all(
            "A11 first fragment outside",
            geneve(outer().flags(MF), &ipv4, &vxlan()),
            OuterFragment,
        ),
    ];
    // Bytes behind the GENEVE packet belong to nobody: not to VXLAN either.
    let short = outer().to("192.0.2.102:6081").payload(&[&ipv4[..], &vxlan()[..60]].concat());
    cases.push(all(
        "A11 the rest in the trailer",
        short.trailer(&vxlan()[60..]).bytes(),
        OuterLength,
    ));
    with_rig(
        |config| config.geneve = 1,
        |rig| {
            rig.accept(&VniSet::list([VNI]).unwrap());
            check(rig, cases);
        },
    );
}

#[test]
fn a11_geneve_is_for_the_host_by_default() {
    let packet = geneve(outer(), &header(0, IPV4, &[]), &vxlan());
    let cases = |geneve: Vec<u8>| -> Vec<Case> { vec![case("A11 GENEVE=0", geneve, passed())] };
    with_rig(|_| {}, |rig| check(rig, cases(packet)));
    // And plain VXLAN goes on with GENEVE=1; the later fragments of anything are the host's.
    let later = geneve(outer().flags(5), &header(0, IPV4, &[]), &vxlan());
    with_rig(
        |config| config.geneve = 1,
        |rig| {
            check(
                rig,
                vec![
                    case("plain", outer().carry(&udp6().bytes()).bytes(), out(udp6().bytes())),
                    case("A6 later fragment", later, passed()),
                ],
            );
        },
    );
}
