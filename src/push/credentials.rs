//! The credentials of the push port: read from files, and replaced while the port is open.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::PushSettings;
use super::token::Tokens;
use http_listener::tls::{self, CertificateValidity, Identity, Standing};

/// Tokens and certificate, as they were in their files at one moment.
#[derive(Clone)]
pub struct Credentials {
    pub(super) tokens: Option<Tokens>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// When the certificates hold.
    validity: Option<CertificateValidity>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("tokens", &self.tokens)
            .field("tls", &self.tls.is_some())
            .field("validity", &self.validity)
            .finish()
    }
}

/// A file can't be used. The message names the setting, the file and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CredentialsError(String);

/// Tokens, or certificate and key: each is replaced by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialPart {
    /// The token file.
    Tokens,
    /// The certificate and its key.
    Certificate,
}

impl CredentialPart {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tokens, Self::Certificate];
}

/// What was read of the files, each part by itself.
#[derive(Debug)]
pub struct ReadCredentials {
    tokens: Result<Option<Tokens>, CredentialsError>,
    identity: Result<Option<Identity>, CredentialsError>,
    /// What the log should warn of.
    pub warnings: Vec<String>,
}

impl ReadCredentials {
    /// Reads the token file, the certificate and the key. Blocks on files.
    pub fn read(settings: &PushSettings) -> Self {
        let mut warnings = Vec::new();
        let tokens = settings.token_file.as_deref().map(|path| {
            let named = |reason| format!("push.token_file: {reason}");
            let (tokens, told) = Tokens::load(path).map_err(|reason| CredentialsError(named(reason)))?;
            let bound = tokens.doubts().into_iter();
            let bound = bound.map(|doubt| named(format!("an app group id that a token is bound to {doubt}")));
            warnings.extend(told.into_iter().map(named).chain(bound));
            Ok(tokens)
        });
        let identity = settings.tls.as_ref().map(|files| {
            let unusable = |error| CredentialsError(format!("push.tls_certificate, push.tls_key: {error}"));
            tls::load(&files.certificate, &files.key).map_err(unusable)
        });
        if settings.tls.is_none() && !is_loopback(settings.listen.ip()) {
            warnings.push(format!(
                "push.listen: tokens travel to {} unencrypted unless a proxy in front speaks TLS; \
                 see push.tls_certificate",
                settings.listen
            ));
        }
        Self { tokens: tokens.transpose(), identity: identity.transpose(), warnings }
    }

    /// Why a part can't be used.
    pub fn error(&self, part: CredentialPart) -> Option<&CredentialsError> {
        match part {
            CredentialPart::Tokens => self.tokens.as_ref().err(),
            CredentialPart::Certificate => self.identity.as_ref().err(),
        }
    }
}

impl Credentials {
    /// Reads the token file, the certificate and the key. Also returns what the log should warn of. Blocks on
    /// files.
    ///
    /// # Errors
    /// When a file can't be used, or there are no tokens on a port that is not loopback.
    pub fn load(settings: &PushSettings) -> Result<(Self, Vec<String>), CredentialsError> {
        let ReadCredentials { tokens, identity, warnings } = ReadCredentials::read(settings);
        let credentials = Self { tokens: tokens?, tls: None, validity: None }.with_identity(identity?);
        credentials.suit(settings.listen)?;
        Ok((credentials, warnings))
    }

    fn with_identity(self, identity: Option<Identity>) -> Self {
        let validity = identity.as_ref().and_then(|identity| identity.validity);
        Self { tls: identity.map(|identity| identity.config), validity, ..self }
    }

    /// Trouble, or soon to be, with the certificates' validity, at a time in Unix seconds.
    pub fn certificate_trouble(&self, now: u64) -> Option<CertificateTrouble> {
        let standing = self.validity?.at(i64::try_from(now).unwrap_or(i64::MAX));
        let (is_valid, words) = match standing {
            Standing::Valid => return None,
            Standing::Ending(left) => (true, format!("ends in {}", span(left))),
            Standing::Expired(ago) => (false, format!("expired {} ago", span(ago))),
            Standing::Early(left) => (false, format!("is not valid for another {}", span(left))),
        };
        Some(CertificateTrouble { is_valid, words })
    }

    /// Without tokens, only this machine may push.
    fn suit(&self, address: SocketAddr) -> Result<(), CredentialsError> {
        if self.tokens.is_none() && !is_loopback(address.ip()) {
            return Err(CredentialsError(format!(
                "push.token_file: without tokens anyone who reaches {address} could push; \
                 name a token file, or listen on 127.0.0.1"
            )));
        }
        Ok(())
    }
}

/// Trouble with the validity of the push port's certificates, for a log line or `check`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "push.tls_certificate: the certificate (or one of its chain) {words}; put a new one and its key in place"
)]
pub struct CertificateTrouble {
    /// Whether they hold now.
    pub is_valid: bool,
    words: String,
}

/// Whether an address is on this machine only.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// In the most readable unit.
fn span(seconds: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("days", 86_400), ("hours", 3_600), ("minutes", 60)];
    let fit = UNITS.into_iter().find(|(_, unit)| seconds >= 2 * unit);
    fit.map_or_else(|| format!("{seconds} seconds"), |(name, unit)| format!("{} {name}", seconds / unit))
}

/// Replaces the credentials of an open port.
#[derive(Debug, Clone)]
pub struct Reload {
    address: SocketAddr,
    current: Arc<watch::Sender<Arc<Credentials>>>,
}

impl Reload {
    pub(super) fn new(address: SocketAddr, credentials: Credentials) -> Self {
        Self { address, current: Arc::new(watch::Sender::new(Arc::new(credentials))) }
    }

