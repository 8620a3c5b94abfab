//! Which addresses may be connected to, judged after a name was resolved: the guard against being sent where only
//! Waygate can go. Pure; must not know sockets or names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Network;

/// Who named the host whose address is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The operator, in the plugin's file: trusted but for what nobody means.
    Operator,
    /// A server, in a redirect: not trusted with this machine nor the networks around it.
    Server,
}

/// IPv4 networks that are not the Internet, and what they are.
const INSIDE_V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "no address of a host"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "an address of a carrier's network"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a reserved address"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "an address for documents"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a reserved address"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "an address for measurements"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "an address for documents"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "an address for documents"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
];

/// The same of IPv6. Of all the rest, only 2000::/3 is in use.
const INSIDE_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "no address of a host"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a private address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "a reserved address"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "an address for documents"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "an address for documents"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private address"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "a private address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
];

/// Where clouds tell a machine its secrets. Most lie in networks above, but not all.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether `address` may be connected to. `allowed` are the networks that the plugin's file names in `allow_ranges`.
///
/// # Errors
/// What kind of address it is, as `a loopback address`.
pub fn check(address: IpAddr, named_by: NamedBy, allowed: &[Network]) -> Result<(), &'static str> {
    let meant = embedded(address);
    if allowed.iter().any(|network| network.holds(address) || network.holds(meant)) {
        return Ok(());
    }
    if METADATA.contains(&meant) {
        return Err("an address where a cloud gives away secrets");
    }
    if is_link_local(meant) {
        return Err("a link-local address");
    }
    match named_by {
        NamedBy::Operator => Ok(()),
        NamedBy::Server => inside(meant).map_or(Ok(()), Err),
    }
}

/// The IPv4 address that a connection to an IPv6 address ends at, where the one is written into the other.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let of = |high: u16, low: u16| {
        let bits = u32::from(high) << 16 | u32::from(low);
        IpAddr::V4(Ipv4Addr::from(bits))
    };
    match [a, b, c, d, e, f] {
        // Mapped, and translated by NAT64.
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => of(g, h),
        // "Compatible", long given up; :: and ::1 are none.
        [0, 0, 0, 0, 0, 0] if g != 0 => of(g, h),
        // 6to4.
        [0x2002, ..] => of(b, c),
        _ => address,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn inside(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => INSIDE_V4.iter().find_map(|(network, bits, kind)| {
            let differ = (u32::from(v4) ^ u32::from(*network)) >> (32 - bits);
            (differ == 0).then_some(*kind)
        }),
        IpAddr::V6(v6) => {
            let listed = INSIDE_V6.iter().find_map(|(network, bits, kind)| {
                let differ = (u128::from(v6) ^ u128::from(*network)) >> (128 - bits);
                (differ == 0).then_some(*kind)
            });
            let in_use = u128::from(v6) >> 125 == 1;
            listed.or((!in_use).then_some("a reserved address"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(address: &str, named_by: NamedBy, allowed: &[&str]) -> Result<(), &'static str> {
        let allowed: Vec<Network> = allowed.iter().map(|network| Network::parse(network).unwrap()).collect();
        check(address.parse().unwrap(), named_by, &allowed)
    }

    #[test]
    fn a_server_may_send_us_to_the_internet_only() {
        let inside = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "4000::1",
        ];
        for address in inside {
            assert!(judged(address, NamedBy::Server, &[]).is_err(), "{address}");
        }
        let outside = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ];
        for address in outside {
            assert_eq!(judged(address, NamedBy::Server, &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn an_operator_may_mean_this_machine_but_must_name_what_nobody_means() {
        for address in
            ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1"]
        {
            assert_eq!(judged(address, NamedBy::Operator, &[]), Ok(()), "{address}");
        }
        let guarded = [
            "169.254.169.254",
            "169.254.1.1",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ];
        for address in guarded {
            assert!(judged(address, NamedBy::Operator, &[]).is_err(), "{address}");
        }
    }

    #[test]
    fn what_the_file_allows_is_allowed() {
        assert_eq!(judged("169.254.169.254", NamedBy::Operator, &["169.254.0.0/16"]), Ok(()));
        assert_eq!(judged("::ffff:169.254.169.254", NamedBy::Operator, &["169.254.169.254"]), Ok(()));
        assert_eq!(judged("10.0.0.1", NamedBy::Server, &["10.0.0.0/24"]), Ok(()));
        assert_eq!(judged("10.0.1.1", NamedBy::Server, &["10.0.0.0/24"]), Err("a private address"));
        assert_eq!(judged("fe80::1", NamedBy::Operator, &["fe80::/10"]), Ok(()));
    }
}
