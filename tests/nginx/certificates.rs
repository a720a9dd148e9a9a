//! Certificates of these tests' own, made by openssl.

use super::place::Place;
use std::path::PathBuf;
use std::process::Command;

/// An authority, and what it has signed.
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// The directory in `place` is named after it.
    pub fn new(place: &Place, name: &str) -> Authority {
        let authority = Authority { dir: place.path(name) };
        std::fs::create_dir(&authority.dir).expect("mkdir");
        authority.make("authority", &["-subj", &format!("/CN={name}")]);
        authority
    }

    /// What those who trust it need.
    pub fn file(&self) -> String {
        self.path("authority.pem")
    }

    /// nginx.conf: a certificate for the host `name`, and its key.
    pub fn sign(&self, name: &str) -> String {
        let (authority, key) = (self.file(), self.path("authority.key"));
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &names];
        self.make(name, &[&["-CA", &authority, "-CAkey", &key, "-subj", &subject], &leaf[..]].concat());
        let file = |end| self.path(&format!("{name}.{end}"));
        format!("ssl_certificate {}; ssl_certificate_key {};", file("pem"), file("key"))
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn make(&self, name: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-days", "2", "-nodes"]);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-out", &self.path(&format!("{name}.pem")), "-keyout", &self.path(&format!("{name}.key"))]);
        let out = command.args(more).output().expect("openssl: tools/deps test installs it");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}
