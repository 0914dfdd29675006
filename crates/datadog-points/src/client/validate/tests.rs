use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use http_client::{Proxies, Resolver};

/// What is said of a key on `site` by a client whose connections may take 300 ms.
async fn asked(site: &str, variable: Option<(&str, &str)>) -> Validity {
    let named = |name: &str| variable.filter(|(known, _)| *known == name).map(|(_, url)| url.to_owned());
    let proxies = Proxies::from_variables(named).unwrap();
    let nobody = Resolver::start_with(|_: &str| Err(std::io::Error::other("no names"))).unwrap();
    let network = Network::new("test/1", nobody, proxies, false).unwrap();
    let client = network.client(Duration::from_millis(400), Duration::ZERO, 0).unwrap();
    let validator = KeyValidator { client, network };
    validator.ask(&Site::from_url(site).unwrap(), &ApiKey::new("k3y")).await
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_named() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    for scheme in ["http", "socks5h"] {
        let url = format!("{scheme}://{address}");
        let validity = asked("https://datadog.invalid", Some(("ALL_PROXY", &url))).await;
        let Validity::Unknown(said) = validity else { panic!("{validity:?}") };
        assert!(
            said.ends_with("does a firewall stop it, or is it the proxy that ALL_PROXY names?"),
            "{said}"
        );
    }
    // It leads on, to nobody who speaks TLS.
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut leading = JoinSet::new();
    leading.spawn(async move {
        let (mut socket, _) = proxy.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    });
    let validity = asked("https://datadog.invalid", Some(("HTTPS_PROXY", &url))).await;
    let Validity::Unknown(said) = validity else { panic!("{validity:?}") };
    assert!(said.ends_with("reachable from here, or is it the proxy that HTTPS_PROXY names?"), "{said}");
    let Validity::Unknown(said) = asked("http://127.0.0.1:1", None).await else { panic!() };
    assert!(said.ends_with("reachable from here, or is a proxy needed (HTTPS_PROXY)?"), "{said}");
}

/// What is said of a key where these bytes are answered, and the question.
async fn answered(answer: &'static [u8]) -> (Validity, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut answering = JoinSet::new();
    answering.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = socket.read(&mut request).await.unwrap();
        socket.write_all(answer).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (asked(&url, None).await, answering.join_next().await.unwrap().unwrap())
}

#[tokio::test]
async fn an_answer_in_a_coding_is_no_answer_of_datadogs() {
    for (answer, part) in [
        (
            &b"HTTP/1.1 403 No\r\ncontent-encoding: GZIP\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08"[..],
            "403 with Content-Encoding gzip, which was not asked for; does a proxy answer?",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: k3y\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08",
            "200 with a Content-Encoding, which was not asked for; does a proxy answer?",
        ),
    ] {
        let (validity, request) = answered(answer).await;
        assert_eq!(validity, Validity::Unknown(part.to_owned()));
        assert!(request.contains("accept-encoding: identity"), "{request}");
    }
    let plain = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 14\r\n\r\n{\"valid\":true}";
    assert_eq!(answered(plain).await.0, Validity::Valid, "what can be read is");
    let refused = b"HTTP/1.1 403 No\r\ncontent-encoding: identity\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answered(refused).await.0, Validity::Invalid(403));
}
