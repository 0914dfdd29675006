//! An authority for TLS, and what it has signed: for the broker's listeners, and for clients.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};

/// The name under which clients with a certificate are known to the broker.
pub(crate) const CLIENT: &str = "forwarder";

/// The authority. Its certificate is in `ca.pem`; a server's key and certificate are in `NAME.pem`, a client's in
/// `NAME.key` and `NAME.crt`.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Expired,
    /// It is for another host.
    Misnamed,
}

impl Authority {
    /// Makes one, that keeps everything in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named("authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder: folder.to_owned(), issuer: Issuer::new(parameters, key) }
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a server's key and certificate; a second time, in place of the first.
    pub(crate) fn server(&self, name: &str, flaw: Flaw) {
        let host = if flaw == Flaw::Misnamed { "elsewhere.example" } else { "127.0.0.1" };
        let (key, certificate) = self.sign(name, &[host], flaw);
        // At once: the broker may read it at any time.
        let written = self.folder.join(format!("{name}.new"));
        fs::write(&written, key + &certificate).unwrap();
        fs::rename(written, self.folder.join(format!("{name}.pem"))).unwrap();
    }

    /// Writes a client's key and certificate.
    pub(crate) fn client(&self, name: &str, flaw: Flaw) {
        let (key, certificate) = self.sign(CLIENT, &[], flaw);
        fs::write(self.folder.join(format!("{name}.key")), key).unwrap();
        fs::write(self.folder.join(format!("{name}.crt")), certificate).unwrap();
    }

    fn sign(&self, name: &str, hosts: &[&str], flaw: Flaw) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).unwrap();
        parameters.distinguished_name = named(name);
        if flaw == Flaw::Expired {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (key.serialize_pem(), certificate.pem())
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
