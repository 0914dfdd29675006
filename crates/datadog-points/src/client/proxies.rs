//! The proxies of the environment, read once, at the start.

use std::fmt;

use reqwest::{NoProxy, Proxy, Url};

/// Never sent through a proxy: a loopback address means this machine, and the proxy would see the key of a plain request.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// A proxy of the environment can't be used. It never repeats the value, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {variable} can't be used as a proxy: {reason}")]
pub struct ProxyError {
    variable: &'static str,
    reason: &'static str,
}

/// The proxies that requests go through.
#[derive(Clone, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// Hosts, networks and domains that are reached directly.
    direct: String,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, each in capitals or else in small letters.
    ///
    /// # Errors
    /// When one of the first three is set and is not the URL of a proxy.
    pub fn from_environment() -> Result<Self, ProxyError> {
        Self::from_variables(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let first = |names: [&'static str; 2]| {
            let set = names.into_iter().find_map(|name| Some((name, variable(name)?)));
            set.map(|(name, value)| (name, value.trim().to_owned())).filter(|(_, value)| !value.is_empty())
        };
        let proxy = |names| first(names).map(|(name, value)| read(name, &value)).transpose();
        let all = proxy(["ALL_PROXY", "all_proxy"])?;
        Ok(Self {
            http: proxy(["HTTP_PROXY", "http_proxy"])?.or_else(|| all.clone()),
            https: proxy(["HTTPS_PROXY", "https_proxy"])?.or(all),
            direct: first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default(),
        })
    }

    /// Whether TLS is spoken with one of them.
    pub(super) fn use_tls(&self) -> bool {
        [&self.http, &self.https].into_iter().flatten().any(|url| url.scheme() == "https")
    }

    /// A builder whose client goes through them, and through no others.
    pub(super) fn apply(&self, builder: reqwest::ClientBuilder) -> reqwest::Result<reqwest::ClientBuilder> {
        let direct = || NoProxy::from_string(&format!("{LOOPBACK},{}", self.direct));
        let mut builder = builder.no_proxy();
        if let Some(url) = &self.http {
            builder = builder.proxy(Proxy::http(url.clone())?.no_proxy(direct()));
        }
        if let Some(url) = &self.https {
            builder = builder.proxy(Proxy::https(url.clone())?.no_proxy(direct()));
        }
        Ok(builder)
    }
}

/// Reads the URL of a proxy; without a scheme it is one of plain HTTP.
fn read(variable: &'static str, value: &str) -> Result<Url, ProxyError> {
    let error = |reason| ProxyError { variable, reason };
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
    Ok(url)
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

    fn redacted(url: Option<&Url>) -> &str {
        url.map(Url::as_str).unwrap_or_default()
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
}
