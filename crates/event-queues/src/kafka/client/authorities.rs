//! The authorities whose certificates of brokers are trusted: what the client is told of them, and the same for who looks at a
//! certificate beside it ([`probe`](super::probe)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::kafka::Secret;

/// Has librdkafka look for the system's authorities. It would ask OpenSSL else, which is built in, and knows no place where
/// a system has them.
const LOOK: &str = "probe";

/// Where it looks: the first of these that has any. Source: `rd_kafka_ssl_probe_and_set_default_ca_location` in librdkafka,
/// `rdkafka_ssl.c`.
const PLACES: [&str; 17] = [
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.trust.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/cacert.pem",
    "/etc/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs",
    "/usr/local/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cacert.pem",
    "/usr/local/etc/ssl/certs/cert.pem",
    "/usr/local/etc/ssl/certs/cacert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
    "/etc/openssl/certs/ca-certificates.crt",
];

/// The authorities that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Authorities {
    /// Those of the system.
    #[default]
    System,
    /// Those of files and directories in `SSL_CERT_FILE` and `SSL_CERT_DIR`, which OpenSSL reads as the other clients here do.
    Environment(Vec<PathBuf>),
    /// Those of `ssl.ca.location`, a file or a directory, and of `ssl.ca.pem`.
    Options { location: Option<PathBuf>, pem: Option<Secret> },
}

impl Authorities {
    /// By these options, and by the environment.
    pub(super) fn of(options: &BTreeMap<Box<str>, Secret>) -> Self {
        Self::in_environment(options, |name| env::var_os(name))
    }

    fn in_environment(
        options: &BTreeMap<Box<str>, Secret>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let location = options.get("ssl.ca.location").map(Secret::expose);
        let pem = options.get("ssl.ca.pem");
        if location.is_some_and(|location| location != LOOK) || pem.is_some() {
            // Beside a text it does not look for others.
            let location = location.filter(|location| *location != LOOK).map(PathBuf::from);
            return Self::Options { location, pem: pem.cloned() };
        }
        if location.is_some() {
            return Self::System;
        }
        let directories = variable("SSL_CERT_DIR").unwrap_or_default();
        let file = variable("SSL_CERT_FILE").map(PathBuf::from);
        let mut places: Vec<PathBuf> = file.into_iter().chain(env::split_paths(&directories)).collect();
        places.retain(|place| !place.as_os_str().is_empty());
        if places.is_empty() { Self::System } else { Self::Environment(places) }
    }

    /// The `ssl.ca.location` that is set where nobody has set any; `None`: OpenSSL finds them, or they are set.
    pub(super) fn default_location(&self) -> Option<&'static str> {
        (*self == Self::System).then_some(LOOK)
    }

    /// Reads them, as far as that can be done.
    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                let _found = PLACES.into_iter().any(|place| add(&mut roots, Path::new(place)));
            }
            Self::Environment(places) => {
                for place in places {
                    add(&mut roots, place);
                }
            }
            Self::Options { location, pem } => {
                if let Some(location) = location {
                    add(&mut roots, location);
                }
                add_text(&mut roots, pem.as_ref().map_or(&[], |pem| pem.expose().as_bytes()));
            }
        }
        roots
    }
}

/// Adds those of a file, or of a directory. Returns whether there are any.
fn add(roots: &mut RootCertStore, place: &Path) -> bool {
    let before = roots.len();
    match fs::read_dir(place) {
        Ok(entries) => {
            let hashed = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_hash));
            for text in hashed.filter_map(|entry| fs::read(entry.path()).ok()) {
                add_text(roots, &text);
            }
        }
        Err(_is_none) => add_text(roots, &fs::read(place).unwrap_or_default()),
    }
    roots.len() > before
}

fn add_text(roots: &mut RootCertStore, text: &[u8]) {
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(text).flatten());
}

