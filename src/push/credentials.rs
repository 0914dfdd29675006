//! What is read from files for the push port, and how it is swapped while the port is open.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::Settings;
use super::token::Tokens;
use crate::listen::tls;

/// Tokens and certificate, as they were in their files at one moment.
#[derive(Clone)]
pub struct Credentials {
    pub(super) tokens: Option<Tokens>,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("tokens", &self.tokens).field("tls", &self.tls.is_some()).finish()
    }
}

/// A file can't be used. The message names the setting, the file and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CredentialsError(String);

impl Credentials {
    /// Reads the token file, the certificate and the key. Also returns what the log should warn of. Blocks on
    /// files.
    ///
    /// # Errors
    /// When a file can't be used, or there are no tokens on a port that is not loopback.
    pub fn load(settings: &Settings) -> Result<(Self, Vec<String>), CredentialsError> {
        let tokens = match &settings.token_file {
            None => None,
            Some(path) => {
                let unusable = |reason| CredentialsError(format!("push.token_file: {reason}"));
                Some(Tokens::load(path).map_err(unusable)?)
            }
        };
        let tls = match &settings.tls {
            None => None,
            Some(files) => {
                let unusable =
                    |error| CredentialsError(format!("push.tls_certificate, push.tls_key: {error}"));
                Some(tls::load(&files.certificate, &files.key).map_err(unusable)?)
            }
        };
        let credentials = Self { tokens, tls };
        credentials.suit(settings.listen)?;
        let doubts = credentials.tokens.iter().flat_map(Tokens::doubts);
        let mut notices: Vec<_> = doubts
            .map(|reason| format!("push.token_file: an app group id that a token is bound to {reason}"))
            .collect();
        if tls_is_missing(settings) {
            notices.push(format!(
                "push.listen: tokens travel to {} unencrypted unless a proxy in front speaks TLS; \
                 see push.tls_certificate",
                settings.listen
            ));
        }
        Ok((credentials, notices))
    }

    /// Without tokens, only this machine may push.
    fn suit(&self, address: SocketAddr) -> Result<(), CredentialsError> {
        if self.tokens.is_none() && !address.ip().to_canonical().is_loopback() {
            return Err(CredentialsError(format!(
                "push.token_file: without tokens anyone who reaches {address} could push; \
                 name a token file, or listen on 127.0.0.1"
            )));
        }
        Ok(())
    }
}

fn tls_is_missing(settings: &Settings) -> bool {
    settings.tls.is_none() && !settings.listen.ip().to_canonical().is_loopback()
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

    /// From now on requests are held against the new tokens; connections made from now on get the new
    /// certificate.
    ///
    /// # Errors
    /// When they leave the port, where it is really open, without tokens and not loopback. The old ones stay.
    pub fn swap(&self, credentials: Credentials) -> Result<(), CredentialsError> {
        credentials.suit(self.address)?;
        self.current.send_replace(Arc::new(credentials));
        Ok(())
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

    fn settings(listen: &str, token_file: Option<PathBuf>) -> Settings {
        Settings { listen: listen.parse().unwrap(), token_file, tls: None, body_bytes_max: 1024 }
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
    fn a_reload_can_not_take_the_tokens_from_an_open_port() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        fs::write(&path, "one").unwrap();
        let (with, notices) = Credentials::load(&settings("0.0.0.0:80", Some(path))).unwrap();
        assert!(notices.last().unwrap().starts_with("push.listen: tokens travel to 0.0.0.0:80 unencrypted"));
        let reload = Reload::new("0.0.0.0:80".parse().unwrap(), with);
        let (without, _) = Credentials::load(&settings("127.0.0.1:80", None)).unwrap();
        assert!(reload.swap(without).is_err());
        assert!(reload.current().tokens.is_some());
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
