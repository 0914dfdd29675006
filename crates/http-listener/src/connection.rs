//! One connection, from its handshake to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, rt};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::connection_limit::ConnectionSlot;
use super::observed::Observed;
use super::progress::RequestProgress;
use super::sampled::Sampled;
use super::{Admission, Answer, Caller, ConnectionLimits, Counts, HangUp, stopped};

/// Bytes of a request's line and headers. Braze sends a few hundred.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are read ahead per connection; a typical batch needs two reads.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Bytes that lingering reads at once.
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// The beginning of a TLS record that holds a handshake: its type, and the major version (RFC 8446, section 5.1).
const TLS_HANDSHAKE: [u8; 2] = [0x16, 3];

/// The beginning of HTTP/2 without negotiation (RFC 9113, section 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0";

pub(crate) struct PeerConnection<H> {
    pub(crate) handle: Arc<H>,
    pub(crate) peer: SocketAddr,
    pub(crate) limits: ConnectionLimits,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) handshake_log: Arc<Sampled>,
    pub(crate) unreadable_log: Arc<Sampled>,
    pub(crate) slot: Arc<ConnectionSlot>,
}

impl<H, F> PeerConnection<H>
where
    H: Fn(Request<Incoming>, Caller) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    /// Serves the connection until it ends, or must make room.
    pub(crate) async fn hold(self, socket: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let progress = Arc::clone(&self.slot.progress);
        tokio::select! {
            biased;
            () = progress.ended() => {}
            () = self.serve(socket, tls) => {}
        }
    }

    /// Serves every request of the connection.
    async fn serve(mut self, socket: TcpStream, tls: Option<Arc<ServerConfig>>) {
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "a connection was gone before it was served");
            return;
        }
        let Some(tls) = tls else {
            return self.converse(socket).await;
        };
        let handshake = async {
            // A load balancer that looks whether the port is open says nothing.
            match socket.peek(&mut [0]).await {
                Ok(0) | Err(_) => Ok(None),
                Ok(_) => TlsAcceptor::from(tls).accept(socket).await.map(Some),
            }
        };
        let handshake = timeout(self.limits.handshake_time_max, handshake);
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = stopped(&mut self.stop) => return,
        };
        match shaken {
            Ok(Ok(Some(stream))) => self.converse(stream).await,
            Ok(Ok(None)) => debug!(peer = %self.peer, "a connection ended before it said anything"),
            Ok(Err(error)) => self.log_error(&error),
            Err(_elapsed) => self.log_error(&"it took too long"),
        }
    }

    fn log_error(&self, error: &dyn std::fmt::Display) {
        self.counts.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        if let Some(hidden) = self.handshake_log.pass() {
            let peer = self.peer;
            warn!(%peer, %error, hidden, "a TLS handshake failed: does the sender speak https and trust the certificate?");
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut self, stream: S) {
        let progress = Arc::clone(&self.slot.progress);
        let stream = Observed { stream, progress: Arc::clone(&progress) };
        let service = {
            let (handle, slot, stop) = (Arc::clone(&self.handle), Arc::clone(&self.slot), self.stop.clone());
            let peer = self.peer;
            service_fn(move |request| {
                slot.progress.begin();
                let admission = if *stop.borrow() { Admission::Stopping } else { Admission::Welcome };
                let slot = Arc::clone(&slot);
                let answer = handle(request, Caller { peer, admission, slot: Arc::clone(&slot) });
                // Boxed, because hyper hands the socket back only from under a future that can be moved.
                Box::pin(async move {
                    let answer = finish(answer.await, &slot.progress);
                    slot.progress.finish();
                    Ok::<_, Infallible>(answer)
                })
            })
        };
        let mut http = http1::Builder::new()
            .timer(TokioTimer::new())
            // Who has nothing more to say after a request still waits for its answer (RFC 9112, section 9.6).
            .half_close(true)
            .header_read_timeout(self.limits.idle_time_max)
            .max_header_size(HEADER_BYTES_MAX)
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let Some(ended) = self.drive(&mut http, &progress).await else { return };
        let http1::Parts { io, read_buf, .. } = http.into_parts();
        // hyper answers an unreadable header by itself, and the bytes behind it are unread, too.
        let unread = match &ended {
            Ok(()) => progress.is_unread(),
            Err(error) => error.is_parse(),
        };
        if let Err(error) = ended
            && error.is_parse()
        {
            self.log_unreadable(&error, &read_buf);
        }
        self.end(io.into_inner(), unread).await;
    }

    /// Logs once in a while: no handler sees these requests.
    fn log_unreadable(&self, error: &hyper::Error, read: &[u8]) {
        let Some(hidden) = self.unreadable_log.pass() else { return };
        let (peer, what) = (self.peer, what_came(error.is_parse_too_large(), read));
        warn!(%peer, %error, hidden, "what is no request in HTTP/1.1 was refused: {what}");
    }

    /// Runs the connection until everything is sent; `None`: it is to be dropped at once.
    async fn drive<I, S>(
        &mut self,
        http: &mut http1::Connection<I, S>,
        progress: &RequestProgress,
    ) -> Option<hyper::Result<()>>
    where
        I: rt::Read + rt::Write + Unpin,
        S: hyper::service::HttpService<Incoming, ResBody = http_body_util::Full<bytes::Bytes>> + Unpin,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Unpin,
    {
        let mut patience = pin!(sleep(self.limits.first_request_time_max));
        let mut patience_over = false;
        let mut age = pin!(sleep(self.limits.age_max));
        let mut stopping = false;
        let finish = |http: &mut http1::Connection<I, S>| Pin::new(http).graceful_shutdown();
        loop {
            tokio::select! {
                ended = poll_fn(|context| http.poll_without_shutdown(context)) => return Some(ended),
                () = stopped(&mut self.stop), if !stopping => {
                    stopping = true;
                    finish(http);
                    // An idle connection ends now. One with half a header would otherwise use up the grace period.
                    patience.as_mut().reset(Instant::now() + self.limits.stop_time_max);
                    patience_over = false;
                }
                () = &mut patience, if !patience_over => {
                    patience_over = true;
                    let has_come = if stopping { progress.is_under_way() } else { progress.is_seen() };
                    if !has_come {
                        return None;
                    }
                }
                () = &mut age => {
                    if progress.is_old() {
                        return None;
                    }
                    // Closed here, an idle connection could be closed under a request that is on its way.
                    progress.grow_old();
                    age.as_mut().reset(Instant::now() + self.limits.idle_time_max + self.limits.request_time_max);
                }
            }
        }
    }

    /// Says goodbye, and waits for a peer that is still sending to stop.
    async fn end<S: AsyncRead + AsyncWrite + Unpin>(&mut self, mut stream: S, unread: bool) {
        let ConnectionLimits {
            linger_time_max, linger_idle_time_max, linger_bytes_max, stop_time_max, ..
        } = self.limits;
        let stopping = *self.stop.borrow();
        let time_max = if stopping { stop_time_max } else { linger_time_max };
        let goodbye = async {
            stream.shutdown().await?;
            if !unread {
                return Ok(());
            }
            let mut left = linger_bytes_max;
            let mut scrap = vec![0; LINGER_BUFFER_BYTES];
            while left > 0 {
                match timeout(linger_idle_time_max, stream.read(&mut scrap)).await {
                    Ok(read) => match read? {
                        0 => break,
                        read => left = left.saturating_sub(read),
                    },
                    Err(_elapsed) => break,
                }
            }
            std::io::Result::Ok(())
        };
        tokio::select! {
            said = timeout(time_max, goodbye) => match said {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a connection broke as it was closed"),
                Err(_elapsed) => debug!("a peer kept sending after it was refused"),
            },
            () = stopped(&mut self.stop), if !stopping => {}
        }
    }
}

/// Adds `connection: close` to an answer that ends the connection.
fn finish(mut answer: Answer, progress: &RequestProgress) -> Answer {
    let hang_up = answer.extensions_mut().remove::<HangUp>().is_some();
    if hang_up {
        progress.leave_unread();
    }
    if hang_up || progress.is_old() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// What an unreadable request is, by its first bytes.
fn what_came(is_too_large: bool, read: &[u8]) -> &'static str {
    if is_too_large {
        "its header has more than 16 KiB or 100 lines"
    } else if read.starts_with(&TLS_HANDSHAKE) {
        "it is TLS, and this port has none: does the sender speak https to it?"
    } else if read.starts_with(HTTP_2) {
        "it is HTTP/2; let the proxy or load balancer speak HTTP/1.1 to this port"
    } else {
        "its header can't be read"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_told_by_its_first_bytes() {
        for (is_too_large, read, told) in [
            (false, &b"\x16\x03\x01\x02\x00"[..], "https"),
            (false, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
            (true, b"GET / HTTP/1.1\r\nX: y", "16 KiB"),
            (false, b"\x16hello", "can't be read"),
            (false, b"", "can't be read"),
        ] {
            assert!(what_came(is_too_large, read).contains(told), "{told}");
        }
    }
}
