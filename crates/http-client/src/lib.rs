//! What the clients of HTTP share, whomever they ask: names of hosts that are looked up within a time, the proxies of the
//! environment, settings of which none has a harmful default, and answers that are read up to a bound.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use http_client::{Proxies, Resolver, client_builder};
//!
//! // One for the process; each client waits for as long as it likes.
//! let resolver = Arc::new(Resolver::start()?);
//! let proxies = Proxies::from_environment()?;
//! let client = client_builder(&resolver, &proxies, "example/1.0", Duration::from_secs(4))?.build()?;
//! # drop(client);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod proxies;
mod resolver;

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, Response, redirect, retry};

pub use self::proxies::{Proxies, ProxyError, is_of_proxy};
pub use self::resolver::{LookUp, LookUpError, Patient, Resolver};

/// The builder of a client whose requests are to take `timeout` at most, which whoever sends them sees to. It follows no redirect, repeats
/// nothing, sends no referrer, asks for plain bodies, and goes through `proxies` and no others.
///
/// Looking a name up takes half of the time at most, and each of several addresses has its share of [`connect_timeout`], so that a
/// dead address or name server leaves time for the request.
///
/// # Errors
/// None is known.
pub fn client_builder(
    resolver: &Arc<Resolver>,
    proxies: &Proxies,
    user_agent: &str,
    timeout: Duration,
) -> reqwest::Result<ClientBuilder> {
    // For clients that bring no TLS of their own. Any that was installed before is as good.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    // Without it any coding would be acceptable, by RFC 9110, section 12.5.3.
    let plain = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
    let builder = reqwest::Client::builder()
        .default_headers(plain)
        .dns_resolver(Patient { resolver: Arc::clone(resolver), wait_max: timeout / 2 })
        .connect_timeout(connect_timeout(timeout))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .user_agent(user_agent);
    proxies.apply(builder)
}

/// How long a connection may take, with TLS, of the time of a whole request.
#[must_use]
pub fn connect_timeout(request: Duration) -> Duration {
    request / 4 * 3
}

/// Appends an answer's body to `body`, up to `bytes_max` bytes in all; returns whether that is all of it.
/// What has come is in `body` when it is cancelled, too.
///
/// # Errors
/// When the connection breaks off.
pub async fn read_up_to(
    answer: &mut Response,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> reqwest::Result<bool> {
    while let Some(chunk) = answer.chunk().await? {
        let room = bytes_max.saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why a request failed, with its causes, a [`LookUpError`] among others; without the URL that reqwest adds, which may hold
/// a secret.
#[must_use]
pub fn sentence(error: &reqwest::Error) -> String {
    let mut sentence =
        if error.is_connect() { "connecting failed".to_owned() } else { "no usable answer".to_owned() };
    let mut source = error.source();
    while let Some(cause) = source {
        sentence.push_str(": ");
        sentence.push_str(&cause.to_string());
        source = cause.source();
    }
    sentence
}

/// Whether a host, as it stands in a URL, is this machine, as far as that is certain without a look-up.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_bound_and_said_to_be_whole_or_not() {
        let resolver = Arc::new(Resolver::start().unwrap());
        let client = client_builder(&resolver, &Proxies::default(), "test/1", Duration::from_secs(10));
        let client = client.unwrap().build().unwrap();
        for (bytes_max, expected) in
            [(4, ("0123", false)), (10, ("0123456789", true)), (11, ("0123456789", true))]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789").unwrap();
                String::from_utf8_lossy(&request[..length]).to_lowercase()
            });
            let (mut answer, mut body) = (client.get(url).send().await.unwrap(), Vec::new());
            let is_whole = read_up_to(&mut answer, &mut body, bytes_max).await.unwrap();
            assert_eq!((str::from_utf8(&body).unwrap(), is_whole), expected);
            let request = server.join().unwrap();
            for header in ["accept-encoding: identity", "user-agent: test/1"] {
                assert!(request.contains(header), "{request}");
            }
        }
    }
}
