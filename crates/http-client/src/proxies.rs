//! The proxies of the environment: every client that asks another machine reads them here.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use reqwest::{NoProxy, Proxy, Url};

use super::{LookUpError, is_loopback};

/// Never sent through a proxy: a loopback address means this machine, and the proxy would see the key of a plain request.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// What `*` stands for: names and addresses.
const EVERYTHING: &str = "*,0.0.0.0/0,::/0";

/// A variable of the environment that says something of proxies can't be used. It never repeats the value, which may hold a
/// password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} can't be used: {reason}")]
pub struct ProxyError {
    variable: &'static str,
    reason: &'static str,
}

/// The proxies that requests go through.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Variable>,
    https: Option<Variable>,
    /// Hosts, networks and domains that are reached directly.
    direct: String,
}

/// A proxy, and the variable that names it.
#[derive(Clone)]
struct Variable {
    name: &'static str,
    url: Url,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, each in capitals or else in small letters.
    ///
    /// # Errors
    /// When one of the first three is set and is not the URL of a proxy, or the last one beside it has what is no host,
    /// domain or network.
    pub fn from_environment() -> Result<Self, ProxyError> {
        Self::from_variables(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// As [`Proxies::from_environment`], of other variables; for tests.
    ///
    /// # Errors
    /// As there.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let first = |names: [&'static str; 2]| {
            let set = names.into_iter().find_map(|name| Some((name, variable(name)?)));
            set.map(|(name, value)| (name, value.trim().to_owned())).filter(|(_, value)| !value.is_empty())
        };
        let proxy = |names| first(names).map(|(name, value)| read(name, &value)).transpose();
        let all = proxy(["ALL_PROXY", "all_proxy"])?;
        let http = proxy(["HTTP_PROXY", "http_proxy"])?.or_else(|| all.clone());
        let https = proxy(["HTTPS_PROXY", "https_proxy"])?.or(all);
        let no_proxy = first(["NO_PROXY", "no_proxy"]).filter(|_| http.is_some() || https.is_some());
        let direct = no_proxy.map(|(name, value)| read_direct(name, &value)).transpose()?;
        Ok(Self { http, https, direct: direct.unwrap_or_default() })
    }

    /// Those of the environment for a client of one URL: on loopback there are none, and nothing is read.
    ///
    /// # Errors
    /// As [`Proxies::from_environment`].
    pub fn towards(url: &Url) -> Result<Self, ProxyError> {
        if is_loopback(url.host_str().unwrap_or_default()) {
            Ok(Self::default())
        } else {
            Self::from_environment()
        }
    }

    /// Whether TLS is spoken with one of them.
    #[must_use]
    pub fn use_tls(&self) -> bool {
        [&self.http, &self.https].into_iter().flatten().any(|proxy| proxy.url.scheme() == "https")
    }

    /// The variable that names the proxy for a URL, wherever that is reached directly.
    #[must_use]
    pub fn variable(&self, url: &str) -> Option<&'static str> {
        let proxy = if url.starts_with("https:") { &self.https } else { &self.http };
        proxy.as_ref().map(|proxy| proxy.name)
    }

    /// A builder whose client goes through them, and through no others. Nothing on loopback does.
    ///
    /// # Errors
    /// None is known.
    pub fn apply(&self, builder: reqwest::ClientBuilder) -> reqwest::Result<reqwest::ClientBuilder> {
        let direct = || NoProxy::from_string(&format!("{LOOPBACK},{}", self.direct));
        let mut builder = builder.no_proxy();
        if let Some(proxy) = &self.http {
            builder = builder.proxy(Proxy::http(proxy.url.clone())?.no_proxy(direct()));
        }
        if let Some(proxy) = &self.https {
            builder = builder.proxy(Proxy::https(proxy.url.clone())?.no_proxy(direct()));
        }
        Ok(builder)
    }
}

