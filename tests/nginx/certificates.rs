//! Certificates of these tests' own, made by openssl.

use super::place::Place;
use std::path::PathBuf;
use std::process::Command;

/// Of a request for a certificate, or of a certificate of its own, with a new key.
const NEW: &[&str] = &["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// The configuration of `openssl ca`, which takes dates in the past: in new releases `-days -1` is an error.
const CA: &str = "
    [ca]
    default_ca = own
    [own]
    database = @dir@/database
    new_certs_dir = @dir@
    certificate = @dir@/authority.pem
    private_key = @dir@/authority.key
    default_md = sha256
    copy_extensions = copy
    rand_serial = yes
    policy = any
    [any]
    commonName = supplied
";

/// An authority, and the certificates that it has signed.
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

    /// The file for those that trust it.
    pub fn file(&self) -> String {
        self.path("authority.pem")
    }

    /// nginx.conf: its own certificate, which no other has signed, and its key.
    pub fn own(&self) -> String {
        format!("ssl_certificate {}; ssl_certificate_key {};", self.file(), self.path("authority.key"))
    }

    /// nginx.conf: a certificate for the host `name`, and its key.
    pub fn sign(&self, name: &str) -> String {
        let (authority, key) = (self.file(), self.path("authority.key"));
        let by = ["x509", "-req", "-copy_extensions", "copy", "-days", "2", "-CA", &authority, "-CAkey", &key];
        self.sign_with(&by, "", name)
    }

    /// The same, but it expired years ago.
    pub fn sign_expired(&self, name: &str) -> String {
        let conf = self.path("ca.conf");
        std::fs::write(&conf, CA.replace("@dir@", self.dir.to_str().expect("UTF-8"))).expect("write");
        std::fs::write(self.path("database"), "").expect("write");
        let dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"];
        self.sign_with(&[&["ca", "-batch", "-notext", "-config", &conf], &dates[..]].concat(), "-expired", name)
    }

    /// `by` is the command that signs.
    fn sign_with(&self, by: &[&str], kind: &str, name: &str) -> String {
        let [certificate, key, request] = ["pem", "key", "csr"].map(|end| self.path(&format!("{name}{kind}.{end}")));
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", &names];
        openssl(&[NEW, &["-out", &request, "-keyout", &key, "-subj", &subject], &leaf[..]].concat());
        openssl(&[by, &["-in", &request, "-out", &certificate]].concat());
        format!("ssl_certificate {certificate}; ssl_certificate_key {key};")
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().expect("UTF-8").to_owned()
    }
}

fn openssl(args: &[&str]) {
    let out = Command::new("openssl").args(args).output().expect("openssl: make deps installs it");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