    /// From now on requests are checked against the new tokens; new connections get the new certificate.
    ///
    /// # Errors
    /// When there are no tokens, and the port's actual address is not loopback. The old ones stay.
    pub fn swap(&self, credentials: Credentials) -> Result<(), CredentialsError> {
        credentials.suit(self.address)?;
        self.current.send_replace(Arc::new(credentials));
        Ok(())
    }

    /// The same for each part that is right; the other one stays as it is.
    ///
    /// # Errors
    /// As [`Reload::swap`].
    pub fn swap_right(&self, read: ReadCredentials) -> Result<(), CredentialsError> {
        let mut credentials = Credentials::clone(&self.current());
        if let Ok(tokens) = read.tokens {
            credentials.tokens = tokens;
        }
        if let Ok(identity) = read.identity {
            credentials = credentials.with_identity(identity);
        }
        self.swap(credentials)
    }

    /// Trouble, or soon to be, with the certificates' validity, at a time in Unix seconds.
    pub fn certificate_trouble(&self, now: u64) -> Option<CertificateTrouble> {
        self.current().certificate_trouble(now)
    }

    /// Until when the certificates hold, in Unix seconds.
    pub fn certificate_not_after(&self) -> Option<u64> {
        self.current().validity.map(|validity| u64::try_from(validity.not_after).unwrap_or(0))
    }

    pub(super) fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.borrow())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::TlsFiles;
    use super::*;

    fn settings(listen: &str, token_file: Option<PathBuf>) -> PushSettings {
        PushSettings { listen: listen.parse().unwrap(), token_file, tls: None, body_bytes_max: 1024 }
    }

    #[test]
    fn without_tokens_only_loopback_may_be_opened() {
        for loopback in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(Credentials::load(&settings(loopback, None)).unwrap().1, Vec::<String>::new());
        }
        for open in ["0.0.0.0:80", "[::]:80", "10.1.1.1:80"] {
            let error = Credentials::load(&settings(open, None)).unwrap_err().to_string();
            assert!(error.starts_with("push.token_file: without tokens anyone who reaches"), "{error}");
        }
    }

    #[test]
    fn a_certificate_that_does_not_hold_or_soon_will_not_is_told_in_words() {
        let validity =
            Some(CertificateValidity { not_before: 1_000_000, not_after: 1_000_000 + 90 * 86_400 });
        let credentials = Credentials { tokens: None, tls: None, validity };
        let told =
            |now: u64| credentials.certificate_trouble(now).map(|told| (told.is_valid, told.to_string()));
        assert_eq!(told(1_000_000), None);
        for (now, is_valid, words) in [
            (1_000_000 - 7_200, false, "is not valid for another 2 hours; "),
            (1_000_000 + 80 * 86_400, true, "ends in 10 days; "),
            (1_000_000 + 90 * 86_400 + 119, false, "expired 119 seconds ago; "),
            (1_000_000 + 92 * 86_400, false, "expired 2 days ago; "),
        ] {
            let (valid, text) = told(now).unwrap();
            assert!(valid == is_valid && text.contains(words), "{text}");
        }
        let without = Credentials { tokens: None, tls: None, validity: None };
        assert_eq!(without.certificate_trouble(0), None);
    }

    #[test]
    fn a_reload_can_not_take_the_tokens_from_an_open_port() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, "one").unwrap();
        let (with, warnings) = Credentials::load(&settings("0.0.0.0:80", Some(path))).unwrap();
        assert!(warnings.last().unwrap().starts_with("push.listen: tokens travel to 0.0.0.0:80 unencrypted"));
        let reload = Reload::new("0.0.0.0:80".parse().unwrap(), with);
        let (without, _) = Credentials::load(&settings("127.0.0.1:80", None)).unwrap();
        assert!(reload.swap(without).is_err());
        assert!(reload.current().tokens.is_some());
    }

    #[test]
    fn each_part_is_replaced_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, content: &str| fs::write(path(name), content).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        write("tokens", "good\nleaked");
        write("c", &made.cert.pem());
        write("k", &made.signing_key.serialize_pem());
        let tls = Some(TlsFiles { certificate: path("c"), key: path("k") });
        let settings = PushSettings { tls, ..settings("127.0.0.1:80", Some(path("tokens"))) };
        let reload = Reload::new(settings.listen, Credentials::load(&settings).unwrap().0);
        let first = reload.current().tls.clone().unwrap();
        let take_over = || {
            let read = ReadCredentials::read(&settings);
            let wrong = CredentialPart::ALL.map(|part| read.error(part).is_some());
            reload.swap_right(read).unwrap();
            let current = reload.current();
            let tokens = current.tokens.as_ref().unwrap().len();
            (wrong, tokens, Arc::ptr_eq(current.tls.as_ref().unwrap(), &first), current.validity.is_some())
        };
        write("tokens", "good");
        write("k", "no key");
        assert_eq!(take_over(), ([false, true], 1, true, true));
        write("tokens", "good and a slip");
        write("k", &made.signing_key.serialize_pem());
        assert_eq!(take_over(), ([true, false], 1, false, true));
        write("tokens", "good\nnew");
        assert_eq!(take_over(), ([false, false], 2, false, true));
    }

    #[test]
    fn errors_name_the_setting() {
        let missing = settings("127.0.0.1:80", Some("/nowhere/tokens".into()));
        let error = Credentials::load(&missing).unwrap_err().to_string();
        assert!(error.starts_with("push.token_file: /nowhere/tokens: "), "{error}");
        let mut missing = settings("127.0.0.1:80", None);
        missing.tls = Some(TlsFiles { certificate: "/nowhere/c".into(), key: "/nowhere/k".into() });
        let error = Credentials::load(&missing).unwrap_err().to_string();
        assert!(error.starts_with("push.tls_certificate, push.tls_key: /nowhere/c: "), "{error}");
    }
}
