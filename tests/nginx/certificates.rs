//! Certificates of these tests' own, made by openssl.

use super::place::Place;
use std::path::PathBuf;
use std::process::Command;

/// Of a request for a certificate, or of a certificate of its own, with a new key.
const NEW: &[&str] = &["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// An authority, and what it has signed.
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// The directory in `place` is named after it.
    pub fn new(place: &Place, name: &str) -> Authority {
        let authority = Authority { dir: place.path(name) };
        std::fs::create_dir(&authority.dir).expect("mkdir");
        let files = ["-out", &authority.file(), "-keyout", &authority.path("authority.key")];
        openssl(&[NEW, &["-x509", "-days", "2", "-subj", &format!("/CN={name}")], &files[..]].concat());
        authority
    }

    /// What those who trust it need.
    pub fn file(&self) -> String {
        self.path("authority.pem")
    }

    /// nginx.conf: its own certificate, which nobody else has signed, and its key.
    pub fn own(&self) -> String {
        format!("ssl_certificate {}; ssl_certificate_key {};", self.file(), self.path("authority.key"))
    }

    /// nginx.conf: a certificate for the host `name`, and its key.
    pub fn sign(&self, name: &str) -> String {
        self.sign_for("2", name)
    }

    /// The same, but it expired yesterday.
    pub fn sign_expired(&self, name: &str) -> String {
        self.sign_for("-1", name)
    }

    fn sign_for(&self, days: &str, name: &str) -> String {
        let [certificate, key, request] = ["pem", "key", "csr"].map(|end| self.path(&format!("{name}{days}.{end}")));
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &names];
        openssl(&[NEW, &["-out", &request, "-keyout", &key, "-subj", &subject], &leaf[..]].concat());
        let by = ["-CA", &self.file(), "-CAkey", &self.path("authority.key"), "-days", days];
        openssl(
            &[&["x509", "-req", "-copy_extensions", "copy", "-in", &request, "-out", &certificate], &by[..]].concat(),
        );
        format!("ssl_certificate {certificate}; ssl_certificate_key {key};")
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("UTF-8").to_owned()
    }
}

fn openssl(args: &[&str]) {
    let out = Command::new("openssl").args(args).output().expect("openssl: tools/deps test installs it");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
