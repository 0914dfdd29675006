//! Datadog's sites, as users write them.
//!
//! Users paste whatever their browser shows, and a wrong site looks like success: Datadog answers 202 to a key of another
//! site and shows nothing. So every form that can only mean one site is understood, and every guess is reported as one.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Where a connection sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its usual name: `EU1`, or the host where it has no short name.
    pub name: Box<str>,
    /// Scheme, host and, where there is one, port and path; no slash at the end.
    pub base_url: Box<str>,
}

/// Datadog's sites: the short name, and the site parameter that follows `api.` in a host.
///
/// Source: Datadog's documentation, "Getting Started with Datadog Sites".
pub const SITES: &[(&str, &str)] = &[
    ("US1", "datadoghq.com"),
    ("US3", "us3.datadoghq.com"),
    ("US5", "us5.datadoghq.com"),
    ("EU1", "datadoghq.eu"),
    ("AP1", "ap1.datadoghq.com"),
    ("AP2", "ap2.datadoghq.com"),
    ("UK1", "uk1.datadoghq.com"),
    ("US1-FED", "ddog-gov.com"),
    ("us2.ddog-gov.com", "us2.ddog-gov.com"),
];

/// How certain it is that a [`Site`] is the one that the user meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is one of [`SITES`].
    Listed,
    /// The host is an organisation's own name below one of [`SITES`], which was taken.
    Subdomain,
    /// It is not one of [`SITES`]; the closest of them, if any.
    Unlisted(Option<&'static str>),
}

/// Why a text names no site, or no base URL. It never repeats the text: people paste keys into wrong places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// Nothing was given.
    #[error("is empty; {}", listing())]
    Empty,
    /// It can't be a host.
    #[error("is not a Datadog site; {}{}", suggestion(.nearest.as_ref()), listing())]
    NoSite {
        /// The closest short name.
        nearest: Option<&'static str>,
    },
    /// An address outside Datadog.
    #[error("names a host that no Datadog site has; a proxy or a test server belongs into `url`")]
    NotDatadog,
    /// A base URL that can't be used.
    #[error("{0}")]
    Url(&'static str),
    /// A base URL that is the address of the web pages.
    #[error("is the address of Datadog's web pages, which take no points; write site = \"{0}\" instead")]
    WebPages(&'static str),
}

impl Site {
    /// Reads a site as people write it: a short name in any case, a site parameter, or what they copied from
    /// the browser (`app.` or `api.`, `https://`, a path). A host that is not in [`SITES`] is taken as a site
    /// parameter.
    ///
    /// # Errors
    /// When the text can't be the name of a site.
    pub fn parse(text: &str) -> Result<(Self, Known), SiteError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SiteError::Empty);
        }
        if let Some(&(name, parameter)) = SITES.iter().find(|(name, _)| is_short_name(text, name)) {
            return Ok((Self::listed(name, parameter), Known::Listed));
        }
        let host = pasted_host(text)?;
        let parameter = strip_service(&host);
        if let Some(&(name, parameter)) = SITES.iter().find(|(_, listed)| *listed == parameter) {
            return Ok((Self::listed(name, parameter), Known::Listed));
        }
        if !is_host_name(parameter) || !parameter.contains('.') {
            return Err(SiteError::NoSite { nearest: nearest(parameter) });
        }
        if is_address(parameter) {
            return Err(SiteError::NotDatadog);
        }
        if let Some((name, parameter)) = organisation_below(parameter) {
            return Ok((Self::listed(name, parameter), Known::Subdomain));
        }
        let site = Self { name: parameter.into(), base_url: format!("https://api.{parameter}").into() };
        Ok((site, Known::Unlisted(nearest(parameter))))
    }

    /// Reads a full base URL, for proxies and tests. Slashes at its end are removed.
    ///
    /// # Errors
    /// When it is not http or https, has no host, or has anything besides a host, a port and a path.
    pub fn from_url(text: &str) -> Result<Self, SiteError> {
        let (scheme, rest) = split_scheme(text.trim()).ok_or(SiteError::Url(
            "is not a base URL: it has to begin with https:// (or http://), for example https://proxy.example:8443",
        ))?;
        if rest.contains(['?', '#']) {
            return Err(SiteError::Url(
                "has a query or a fragment; a base URL is scheme, host, port and path",
            ));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(SiteError::Url(
                "carries credentials; an API key belongs into api_key_file, api_key_env or api_key",
            ));
        }
        let authority = authority.to_ascii_lowercase();
        check_authority(&authority)?;
        check_path(path)?;
        let host = authority.split(':').next().unwrap_or_default();
        if let Some(&(name, _)) =
            SITES.iter().find(|(_, parameter)| host.strip_prefix("app.") == Some(parameter))
        {
            return Err(SiteError::WebPages(name));
        }
        let base_url = format!("{scheme}://{authority}{}", path.trim_end_matches('/'));
        Ok(Self { name: authority.into(), base_url: base_url.into() })
    }

    /// Whether an API key would cross a network unencrypted: plain http to anything but this machine.
    pub fn is_in_the_clear(&self) -> bool {
        let Some(rest) = self.base_url.strip_prefix("http://") else {
            return false;
        };
        let (host, _) = split_port(rest.split('/').next().unwrap_or_default());
        !http_client::is_loopback(host)
    }

    /// Whether it is one of Datadog's own sites, instead of a proxy or a test server.
    pub fn is_datadogs(&self) -> bool {
        let host = self.base_url.strip_prefix("https://api.");
        host.is_some_and(|host| *host == *self.name || SITES.iter().any(|(_, parameter)| *parameter == host))
    }

    /// All of [`SITES`], as they are asked.
    pub fn all() -> impl Iterator<Item = Self> {
        SITES.iter().map(|(name, parameter)| Self::listed(name, parameter))
    }

    fn listed(name: &str, parameter: &str) -> Self {
        Self { name: name.into(), base_url: format!("https://api.{parameter}").into() }
    }
}

