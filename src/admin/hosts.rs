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

/// The names of `admin.hosts`, in small letters.
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
        Self(names.iter().map(|name| name.to_ascii_lowercase().into()).collect())
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
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
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
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_part)
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
mod tests {
    use super::*;

    fn check(uri: &str, hosts: &[&str]) -> Result<(), Misdirected> {
        let known = Hosts::new(&["Dashboard.example.com".into(), "forwarder".into()]);
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        known.check(&request.body(()).unwrap())
    }

    #[test]
    fn addresses_localhost_and_the_names_of_the_configuration_are_answered_with_any_port() {
        for host in [
            "127.0.0.1:8081",
            "10.1.2.3",
            "[::1]:8081",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST:80",
            "dashboard.example.com",
            "DASHBOARD.example.com.:443",
            "forwarder:8081",
            "",
        ] {
            assert_eq!(check("/status", &[host]), Ok(()), "{host}");
        }
        assert_eq!(check("/status", &[]), Ok(()), "HTTP/1.0");
        assert_eq!(check("http://127.0.0.1:8081/status", &["127.0.0.1:8081"]), Ok(()));
    }

    #[test]
    fn every_other_name_is_refused_however_it_is_written() {
        for host in [
            "evil.example",
            "evil.example:8081",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil-dashboard.example.com",
            "x.dashboard.example.com",
            "dashboard.example.com:80:80",
            "127.0.0.1@evil.example",
            "::1",
            "[::1].evil.example",
            "2130706433",
            "127.1",
            ":8081",
            ".",
        ] {
            assert!(check("/status", &[host]).is_err(), "{host}");
        }
        assert!(check("/status", &["localhost", "evil.example"]).is_err(), "two of them");
        assert!(check("http://evil.example/status", &["localhost"]).is_err(), "the URL's goes first");
    }

    #[test]
    fn what_is_told_can_be_pasted_and_holds_nothing_but_a_name() {
        let told = check("/", &["Evil.Example:1"]).unwrap_err().text();
        assert!(told.contains("[admin]\nhosts = [\"evil.example\"]\n"), "{told}");
        let told = check("/", &["a\"b<script>"]).unwrap_err().text();
        assert!(!told.contains("script") && told.contains("dashboard.example.com"), "{told}");
    }
}
