//! The identity of a probe, and the names that it asks for. A probe has a certificate of its own, a host of each peer, and
//! names as TLS has them. A probe and a request agree on the peers that they trust.

use super::certificates::Authority;
use super::checked::Checked;
use super::client::Client;
use super::https::Https;
use super::place::Place;
use super::server::Nginx;
use super::sick::{HEALTH, Sick};
use super::system::{is_root, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const HOST: &str = "sick.test";

/// A location that asks for a name, and trusts as probes do.
const VERIFIED: &str = "
    location /health {
        proxy_pass https://dyups;
        proxy_next_upstream off;
        proxy_ssl_session_reuse off;
        proxy_ssl_server_name on;
        proxy_ssl_name sick.test;
        proxy_ssl_verify on;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_ssl_trusted_certificate @trusted@;
    }
";

/// The files that nginx.conf names for a certificate.
fn files(conf: &str) -> (String, String) {
    let mut words = conf.split([' ', ';']).filter(|word| word.starts_with('/')).map(str::to_owned);
    (words.next().expect("a certificate"), words.next().expect("a key"))
}

fn https(options: Value) -> Value {
    let mut check = json!({ "type": "https", "host": HOST, "url": HEALTH, "interval": 100, "timeout": 5000 });
    for (key, value) in options.as_object().expect("options") {
        check[key] = value.clone();
    }
    check
}

fn upstream(peer: Value, options: Value) -> Value {
    json!({ "peers": [peer], "healthcheck": https(options) })
}

/// Sets an upstream by a worker, with a check; answers the result.
fn set(nginx: &Nginx, name: &str, upstream: &Value) -> String {
    nginx.eval(&format!("return require('dyups').set_upstream('{name}', require('cjson').decode([==[{upstream}]==]))"))
}

#[test]
fn a_probe_shows_the_certificate_of_its_check_which_root_alone_may_read_and_which_is_nowhere_in_the_table() {
    let place = Place::new("identity");
    let authority = Authority::new(&place, "trusted");
    let asks = format!("{} ssl_verify_client on; ssl_client_certificate {};", authority.sign(HOST), authority.file());
    let backend = Https::start(&place, &asks);
    let (cert, key) = files(&authority.sign("prober.test"));
    let private = place.write("private.key", &fs::read_to_string(&key).expect("a key"));
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).expect("chmod");
    let private = private.to_str().expect("UTF-8");
    let shown = json!({ "ssl_cert": cert, "ssl_key": private, "default_down": true });
    let peer = json!({ "server": backend.name });
    let upstreams = json!({
        "shown": upstream(peer.clone(), shown.clone()),
        "unshown": upstream(peer.clone(), json!({})),
    });
    let trust = format!("lua_ssl_trusted_certificate {};", authority.file());
    let checked = Checked::start(&place, 2, &trust, &upstreams);
    checked.wait_for_states("shown", &["up"]);
    checked.wait_for_states("unshown", &["unhealthy"]);
    assert!(checked.wait_for_change("unshown", "down").why.contains("status 400"));

    // Its master has read the files, so a worker need not be able to.
    assert_eq!(set(&checked.nginx, "later", &upstream(peer.clone(), shown)), "true");
    checked.wait_for_states("later", &["up"]);
    let status = checked.nginx.status().to_string();
    assert!(status.contains(private) && !status.contains("BEGIN"), "{status}");
    let secret = fs::read_to_string(private).expect("a key");
    let secret = secret.lines().nth(1).expect("of base64").as_bytes().to_owned();
    for file in fs::read_dir(place.dir()).expect("a directory").map(|entry| entry.expect("one").path()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("region")) {
            let bytes = fs::read(&file).expect("the region");
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", file.display());
        }
    }

    // The message names a file that cannot be read, and nothing changes.
    let other = place.write("other.key", &fs::read_to_string(&key).expect("a key"));
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("chmod");
    let with = |key: &str| upstream(peer.clone(), json!({ "ssl_cert": cert, "ssl_key": key }));
    if is_root() {
        let why = format!("nil upstream.healthcheck.ssl_key: \"{}\": Permission denied (os error 13)", other.display());
        assert_eq!(set(&checked.nginx, "later", &with(other.to_str().expect("UTF-8"))), why);
    }
    let answer = set(&checked.nginx, "later", &with("/nowhere"));
    assert_eq!(answer, "nil upstream.healthcheck.ssl_key: \"/nowhere\": No such file or directory (os error 2)");
    assert_eq!(checked.states("later"), ["up"]);
    let lua = format!("return require('dyups').healthcheck('later', {{ ssl_cert = '{cert}.none' }})");
    let answer = checked.nginx.eval(&lua);
    assert_eq!(answer, format!("nil healthcheck.ssl_cert: \"{cert}.none\": No such file or directory (os error 2)"));
    let lua =
        "return require('dyups').setup{ healthcheck = { type = 'https', ssl_cert = '/none', ssl_key = '/none' } }";
    let answer = checked.nginx.eval(lua);
    assert_eq!(answer, "nil setup.healthcheck.ssl_cert: \"/none\": No such file or directory (os error 2)");

    // A file without a certificate takes no peer out, and the log says so.
    let damaged = place.write("damaged.pem", "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n");
    let damaged = json!({ "ssl_cert": damaged.to_str(), "ssl_key": private });
    assert_eq!(set(&checked.nginx, "damaged", &upstream(peer, damaged)), "true");
    checked.nginx.wait_for_log("upstream damaged: its peers are not probed: ssl_cert: ");
    assert_eq!(checked.states("damaged"), ["up"]);

    // A reload reads the files again.
    fs::rename(private, format!("{private}.gone")).expect("renamed");
    checked.nginx.reload_in_vain();
    checked.nginx.wait_for_log(&format!("healthcheck.ssl_key: \"{private}\": No such file or directory (os error 2)"));
    assert_eq!(checked.states("shown"), ["up"]);
}