/// `us1_fed` and `US1FED` are common ways to write `US1-FED`.
fn is_short_name(text: &str, name: &str) -> bool {
    let letters = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
    letters(text) == letters(name)
}

/// The host of a pasted text, in lower case, without scheme, path and the default port of https.
fn pasted_host(text: &str) -> Result<String, SiteError> {
    let rest = split_scheme(text).map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    let host = authority.strip_suffix('.').unwrap_or(authority);
    if host.contains(':') && is_authority(host) {
        return Err(SiteError::NotDatadog);
    }
    Ok(host.to_owned())
}

/// A host without the name of the service in front.
fn strip_service(host: &str) -> &str {
    ["app.", "api."].iter().find_map(|service| host.strip_prefix(service)).unwrap_or(host)
}

/// The site that `host` is an organisation's own name of, as in `acme.datadoghq.eu`. A first label that could
/// be a region (`us9`) is a site that is newer than this program instead.
fn organisation_below(host: &str) -> Option<(&'static str, &'static str)> {
    let (label, parameter) = host.split_once('.')?;
    let bytes = label.as_bytes();
    let region = bytes.len() >= 3
        && bytes[..2].iter().all(u8::is_ascii_alphabetic)
        && bytes[2..].iter().all(u8::is_ascii_digit);
    if region {
        return None;
    }
    SITES.iter().find(|(_, listed)| *listed == parameter).copied()
}

/// Scheme in lower case, and what follows `://`.
fn split_scheme(text: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = ["https", "http"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    Some((scheme, rest))
}

/// Host and port; a colon inside brackets belongs to the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn check_authority(authority: &str) -> Result<(), SiteError> {
    if split_port(authority).0.is_empty() {
        return Err(SiteError::Url("has no host, for example https://proxy.example:8443"));
    }
    if !is_authority(authority) {
        return Err(SiteError::Url(
            "has a host or a port that can't be, for example https://proxy.example:8443",
        ));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), SiteError> {
    if path.contains("/api/v1") {
        return Err(SiteError::Url("goes too far: leave out /api/v1 and what follows, it is added"));
    }
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if !path.bytes().all(fits) {
        return Err(SiteError::Url("has a character in its path that a URL can't have; write it as %XX"));
    }
    Ok(())
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    let host_fits = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host) && (host.parse::<Ipv4Addr>().is_ok() || !is_address(host)),
    };
    let port_fits = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    host_fits && port_fits
}