/// Whether OpenSSL finds the file in a directory: by the hash of the authority's name, as `openssl rehash` writes it.
fn is_hash(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
                             MIIBbzCCARWgAwIBAgIUG3JrUsA6u0QcT95zVDUBnlAssqYwCgYIKoZIzj0EAwIw\n\
                             DDEKMAgGA1UEAwwBYTAgFw0yNjEyMDEwMDE1NTlaGA8yMTI2MTEwNzAwMTU1OVow\n\
                             DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABIKEZIg6TKen\n\
                             4cHHpSouKCFAF21GiFUIQcWiUlxKlxlkCCw5gPwvMxiVSz8W961Ez8dlxFfq5U03\n\
                             7yXCc4ZuH3ujUzBRMB0GA1UdDgQWBBQiPkePnf2uArXifHv/wnO+h/PcgjAfBgNV\n\
                             HSMEGDAWgBQiPkePnf2uArXifHv/wnO+h/PcgjAPBgNVHRMBAf8EBTADAQH/MAoG\n\
                             CCqGSM49BAMCA0gAMEUCIAQ2/PZwCtM1FF+zYHbMZABcF6A+zpVVhkTL3Hi7ikx6\n\
                             AiEA6eamNTYwyLjyToTzjlJggBz9tOO2mhpjzZMcD+HIK+w=\n\
                             -----END CERTIFICATE-----\n";

    fn options(given: &[(&str, &str)]) -> BTreeMap<Box<str>, Secret> {
        given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn those_of_the_system_are_trusted_unless_others_are_named() {
        let (location, pem) = ("ssl.ca.location", "ssl.ca.pem");
        let at = |place: &str| Some(PathBuf::from(place));
        for (given, file, directories, trusted) in [
            (&[][..], "", "", Authorities::System),
            (&[(location, "probe")], "/e", "/d", Authorities::System),
            (&[], "/e:f", "", Authorities::Environment(vec!["/e:f".into()])),
            (&[], "/e", "/c:/d", Authorities::Environment(vec!["/e".into(), "/c".into(), "/d".into()])),
            (&[(location, "/l")], "/e", "", Authorities::Options { location: at("/l"), pem: None }),
            (&[(pem, "p")], "/e", "", Authorities::Options { location: None, pem: Some("p".into()) }),
            (
                &[(location, "probe"), (pem, "p")],
                "",
                "",
                Authorities::Options { location: None, pem: Some("p".into()) },
            ),
            (
                &[(location, "/l"), (pem, "p")],
                "",
                "",
                Authorities::Options { location: at("/l"), pem: Some("p".into()) },
            ),
        ] {
            let variable = |name: &str| Some(if name == "SSL_CERT_FILE" { file } else { directories }.into());
            let found = Authorities::in_environment(&options(given), variable);
            assert_eq!(found, trusted, "{given:?} {file} {directories}");
            let is_system = trusted == Authorities::System;
            assert_eq!(found.default_location(), is_system.then_some("probe"), "{given:?}");
        }
    }

    #[test]
    fn they_are_found_where_openssl_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let (file, directory) = (folder.path().join("ca.pem"), folder.path().join("certs"));
        fs::write(&file, format!("of somebody\n{AUTHORITY}")).unwrap();
        fs::create_dir(&directory).unwrap();
        let found = |authorities: Authorities| authorities.roots().len();
        let at = |location: &Path| Authorities::Options { location: Some(location.to_owned()), pem: None };
        assert_eq!(found(at(&file)), 1);
        fs::write(directory.join("a.pem"), AUTHORITY).unwrap();
        assert_eq!(found(at(&directory)), 0, "its name is not that by which it is looked for");
        fs::write(directory.join("1f6c59cd.0"), AUTHORITY).unwrap();
        assert_eq!(found(at(&directory)), 1);
        assert_eq!(found(at(&folder.path().join("none"))), 0);
        assert_eq!(found(Authorities::Environment(vec![file.clone(), directory])), 2);
        assert_eq!(found(Authorities::Options { location: None, pem: Some(AUTHORITY.into()) }), 1);
        assert_eq!(found(Authorities::Options { location: Some(file), pem: Some(AUTHORITY.into()) }), 2);
    }
}
