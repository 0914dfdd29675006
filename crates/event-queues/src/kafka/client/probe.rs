//! Finds out why a broker's certificate is refused. librdkafka does not say, so another client asks the broker for it once
//! more, and sends nothing else. On a thread of its own, and once a minute at most.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};

use super::authorities::Authorities;
use super::health::Health;
use super::refusal::{Flaw, Trouble, of_certificate};

/// How long each step of it may take.
const STEP_MAX: Duration = Duration::from_secs(3);

/// Examines refused certificates, one at a time.
#[derive(Debug, Default)]
pub(super) struct Probe {
    authorities: Authorities,
    is_busy: Arc<AtomicBool>,
}

impl Probe {
    pub(super) fn new(authorities: Authorities) -> Self {
        Self { authorities, is_busy: Arc::default() }
    }

    /// Finds out what is wrong with the certificate of the broker that `reason` names, and reports it.
    pub(super) fn start(&self, reason: &str, health: &Arc<Health>) {
        if health.is_logged(Trouble::Access) || self.is_busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let (busy, health, reason) = (Arc::clone(&self.is_busy), Arc::clone(health), reason.to_owned());
        let authorities = self.authorities.clone();
        let work = {
            let (busy, health, reason) = (Arc::clone(&busy), Arc::clone(&health), reason.clone());
            move || {
                let flaw = address(&reason).and_then(|(host, port)| flaw_of(host, port, &authorities));
                health.refuse(&of_certificate(flaw), &reason);
                busy.store(false, Ordering::Relaxed);
            }
        };
        if thread::Builder::new().name("kafka-probe".to_owned()).spawn(work).is_err() {
            health.refuse(&of_certificate(None), &reason);
            busy.store(false, Ordering::Relaxed);
        }
    }
}

/// The broker in `ssl://host:port/bootstrap: …`.
fn address(reason: &str) -> Option<(&str, u16)> {
    let (_, rest) = reason.split_once("ssl://")?;
    let (address, _) = rest.split_once('/')?;
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

/// The certificate's flaw, if that can be found out.
fn flaw_of(host: &str, port: u16, authorities: &Authorities) -> Option<Flaw> {
    let roots = Arc::new(authorities.roots());
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().ok()?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = config.with_webpki_verifier(verifier).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let address = (host, port).to_socket_addrs().ok()?.next()?;
    let mut socket = TcpStream::connect_timeout(&address, STEP_MAX).ok()?;
    socket.set_read_timeout(Some(STEP_MAX)).ok()?;
    socket.set_write_timeout(Some(STEP_MAX)).ok()?;
    while connection.is_handshaking() {
        let Err(error) = connection.complete_io(&mut socket) else { continue };
        return flaw_in(error.get_ref()?.downcast_ref::<Error>()?);
    }
    None
}

fn flaw_in(error: &Error) -> Option<Flaw> {
    let Error::InvalidCertificate(error) = error else { return None };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(Flaw::Expired),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some(Flaw::NotYetValid)
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some(Flaw::OtherName)
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(Flaw::OtherAuthority),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_found_in_what_librdkafka_says() {
        assert_eq!(
            address("ssl://k1.example:9093/bootstrap: SSL handshake failed"),
            Some(("k1.example", 9093))
        );
        assert_eq!(address("sasl_ssl://[::1]:9093/1: SSL handshake failed"), Some(("::1", 9093)));
        assert_eq!(address("GroupCoordinator: k1.example:9093: SSL handshake failed"), None);
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_apart() {
        for (error, flaw) in [
            (CertificateError::Expired, Some(Flaw::Expired)),
            (CertificateError::NotValidForName, Some(Flaw::OtherName)),
            (CertificateError::UnknownIssuer, Some(Flaw::OtherAuthority)),
            (CertificateError::Revoked, None),
        ] {
            assert_eq!(flaw_in(&Error::InvalidCertificate(error)), flaw);
        }
    }
}