/// Whether `host` is made of labels as RFC 1123 has them. Docker and Kubernetes add underscores.
fn is_host_name(host: &str) -> bool {
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(label_fits)
}

/// Whether `host` looks like an IPv4 address: no top-level domain is a number.
fn is_address(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The short name of the site that `text` resembles, if it resembles one.
fn nearest(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let first = text.split('.').next().unwrap_or_default();
    if let Some((name, _)) = SITES.iter().find(|(name, _)| first.len() > 2 && is_short_name(first, name)) {
        return Some(name);
    }
    let distance = |(name, parameter): &(&str, &str)| {
        let name = strsim::damerau_levenshtein(&text, &name.to_ascii_lowercase());
        name.min(strsim::damerau_levenshtein(&text, parameter))
    };
    // Two slips in a short name already make another site of it; a host tolerates three.
    let slips_max = if text.contains('.') { 3 } else { 1 };
    let (slips, name) = SITES.iter().map(|site| (distance(site), site.0)).min_by_key(|(slips, _)| *slips)?;
    (slips <= slips_max).then_some(name)
}

fn suggestion(nearest: Option<&&'static str>) -> String {
    nearest.map(|name| format!("did you mean {name}? ")).unwrap_or_default()
}

fn listing() -> String {
    let site = |&(name, parameter): &(&str, &str)| {
        if name == parameter { name.to_owned() } else { format!("{name} ({parameter})") }
    };
    format!("the sites are {}", SITES.iter().map(site).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base_url(text: &str) -> String {
        Site::parse(text).map_or_else(|error| error.to_string(), |(site, _)| site.base_url.to_string())
    }

    #[test]
    fn a_proxy_is_told_from_datadogs_own_sites() {
        assert_eq!(Site::all().count(), SITES.len());
        assert!(Site::all().all(|site| site.is_datadogs()));
        assert!(Site::parse("us9.datadoghq.com").unwrap().0.is_datadogs());
        for (url, expected) in [
            ("https://api.datadoghq.eu", true),
            ("https://api.datadoghq.eu/proxy", false),
            ("http://api.datadoghq.eu", false),
            ("https://datadoghq.eu", false),
            ("https://api.example.com", false),
            ("http://127.0.0.1:8125", false),
        ] {
            assert_eq!(Site::from_url(url).unwrap().is_datadogs(), expected, "{url}");
        }
    }

    #[test]
    fn every_short_name_is_understood_in_any_case() {
        for &(name, parameter) in SITES {
            for text in [name.to_owned(), name.to_lowercase(), format!(" {name} "), name.replace('-', "_")] {
                let (site, known) = Site::parse(&text).unwrap();
                assert_eq!((&*site.name, known), (name, Known::Listed), "{text}");
                assert_eq!(*site.base_url, format!("https://api.{parameter}"));
            }
        }
    }

    #[test]
    fn every_parameter_is_understood_bare_and_pasted() {
        for &(name, parameter) in SITES {
            for text in [
                parameter.to_owned(),
                parameter.to_uppercase(),
                format!("app.{parameter}"),
                format!("api.{parameter}"),
                format!("https://{parameter}"),
                format!("https://app.{parameter}/dashboard/abc?from_ts=1#x"),
                format!("HTTPS://api.{parameter}:443/api/v1/validate"),
                format!("{parameter}."),
                format!("app.{parameter}/account/login"),
            ] {
                let (site, known) = Site::parse(&text).unwrap();
                assert_eq!((&*site.name, known), (name, Known::Listed), "{text}");
            }
        }
    }

    #[test]
    fn an_organisations_own_host_belongs_to_its_site() {
        let (site, known) = Site::parse("https://acme.datadoghq.eu/monitors").unwrap();
        assert_eq!((&*site.name, known), ("EU1", Known::Subdomain));
        let (site, _) = Site::parse("acme.us3.datadoghq.com").unwrap();
        assert_eq!(&*site.name, "US3");
    }

    #[test]
    fn an_unknown_host_is_taken_with_a_flag() {
        let (site, known) = Site::parse("https://app.us9.datadoghq.com/").unwrap();
        assert_eq!(&*site.name, "us9.datadoghq.com");
        assert_eq!(&*site.base_url, "https://api.us9.datadoghq.com");
        assert!(matches!(known, Known::Unlisted(Some("US1" | "US3" | "US5"))), "{known:?}");
        assert_eq!(Site::parse("metrics.example.org").unwrap().1, Known::Unlisted(None));
        assert_eq!(Site::parse("datadoghq.cm").unwrap().1, Known::Unlisted(Some("US1")));
        assert_eq!(Site::parse("eu1.datadoghq.com").unwrap().1, Known::Unlisted(Some("EU1")));
    }

    #[test]
    fn nonsense_is_refused_with_a_suggestion() {
        for (text, part) in [
            ("", "is empty"),
            ("  ", "EU1 (datadoghq.eu)"),
            ("EU2", "did you mean EU1?"),
            ("US4", "did you mean US"),
            ("my site", "is not a Datadog site"),
            ("data dog.eu", "is not a Datadog site"),
            ("-.eu", "is not a Datadog site"),
            ("https://", "is not a Datadog site"),
            ("user:pass@datadoghq.eu", "is not a Datadog site"),
            ("127.0.0.1", "belongs into `url`"),
            ("127.0.0.1:8080", "belongs into `url`"),
            ("http://localhost:8080", "belongs into `url`"),
        ] {
            assert!(base_url(text).contains(part), "{text}: {}", base_url(text));
        }
    }

    #[test]
    fn a_base_url_keeps_host_port_and_path() {
        for (text, expected) in [
            ("https://proxy.example", "https://proxy.example"),
            ("HTTPS://Proxy.Example:8443/", "https://proxy.example:8443"),
            ("http://127.0.0.1:9000/datadog//", "http://127.0.0.1:9000/datadog"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("https://api.datadoghq.eu", "https://api.datadoghq.eu"),
        ] {
            assert_eq!(&*Site::from_url(text).unwrap().base_url, expected);
        }
        assert_eq!(&*Site::from_url("http://127.0.0.1:9000/x").unwrap().name, "127.0.0.1:9000");
    }

    #[test]
    fn a_base_url_with_anything_else_is_refused() {
        for (text, part) in [
            ("", "https://"),
            ("proxy.example", "https://"),
            ("ftp://proxy.example", "https://"),
            ("https://", "no host"),
            ("https:///path", "no host"),
            ("https://:80", "no host"),
            ("https://a b", "can't be"),
            ("https://a:0", "can't be"),
            ("https://a:70000", "can't be"),
            ("https://a:+80", "can't be"),
            ("https://300.1.1.1", "can't be"),
            ("https://[::1", "can't be"),
            ("https://a/?api_key=planted", "query"),
            ("https://a/#x", "fragment"),
            ("https://user:planted@a/", "credentials"),
            ("https://a/x y", "%XX"),
            ("https://a/api/v1/distribution_points", "/api/v1"),
            ("https://app.datadoghq.eu", "site = \"EU1\""),
        ] {
            let error = Site::from_url(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn only_this_machine_is_reached_in_the_clear_safely() {
        let clear = |text| Site::from_url(text).unwrap().is_in_the_clear();
        for text in
            ["http://proxy.example", "http://10.0.0.1:80", "http://localhost.example", "http://[fe80::1]:80"]
        {
            assert!(clear(text), "{text}");
        }
        for text in ["http://localhost:1/x", "http://127.9.9.9", "http://[::1]", "https://proxy.example"] {
            assert!(!clear(text), "{text}");
        }
    }

    proptest! {
        /// Any text is read or refused, and what is read is a base URL that reads back as itself.
        #[test]
        fn what_is_read_reads_back(text in "\\PC{0,40}|[a-zA-Z0-9.:/@\\[\\]-]{0,40}") {
            if let Ok((site, _)) = Site::parse(&text) {
                prop_assert_eq!(&Site::from_url(&site.base_url).unwrap().base_url, &site.base_url);
            }
            if let Ok(site) = Site::from_url(&text) {
                prop_assert_eq!(Site::from_url(&site.base_url), Ok(site));
            }
        }
    }
}
