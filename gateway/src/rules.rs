//! [`Rules`]: which clients may see and open an export.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What is known about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// User of the process at the other end of a Unix socket.
    pub(crate) uid: Option<u32>,
    /// Its group. The kernel tells no supplementary groups (`SO_PEERCRED`, unix(7)).
    pub(crate) gid: Option<u32>,
    /// Its IP address.
    pub(crate) address: Option<IpAddr>,
    /// Names in the certificate that it proved to own.
    pub(crate) certificate_names: Vec<String>,
    /// The user whose pre-shared key it has.
    pub(crate) psk_user: Option<String>,
}

/// Who may see and open an export. Each list that is there must have something for the client; an export without any
/// list is for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Users of processes on Unix sockets.
    pub(crate) uid: Option<Vec<u32>>,
    /// Groups of processes on Unix sockets: those that they run as, not their supplementary ones.
    pub(crate) gid: Option<Vec<u32>>,
    pub(crate) address: Option<Vec<Prefix>>,
    pub(crate) certificate: Option<Vec<CertificateName>>,
    /// Users with pre-shared keys.
    pub(crate) psk: Option<Vec<String>>,
}

impl Rules {
    /// Whether this client may see and open the export.
    ///
    /// # Errors
    /// Why not, for the log: the client is only told that there is no such export.
    pub(crate) fn admits(&self, client: &Client) -> Result<(), &'static str> {
        if let Some(allowed) = &self.uid
            && !client.uid.is_some_and(|uid| allowed.contains(&uid))
        {
            return Err("its user is not among those allowed");
        }
        if let Some(allowed) = &self.gid
            && !client.gid.is_some_and(|gid| allowed.contains(&gid))
        {
            return Err("its group is not among those allowed");
        }
        if let Some(allowed) = &self.address
            && !client.address.is_some_and(|address| allowed.iter().any(|prefix| prefix.contains(address)))
        {
            return Err("its address is not among those allowed");
        }
        if let Some(allowed) = &self.certificate
            && !client
                .certificate_names
                .iter()
                .any(|name| allowed.iter().any(|pattern| pattern.matches(name)))
        {
            return Err("no name in its certificate is among those allowed");
        }
        if let Some(allowed) = &self.psk
            && !client.psk_user.as_ref().is_some_and(|user| allowed.contains(user))
        {
            return Err("its key is not of a user among those allowed");
        }
        Ok(())
    }

    /// Whether only clients with TLS can be admitted.
    pub(crate) fn need_tls(&self) -> bool {
        self.certificate.is_some() || self.psk.is_some()
    }
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The bits behind the prefix are zero. Never an IPv4 address in the form of IPv6.
    network: IpAddr,
    bits: u32,
}

/// Bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u32 = 96;

impl Prefix {
    /// Whether the address is one of these. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && first_bits(address, self.bits) == self.network
    }
}

/// The address with all bits behind the first so many set to zero.
fn first_bits(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::BITS - bits.min(u32::BITS)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u128::BITS - bits.min(u128::BITS)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn address_bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { u32::BITS } else { u128::BITS }
}

impl FromStr for Prefix {
    /// The second half of a sentence that names the text.
    type Err = String;

    /// `10.0.0.0/8`, or an address alone.
    fn from_str(text: &str) -> Result<Prefix, String> {
        let (address, length) =
            text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| "it is not an IP address".to_owned())?;
        let most = address_bits(address);
        let bits = match length {
            None => most,
            Some(length) => length
                .parse()
                .ok()
                .filter(|bits| *bits <= most && length.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| format!("the length of its prefix is not between 0 and {most}"))?,
        };
        let network = first_bits(address, bits);
        if network != address {
            return Err(format!("it has bits behind its prefix; that network is {network}/{bits}"));
        }
        Ok(match network.to_canonical() {
            mapped if mapped.is_ipv4() && network.is_ipv6() && bits >= MAPPED_BITS => {
                Prefix { network: mapped, bits: bits - MAPPED_BITS }
            }
            _ => Prefix { network, bits },
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// The names a client's certificate may have: one, or with `*.` all that have exactly one label more (as RFC 9525,
/// section 6.3 has it for the names of servers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateName {
    /// Without the `*.`.
    name: String,
    wildcard: bool,
}

impl CertificateName {
    /// Whether it covers this name of a certificate. Upper and lower case are the same.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name = if self.wildcard {
            match name.split_once('.') {
                Some((label, rest)) if !label.is_empty() => rest,
                _ => return false,
            }
        } else {
            name
        };
        name.eq_ignore_ascii_case(&self.name)
    }
}

impl FromStr for CertificateName {
    /// The second half of a sentence that names the text.
    type Err = String;