/// Whether a request to `url` failed at a proxy: its name has no address, or it did not lead on.
#[must_use]
pub fn is_of_proxy(url: &str, error: &reqwest::Error) -> bool {
    let first: Option<&(dyn Error + 'static)> = error.source();
    let causes = std::iter::successors(first, |cause| (*cause).source());
    let Some(name) = causes.clone().find_map(|cause| cause.downcast_ref::<LookUpError>()) else {
        // The types of these have no public name.
        return causes
            .map(ToString::to_string)
            .any(|cause| cause.starts_with("tunnel error") || cause.contains("socks proxy"));
    };
    !Url::parse(url).is_ok_and(|url| url.host_str() == Some(name.host()))
}

/// Reads the URL of a proxy; without a scheme it is one of plain HTTP.
fn read(name: &'static str, value: &str) -> Result<Variable, ProxyError> {
    let error = |reason| ProxyError { variable: name, reason };
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&whole)
        .map_err(|_| error("it has to look like http://proxy.example:3128 (or http://user:password@…)"))?;
    if !matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h") {
        return Err(error("it has to begin with http://, https://, socks5:// or socks5h://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(error("it has no host; it has to look like http://proxy.example:3128"));
    }
    if url.port() == Some(0) {
        return Err(error("its port is 0; it has to look like http://proxy.example:3128"));
    }
    Ok(Variable { name, url })
}

/// Reads the list of what is reached directly, into the form that reqwest understands: of what it does not, it says nothing.
fn read_direct(name: &'static str, value: &str) -> Result<String, ProxyError> {
    let entries = value.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty());
    let read: Option<Vec<String>> = entries.map(read_entry).collect();
    let read = read.ok_or(ProxyError {
        variable: name,
        reason: "it has to be a list of hosts, domains (.example), addresses and networks (10.0.0.0/8), with commas, or *",
    })?;
    Ok(read.join(","))
}

