//! Asks an admin port how it is, for the container's health check: the image has no other HTTP client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For the whole of it; orchestrators give up after a few seconds themselves.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Bytes read of an answer: what matters is its first line, and the reason below its headers.
const ANSWER_BYTES_MAX: u64 = 8 * 1024;

/// Gets `path` from the admin port at `address`; where the port listens on all addresses, from loopback.
///
/// # Errors
/// What stood in the way, or what the port said if that was not 200.
pub async fn probe(address: SocketAddr, path: &str) -> Result<(), String> {
    probe_within(address, path, TIME_MAX).await
}

async fn probe_within(address: SocketAddr, path: &str, time_max: Duration) -> Result<(), String> {
    let address = reachable(address);
    match timeout(time_max, get(address, path)).await {
        Ok(Ok(answer)) => judge(&answer).map_err(|reason| format!("{address}{path}: {reason}")),
        Ok(Err(error)) => Err(format!("{address}{path}: {error}; does braze-datadog run?")),
        Err(_elapsed) => Err(format!("{address}{path}: no answer within {time_max:?}")),
    }
}

/// Where a port can be reached from this machine: one on all addresses, on loopback.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn judge(answer: &[u8]) -> Result<(), String> {
    let answer = String::from_utf8_lossy(answer);
    let Some(status) = answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)) else {
        return Err("that is no HTTP answer".into());
    };
    if status == "200" {
        return Ok(());
    }
    let reason = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    Err(format!("status {status} {reason}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_200_is_well() {
        assert_eq!(judge(b"HTTP/1.0 200 OK\r\n\r\nok\n"), Ok(()));
        assert_eq!(judge(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        let full = judge(b"HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nthe queue is full\n");
        assert_eq!(full, Err("status 503 the queue is full".into()));
        assert_eq!(judge(b"HTTP/1.0 404 Not Found\r\n\r\n"), Err("status 404".into()));
        for strange in [&b""[..], b"HTTP/1.", b"HTTP/1.0", b"SSH-2.0-OpenSSH", b"HTTP/1.\xff\xff\xff\xff"] {
            assert!(judge(strange).is_err());
        }
    }

    #[test]
    fn a_port_on_all_addresses_is_asked_on_loopback() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:81"), "127.0.0.1:81");
        assert_eq!(reached("[::]:81"), "[::1]:81");
        assert_eq!(reached("10.0.0.1:81"), "10.0.0.1:81");
    }

    #[tokio::test]
    async fn a_port_that_is_closed_or_silent_is_an_error_in_bounded_time() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let error = probe_within(address, "/readyz", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error, format!("{address}/readyz: no answer within 50ms"));
        drop(silent);
        let error = probe(address, "/readyz").await.unwrap_err();
        assert!(error.ends_with("does braze-datadog run?"), "{error}");
    }
}
