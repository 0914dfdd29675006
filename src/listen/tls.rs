//! From two PEM files to what TLS connections are accepted with.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate or the key can't be used. The message names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// Reads a certificate chain and its private key, for TLS 1.2 and 1.3 with HTTP/1.1 inside. Blocks on files.
///
/// # Errors
/// When a file can't be read, is not PEM, holds nothing of its kind, or the two don't belong together.
pub fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(certificate, &error))?;
    if chain.is_empty() {
        return Err(TlsError(format!("{}: there is no certificate in it", certificate.display())));
    }
    let private_key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError(format!("{}: there is no private key in it", key.display())),
        error => not_pem(key, &error),
    })?;
    let unusable = |error: rustls::Error| {
        let (certificate, key) = (certificate.display(), key.display());
        TlsError(match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{key}: this key does not belong to the certificate in {certificate}")
            }
            error => format!("{certificate} and {key} can't be used for TLS: {error}"),
        })
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError(format!("{}: {error}", path.display())))
}

/// Without what the parser found: it quotes the line it stumbled over, and that may be a piece of the key.
fn not_pem(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line; the file is cut short",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is damaged",
        pem::Error::Base64Decode(_) => "a section is not Base64",
        _ => "it can't be read as PEM",
    };
    TlsError(format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// Writes both files, loads them, and gives the error with the directory taken out of it.
    fn error_of(certificate: &str, key: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        fs::write(&cert_path, certificate).unwrap();
        fs::write(&key_path, key).unwrap();
        let error = load(&cert_path, &key_path).map(|_| "loaded").unwrap_err().to_string();
        error.replace(&format!("{}/", directory.path().display()), "")
    }

    #[test]
    fn a_pair_that_belongs_together_loads_with_http_1_only() {
        let directory = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
        let (certificate, key) = pair();
        fs::write(&cert_path, certificate).unwrap();
        fs::write(&key_path, key).unwrap();
        let config = load(&cert_path, &key_path).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn errors_name_the_file_and_the_reason() {
        let (certificate, key) = pair();
        assert_eq!(error_of("", &key), "c.pem: there is no certificate in it");
        assert_eq!(error_of(&certificate, ""), "k.pem: there is no private key in it");
        assert_eq!(error_of(&certificate, &certificate), "k.pem: there is no private key in it");
        let (_, other_key) = pair();
        let expected = "k.pem: this key does not belong to the certificate in c.pem";
        assert_eq!(error_of(&certificate, &other_key), expected);
        let missing = load(Path::new("/nowhere/c.pem"), Path::new("/nowhere/k.pem")).map(|_| ()).unwrap_err();
        assert!(missing.to_string().starts_with("/nowhere/c.pem: "), "{missing}");
    }

    #[test]
    fn errors_never_quote_a_key() {
        let (certificate, key) = pair();
        let secret = key.lines().nth(1).unwrap();
        let cut = key.lines().take(2).collect::<Vec<_>>().join("\n");
        let glued = key.replace("-----\n", "");
        let garbled = key.replacen(secret, &format!("\u{1}{secret}"), 1);
        for broken in [cut, glued, garbled] {
            let error = error_of(&certificate, &broken);
            assert!(error.starts_with("k.pem: "), "{error}");
            assert!(!error.contains(&secret[..10]), "{error}");
        }
    }
}