/// A host, a domain (with a dot or `*.` before it), an address or a network, each but the last with a port that is left
/// out: the place is reached directly on all of them.
fn read_entry(entry: &str) -> Option<String> {
    if entry == "*" {
        return Some(EVERYTHING.to_owned());
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let bits_max = if address.parse::<IpAddr>().ok()?.is_ipv4() { 32 } else { 128 };
        return (bits.parse::<u8>().ok()? <= bits_max).then(|| entry.to_owned());
    }
    if entry.parse::<IpAddr>().is_ok() {
        return Some(entry.to_owned());
    }
    let host = match entry.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => entry,
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if address.parse::<IpAddr>().is_ok() {
        return Some(address.to_owned());
    }
    let (dot, name) = match host.strip_prefix("*.").or_else(|| host.strip_prefix('.')) {
        Some(name) => (".", name),
        None => ("", host),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    // As it stands in a URL: in small letters, and without letters beyond ASCII.
    let url = Url::parse(&format!("http://{name}")).ok()?;
    let is_name = !name.contains(|letter: char| {
        letter.is_ascii() && !letter.is_ascii_alphanumeric() && !"-._".contains(letter)
    }) && name.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    url.domain().filter(|_| is_name).map(|domain| format!("{dot}{domain}"))
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs of proxies hold passwords.
        let (http, https) = (self.http.is_some(), self.https.is_some());
        f.debug_struct("Proxies").field("http", &http).field("https", &https).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Proxies::from_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn redacted(proxy: Option<&Variable>) -> &str {
        proxy.map(|proxy| proxy.url.as_str()).unwrap_or_default()
    }

    #[test]
    fn each_variable_stands_for_its_scheme_and_all_proxy_for_what_is_left() {
        let none = read_all(&[("HTTP_PROXY", ""), ("NO_PROXY", "a")]).unwrap();
        assert!(none.http.is_none() && none.https.is_none());
        let one = read_all(&[("https_proxy", "proxy.example:3128")]).unwrap();
        assert_eq!(
            (redacted(one.http.as_ref()), redacted(one.https.as_ref())),
            ("", "http://proxy.example:3128/")
        );
        let both = read_all(&[
            ("HTTPS_PROXY", "https://u:p@a.example"),
            ("https_proxy", "b.example"),
            ("ALL_PROXY", "socks5h://c.example:1080"),
        ])
        .unwrap();
        assert_eq!(redacted(both.https.as_ref()), "https://u:p@a.example/");
        assert_eq!(redacted(both.http.as_ref()), "socks5h://c.example:1080");
        assert!(both.use_tls() && !one.use_tls());
        assert_eq!((one.variable("https://a"), one.variable("http://a")), (Some("https_proxy"), None));
        assert_eq!(both.variable("http://a"), Some("ALL_PROXY"));
        assert!(!format!("{both:?}").contains("u:p"), "{both:?}");
    }

    #[test]
    fn a_value_that_can_not_be_used_is_an_error_that_names_the_variable_alone() {
        for (name, value) in [
            ("HTTPS_PROXY", "http://"),
            ("http_proxy", "ftp://secret.example"),
            ("ALL_PROXY", "http://secret.example:99999"),
            ("HTTP_PROXY", "http://secret.example:0"),
            ("HTTPS_PROXY", "socks9://secret.example"),
            ("HTTPS_PROXY", "secret proxy"),
        ] {
            let error = read_all(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("it has to"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    /// Whether `host` is reached directly with such a `NO_PROXY`. The proxy is one that refuses every connection.
    async fn is_direct(no_proxy: &str, host: &str) -> bool {
        let proxies = read_all(&[("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", no_proxy)]).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Every name is this machine's.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let all = crate::Resolver::start_with(|_: &str| Ok(vec![([127, 0, 0, 1], 0).into()])).unwrap();
        let patient = crate::Patient { resolver: all.into(), wait_max: std::time::Duration::from_secs(10) };
        let builder = proxies.apply(reqwest::Client::builder().dns_resolver(patient)).unwrap();
        let asked = builder.build().unwrap().get(format!("http://{host}:{port}")).send();
        tokio::select! {
            asked = asked => { assert!(asked.is_err()); false }
            accepted = listener.accept() => accepted.is_ok(),
        }
    }

    #[tokio::test]
    async fn what_no_proxy_names_is_reached_directly_in_every_form_of_it() {
        for (no_proxy, direct, not) in [
            ("dd.test:28444", "dd.test", "dd.example"),
            ("a.b, *.test", "x.dd.test", "test.example"),
            ("a.b dd.test", "dd.test", "b.example"),
            (".test,", "dd.test", "ddtest"),
            ("*", "dd.test", ""),
            ("Bücher.test", "xn--bcher-kva.test", "bucher.test"),
        ] {
            assert!(is_direct(no_proxy, direct).await, "{no_proxy}");
            assert!(not.is_empty() || !is_direct(no_proxy, not).await, "{no_proxy}");
        }
    }

    #[test]
    fn addresses_and_networks_are_taken_with_brackets_and_ports_and_what_is_none_is_an_error() {
        let read = |value: &str| read_direct("NO_PROXY", value);
        for (value, understood) in [
            ("10.0.0.0/8,fd00::/8", "10.0.0.0/8,fd00::/8"),
            ("10.0.0.1:80 [fd00::1]:443,[fd00::2],fd00::3", "10.0.0.1,fd00::1,fd00::2,fd00::3"),
            ("*", EVERYTHING),
            ("a.test.,.b.test.", "a.test,.b.test"),
        ] {
            assert_eq!(read(value).as_deref(), Ok(understood));
        }
        for value in [
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.",
            "192.168.*",
            "10.1",
            "a*.test",
            "*dd.test",
            "https://a.test",
            "a.test/b",
            "u:p@a.test",
            "a;b",
            "a.test:99999",
            "a|b",
            "[fd00::1",
            "..a",
            "a..b",
            "-a",
        ] {
            let error = read(&format!("ok.test,{value}")).unwrap_err().to_string();
            assert!(error.contains("NO_PROXY") && !error.contains("test"), "{value}: {error}");
        }
        let alone = read_all(&[("NO_PROXY", "10.0.0.0/33")]);
        assert!(alone.is_ok(), "without a proxy it says nothing");
        assert!(read_all(&[("ALL_PROXY", "a.example"), ("no_proxy", "10.0.0.0/33")]).is_err());
    }
}