#[test]
fn a_peer_is_asked_for_its_own_host_and_tls_for_a_name_without_a_dot_at_its_end() {
    let place = Place::new("own-host");
    let authority = Authority::new(&place, "trusted");
    let [dotted, own] = [HOST, "own.test"].map(|name| Https::start(&place, &authority.sign(name)));
    let plain = Sick::start();
    let up = json!({ "default_down": true });
    let http = json!({ "url": HEALTH, "interval": 100, "timeout": 5000, "host": "of.check" });
    let upstreams = json!({
        "dotted": upstream(json!({ "server": dotted.name }), json!({ "host": format!("{HOST}."), "default_down": true })),
        "own": upstream(json!({ "server": own.name, "check_host": "own.test.:81" }), up),
        "plain": { "peers": [{ "server": plain.name, "check_host": "own.test." }], "healthcheck": http },
    });
    let trust = format!("lua_ssl_trusted_certificate {};", authority.file());
    let checked = Checked::start(&place, 2, &trust, &upstreams);
    for name in ["dotted", "own", "plain"] {
        checked.wait_for_states(name, &["up"]);
    }
    assert_eq!(dotted.asked()[0], format!("{HOST} GET {HEALTH}"));
    assert_eq!(own.asked()[0], format!("own.test GET {HEALTH}"));
    let probe = plain.wait_for_probes(0, 1).remove(0);
    assert!(String::from_utf8_lossy(&probe.raw).contains("\r\nHost: own.test.\r\n"), "{probe:?}");
    assert_eq!(checked.peers("own")[0]["check_host"], "own.test.:81");
    checked.nginx.assert_calm();
}

#[test]
fn a_probe_and_a_request_that_verify_trust_the_same_backends() {
    let place = Place::new("trust");
    let (authority, others) = (Authority::new(&place, "trusted"), Authority::new(&place, "others"));
    let certificates = [
        ("good", authority.sign(HOST)),
        ("expired", authority.sign_expired(HOST)),
        ("another-name", authority.sign("other.test")),
        ("another-authority", others.sign(HOST)),
        ("its-own", others.own()),
        ("of-a-whole-top-domain", authority.sign("*.test")),
        ("tls-1.3-alone", format!("{} ssl_protocols TLSv1.3;", authority.sign(HOST))),
    ];
    let backends = certificates.each_ref().map(|(name, certificate)| (*name, Https::start(&place, certificate)));
    let mut upstreams = json!({});
    for (name, backend) in &backends {
        upstreams[name] = upstream(json!({ "server": backend.name }), json!({ "fall": 1, "rise": 1 }));
    }
    let http = format!("lua_ssl_trusted_certificate {}; lua_ssl_protocols TLSv1.2 TLSv1.3;", authority.file());
    let mut conf = Checked::conf(&place, 2, &http, &upstreams);
    conf.locations = VERIFIED.replace("@trusted@", &authority.file());
    let checked = Checked { nginx: Nginx::start(&place, &conf) };
    let mut client = Client::new(checked.nginx.traffic);
    let mut good = Vec::new();
    for (name, _) in &backends {
        wait_for("it is probed", || checked.peers(name)[0]["probes"].as_u64() > Some(0));
        // One that probes have taken out is asked all the same, as there is no other.
        let status = client.get(name, HEALTH).expect("an answer").status;
        let is_up = checked.states(name) == ["up"];
        assert_eq!(is_up, status == 200, "{name}: {status}, {:?}", checked.lines());
        good.extend(is_up.then_some(*name));
    }
    assert_eq!(good, ["good", "tls-1.3-alone"]);
    checked.nginx.assert_calm();
}
