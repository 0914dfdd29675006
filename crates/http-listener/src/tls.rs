//! Makes the configuration of TLS from two PEM files.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use super::certificate::{CertificateValidity, Standing};

/// The certificate or the key can't be used. The message names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// The certificate of a port, and its validity.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The configuration for accepting connections.
    pub config: Arc<ServerConfig>,
    /// When all certificates of the chain hold; `None`: they do not say.
    pub validity: Option<CertificateValidity>,
}

/// Reads a certificate chain and its private key, for TLS 1.2 and 1.3 with HTTP/1.1 inside. Blocks on files.
///
/// # Errors
/// When a file can't be read, is not PEM, holds nothing of its kind, or the two don't belong together.
pub fn load(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    let chain = read_chain(certificate)?;
    let private_key = read_key(key)?;
    let validities = chain.iter().filter_map(|one| CertificateValidity::read(one));
    let validity = validities.reduce(CertificateValidity::and);
    let unusable = |error: rustls::Error| {
        let (certificate, key) = (certificate.display(), key.display());
        TlsError(match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{key}: this key does not belong to the certificate in {certificate}")
            }
            rustls::Error::InvalidCertificate(error)
                if format!("{error:?}").contains("UnsupportedCertVersion") =>
            {
                format!(
                    "{certificate}: it is an X.509 certificate of version 1, which has no names that a sender could check; have it \
                 made with a subjectAltName (openssl x509 -req takes one by -extfile)"
                )
            }
            rustls::Error::InvalidCertificate(error) => {
                format!("{certificate}: this certificate can't be used: {error:?}")
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
    Ok(Identity { config: Arc::new(config), validity })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    if is_der(&text) {
        return Err(TlsError(format!(
            "{}: it is DER or PKCS#12, not PEM; convert it (openssl x509 -inform DER -in FILE, or openssl pkcs12 -in FILE \
             -nokeys)",
            path.display()
        )));
    }
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError(format!("{}: there is no certificate in it", path.display())));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    let refused = |reason: &str| TlsError(format!("{}: {reason}", path.display()));
    let has = |words: &[u8]| memchr::memmem::find(&text, words).is_some();
    if is_der(&text) {
        return Err(refused(
            "it is DER or PKCS#12, not PEM; convert it (openssl pkey -inform DER -in FILE, or openssl pkcs12 -in FILE \
             -nocerts -nodes)",
        ));
    }
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => key,
        // PKCS#8 states it in its name, the older forms in a header.
        Err(_) if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") => {
            return Err(refused(
                "the private key is encrypted, and there is nobody to ask for its passphrase; store it without one \
                 (openssl pkey -in FILE), readable by this program's user only",
            ));
        }
        Err(pem::Error::NoItemsFound) if has(b"PRIVATE KEY-----") => {
            return Err(refused(UNSUPPORTED_KEY));
        }
        Err(pem::Error::NoItemsFound) => return Err(refused("there is no private key in it")),
        Err(error) => return Err(not_pem(path, &error)),
    };
    match ring::sign::any_supported_type(&key) {
        Ok(_) => Ok(key),
        Err(_) => Err(refused(UNSUPPORTED_KEY)),
    }
}

/// Bytes of a file of certificates, or of a key, at most; a long chain has some tens of thousands.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const UNSUPPORTED_KEY: &str = "this kind of private key is not supported, or the key is damaged; use RSA with 2048 to \
                               8192 bits, ECDSA with P-256 or P-384, or Ed25519";

/// DER begins with a sequence; PEM is text.
fn is_der(content: &[u8]) -> bool {
    content.first() == Some(&0x30) && !content.is_ascii()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    super::file::read(path, FILE_BYTES_MAX).map_err(TlsError)
}

