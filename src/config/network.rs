//! Networks as an operator writes them: whose forwarding headers are believed, what a plugin may reach.

use std::net::IpAddr;

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// From `10.0.0.0/8` or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether `address` lies in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        let same = |ours: &[u8], theirs: &[u8]| {
            ours.iter().zip(theirs).enumerate().all(|(n, (ours, theirs))| {
                let bits = usize::from(self.bits).saturating_sub(n * 8).min(8);
                let mask = u8::try_from(0xff00_u16 >> bits & 0xff).unwrap_or(0xff);
                ours & mask == theirs & mask
            })
        };
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(&ours.octets(), &theirs.octets()),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(&ours.octets(), &theirs.octets()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        let holds =
            |network: &str, address: &str| Network::parse(network).unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.168.1.0/25", "192.168.1.127") && !holds("192.168.1.0/25", "192.168.1.128"));
        assert!(holds("::1", "::1") && !holds("::1", "::2") && !holds("0.0.0.0/0", "::1"));
        assert!(Network::parse("10.0.0.0/33").is_none() && Network::parse("x").is_none());
    }
}