    fn from_str(text: &str) -> Result<CertificateName, String> {
        let (name, wildcard) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        if name.is_empty() {
            return Err("there is no name".into());
        }
        if name.contains('*') {
            return Err("a '*' stands for the whole first label only, as in *.example.org".into());
        }
        Ok(CertificateName { name: name.to_owned(), wildcard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn within(network: &str, address: &str) -> bool {
        prefix(network).contains(address.parse().unwrap())
    }

    #[test]
    fn a_prefix_has_the_addresses_that_begin_with_it() {
        assert!(within("10.0.0.0/8", "10.255.0.1") && !within("10.0.0.0/8", "11.0.0.0"));
        assert!(within("fd00::/8", "fdff::1") && !within("fd00::/8", "fe00::"));
        assert!(within("::1", "::1") && !within("::1", "::2"));
        assert!(within("0.0.0.0/0", "203.0.113.9") && within("::/0", "2001:db8::1"));
    }

    #[test]
    fn ipv4_addresses_in_the_form_of_ipv6_are_ipv4_addresses() {
        assert!(within("10.0.0.0/8", "::ffff:10.1.2.3") && !within("10.0.0.0/8", "::ffff:11.1.2.3"));
        assert!(within("::ffff:10.0.0.0/104", "10.1.2.3") && within("::ffff:10.1.2.3", "10.1.2.3"));
        assert!(!within("::/0", "10.1.2.3") && !within("::/0", "::ffff:10.1.2.3"));
        assert!(!within("0.0.0.0/0", "::1"));
    }

    #[test]
    fn what_is_no_prefix_says_why() {
        for text in ["", "localhost", "10.0.0", "10.0.0.0.0", "::1%lo", "/8"] {
            assert!(text.parse::<Prefix>().unwrap_err().contains("IP address"), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "::/x"] {
            assert!(text.parse::<Prefix>().unwrap_err().contains("between 0 and"), "{text}");
        }
        assert!("10.1.0.0/8".parse::<Prefix>().unwrap_err().contains("10.0.0.0/8"));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let covers = |pattern: &str, name| pattern.parse::<CertificateName>().unwrap().matches(name);
        assert!(covers("client1", "client1") && covers("Client1", "cLIENT1"));
        assert!(!covers("client1", "client10") && !covers("client1", ""));
        assert!(covers("*.example.org", "a.example.org") && covers("*.example.org", "A.EXAMPLE.ORG"));
        for name in ["example.org", ".example.org", "a.b.example.org", "aexample.org", "a.example.org."] {
            assert!(!covers("*.example.org", name), "{name}");
        }
    }

    #[test]
    fn a_wildcard_is_nowhere_else() {
        for text in ["", "*", "*.", "a.*.org", "*a.org", "a*", "*.*.org"] {
            assert!(text.parse::<CertificateName>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_list_must_have_something_for_the_client() {
        let rules = Rules {
            uid: Some(vec![7, 8]),
            gid: Some(vec![9]),
            address: None,
            certificate: Some(vec!["*.org".parse().unwrap()]),
            psk: None,
        };
        let names = vec!["x".into(), "a.org".into()];
        let client = Client { uid: Some(8), gid: Some(9), certificate_names: names, ..Client::default() };
        assert_eq!(rules.admits(&client), Ok(()));
        let refused = |client: Client| rules.admits(&client).unwrap_err();
        assert!(refused(Client { uid: Some(9), ..client.clone() }).contains("user"));
        assert!(refused(Client { gid: Some(7), ..client.clone() }).contains("group"));
        assert!(
            refused(Client { certificate_names: vec!["x".into()], ..client.clone() }).contains("certificate")
        );
    }

    #[test]
    fn what_is_not_known_of_a_client_admits_it_nowhere() {
        let nobody = Client::default();
        assert_eq!(Rules::default().admits(&nobody), Ok(()));
        let only = [
            Rules { uid: Some(vec![0]), ..Rules::default() },
            Rules { gid: Some(vec![0]), ..Rules::default() },
            Rules { address: Some(vec![prefix("0.0.0.0/0"), prefix("::/0")]), ..Rules::default() },
            Rules { certificate: Some(vec!["a".parse().unwrap()]), ..Rules::default() },
            Rules { psk: Some(vec![String::new()]), ..Rules::default() },
        ];
        for rules in only {
            assert!(rules.admits(&nobody).is_err(), "{rules:?}");
        }
    }

    #[test]
    fn addresses_and_keys_are_compared() {
        let rules = Rules {
            address: Some(vec![prefix("::1"), prefix("192.0.2.0/24")]),
            psk: Some(vec!["alice".into()]),
            ..Rules::default()
        };
        let client = |address: &str, user: &str| Client {
            address: Some(address.parse().unwrap()),
            psk_user: Some(user.into()),
            ..Client::default()
        };
        assert_eq!(rules.admits(&client("::ffff:192.0.2.9", "alice")), Ok(()));
        assert!(rules.admits(&client("192.0.3.9", "alice")).unwrap_err().contains("address"));
        assert!(rules.admits(&client("::1", "Alice")).unwrap_err().contains("key"));
    }
}