/// Without the parser's finding: it quotes the line, which may be a piece of the key.
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
    fn error_of(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> String {
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
        assert_eq!(config.config.alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(config.validity.unwrap().not_after > config.validity.unwrap().not_before);
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

    /// The DER in a PEM.
    fn der(pem: &str) -> Vec<u8> {
        rustls::pki_types::PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_der().to_vec()
    }

    /// Made with OpenSSL 3: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521`, of which nothing is used.
    const P_521: &str = "-----BEGIN PRIVATE KEY-----\nMIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIB0GJx1pH0KK13hUTa\nFHRQC0FYFgADoKVTWhYirN+ft1Rh8w/oNk9ZGiGoxlltN3M+KcdteIc8hQ7aMCCI\n0feDtEuhgYkDgYYABABX6pzBnf58LC//N4ndt5qvSiw2YbevQ5w1h8BI1M9ybFcU\nNpmsZ6ZWrb/y2z/KWONZWHp0KHMHw3MxQX8a3HFiGACe9VxWi5lUVCdL/J9YwTx1\nrpVnBo6tGSD4zrqyViqlWc1ePbtmLRMeOm95u/1qFTCCaZxVdIyGjrCtdBwY4nMm\naA==\n-----END PRIVATE KEY-----\n";

    #[test]
    fn keys_that_are_encrypted_der_or_of_a_kind_that_is_not_supported_are_refused_in_those_words() {
        let (certificate, key) = pair();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                     -----END RSA PRIVATE KEY-----\n";
        for encrypted in [&*encrypted, older] {
            let error = error_of(&certificate, encrypted);
            assert!(error.starts_with("k.pem: the private key is encrypted, and there is nobody"), "{error}");
        }
        let ssh = key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY");
        let dsa = key.replace("PRIVATE KEY", "DSA PRIVATE KEY");
        for unsupported in [P_521, &ssh, &dsa] {
            let error = error_of(&certificate, unsupported);
            assert!(error.starts_with("k.pem: this kind of private key is not supported"), "{error}");
        }
        let error = error_of(&certificate, der(&key));
        assert!(error.starts_with("k.pem: it is DER or PKCS#12, not PEM; convert it"), "{error}");
        let error = error_of(der(&key), &key);
        assert!(error.starts_with("c.pem: it is DER or PKCS#12, not PEM; convert it"), "{error}");
    }

    /// Made with OpenSSL 3: `openssl req -new -key k -subj /CN=localhost | openssl x509 -req -signkey k -days 36500`, and its key.
    const VERSION_1: (&str, &str) = (
        "-----BEGIN CERTIFICATE-----\nMIIBJTCBywIURUPO+JI6iaA89NJMSQKPwh8GeeAwCgYIKoZIzj0EAwIwFDESMBAG\nA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDE3MDg1NloYDzIxMjYxMTA2MTcwODU2\nWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\nAATBb+JGIo8bjoBXZEwbXgcCdQYyTIprkcUuT5CX7FEiVHgSJ1XSFLv+QzUCvOx9\nV/5+pIN7aM4CEkccrWKyBpovMAoGCCqGSM49BAMCA0kAMEYCIQDp7ybCzw2BJJSF\ndRMPWM322VxLZALebAFefgQjtondlAIhAM3IJNxD/S0j30E+KASkh+k/XapBVRIz\nJPpCQglKDQRa\n-----END CERTIFICATE-----\n",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAq7mbTNfq9W/BDwp\n3Zy5WwPFV6E57S/jBEJZ0axj4nuhRANCAATBb+JGIo8bjoBXZEwbXgcCdQYyTIpr\nkcUuT5CX7FEiVHgSJ1XSFLv+QzUCvOx9V/5+pIN7aM4CEkccrWKyBpov\n-----END PRIVATE KEY-----\n",
    );

    #[test]
    fn a_certificate_of_version_1_is_refused_with_what_it_lacks() {
        let error = error_of(VERSION_1.0, VERSION_1.1);
        assert!(
            error.starts_with("c.pem: it is an X.509 certificate of version 1, which has no names"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let (_, key) = pair();
        let directory = tempfile::tempdir().unwrap();
        let key_path = directory.path().join("k.pem");
        fs::write(&key_path, key).unwrap();
        let error = load(directory.path(), &key_path).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with(": it is not a file"), "{error}");
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let error = load(&fifo, &key_path).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("fifo: it is not a file"), "{error}");
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
