//! The host names that the admin port answers to.
//!
//! It asks no password, so a page on the internet must not read it through the browser of a user who can reach it. Such a
//! page makes its own name point here (DNS rebinding), so a request for an unknown name is refused. An address can't be
//! rebound: a request for any address is answered.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Request;
use hyper::header::HOST;

/// Bytes of a name, at most (RFC 1035).
const NAME_BYTES_MAX: usize = 253;

/// The names of `admin.hosts`, in small letters, without the dot of a name that is written to its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hosts(Vec<Box<str>>);

/// The request is for another host name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misdirected {
    /// The name in the request; empty where it is no name.
    pub(super) host: Box<str>,
}

impl Hosts {
    pub(super) fn new(names: &[Box<str>]) -> Self {
        Self(names.iter().map(|name| as_compared(name).into()).collect())
    }

    /// Whether a request is for this port. A request without a host is: no browser sends one.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Misdirected> {
        let mut named = request.headers().get_all(HOST).iter();
        let host = match (request.uri().authority(), named.next(), named.next()) {
            (Some(authority), ..) => authority.as_str(),
            (None, None, _) => return Ok(()),
            (None, Some(host), None) => host.to_str().unwrap_or("?"),
            (None, Some(_), Some(_)) => "?",
        };
        let name = as_compared(without_port(host));
        let is_known = host.is_empty()
            || is_address(&name)
            || name == "localhost"
            || self.0.iter().any(|known| **known == *name);
        let shown = if is_name(&name) { name.into() } else { "".into() };
        if is_known { Ok(()) } else { Err(Misdirected { host: shown }) }
    }
}

impl Misdirected {
    /// The text of the answer.
    pub(super) fn text(&self) -> String {
        let Self { host } = self;
        let (called, name) =
            if host.is_empty() { ("that", "dashboard.example.com") } else { (&**host, &**host) };
        format!(
            "This port is not known as {called}. A page of somebody else's could have sent your browser here under a \
             name of its own, so names are refused until the configuration has them:\n\n[admin]\nhosts = [\"{name}\"]\n\n\
             and a restart. By its IP address, and as localhost, the port answers in any case; /livez, /readyz and \
             /healthz answer under every name.\n"
        )
    }
}

/// Whether a text is a name as it stands in a URL, without a port.
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES_MAX).contains(&as_compared(text).len()) && text.bytes().all(is_part)
}

fn as_compared(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.map_or_else(
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
        |v6| v6.parse::<Ipv6Addr>().is_ok(),
    )
}

#[cfg(test)]
mod tests;
