//! The check of an upstream by its file, by calls at run time, and by the default of `setup`; and which of them wins.
#![allow(unsafe_code)]

mod support;

use dyups::config::{check, value};
use dyups::error::Code;
use dyups::shm::Region;
use dyups::table::Table;
use dyups::table::directory::Directory;
use dyups::table::ops::Absent;
use dyups::table::snapshot::{Flags, View};
use dyups::upstream::{Check, PeerCheck, Upstream};
use support::{SOON, patch, table, upstream};

const MIB: u64 = 1 << 20;

const ONE: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";

fn options(json: &str) -> value::Value {
    value::parse(json.as_bytes()).expect("JSON")
}

fn check_of(json: &str) -> Check {
    check::read(&options(json), "").expect("good options")
}

fn say(table: &Table<Region>, json: &str) -> Result<(), String> {
    table.set_check("api", check::change(&options(json)), SOON).map_err(|error| error.message.into_owned())
}

/// `api` with the peer ONE, as a file or a call has it that says this of its check; empty: nothing.
fn api(healthcheck: &str) -> Upstream {
    let own_check = !healthcheck.is_empty();
    let check = (own_check && healthcheck != "false").then(|| check_of(healthcheck));
    Upstream { check, own_check, ..upstream("api", &[ONE]) }
}

fn load(table: &Table<Region>, healthcheck: &str, overwrite: bool) {
    table.load(&[api(healthcheck)], overwrite, SOON).expect("room");
}

/// The interval of the check of `api`, by which these tests tell one from another; `None`: there is none.
fn interval(table: &Table<Region>) -> Option<u32> {
    table.upstream("api").expect("there").upstream.check.map(|check| check.interval)
}

fn view(table: &Table<Region>) -> View {
    Directory::new(table.region()).find(b"api").expect("sound").expect("there").1
}

fn generation(table: &Table<Region>) -> u64 {
    table.upstream("api").expect("there").generation
}

#[test]
fn options_are_merged_with_what_is_set_and_false_switches_off() {
    let (table, _scratch) = table(MIB);
    load(&table, "", false);
    assert_eq!(interval(&table), None);
    say(&table, r#"{"interval":100,"fall":9}"#).expect("good");
    say(&table, r#"{"rise":8}"#).expect("good");
    let check = table.upstream("api").expect("there").upstream.check.expect("set");
    assert_eq!((check.interval, check.fall, check.rise, check.timeout), (100, 9, 8, 2000));
    say(&table, "false").expect("good");
    assert_eq!((interval(&table), view(&table).own_check, view(&table).checked), (None, true, false));
    say(&table, r#"{"rise":7}"#).expect("good");
    assert_eq!(
        table.upstream("api").expect("there").upstream.check,
        Some(Check { rise: 7, ..Check::default() }),
        "from off"
    );
}

#[test]
fn what_is_said_again_changes_nothing() {
    let (table, _scratch) = table(MIB);
    load(&table, r#"{"interval":100}"#, false);
    for json in [r#"{"interval":100}"#, r#"{"url":"/up"}"#, "false"] {
        say(&table, json).expect("good");
        let before = generation(&table);
        say(&table, json).expect("good");
        assert_eq!(generation(&table), before, "{json}");
    }
}

#[test]
fn bad_options_are_refused_and_the_check_goes_on_as_it_was() {
    let (table, _scratch) = table(MIB);
    load(&table, r#"{"type":"tcp","interval":100}"#, false);
    let before = table.upstream("api").expect("there");
    for (json, why) in [
        (r#"{"interval":9}"#, "healthcheck.interval: 9: allowed: an integer from 10 to 86400000"),
        ("true", "healthcheck: true: allowed: an object, or false for none"),
        (r#"{"url":"/"}"#, r#"healthcheck.url: "/": makes no sense with type "tcp"; allowed: with "http" or "https""#),
    ] {
        assert_eq!(say(&table, json), Err(why.to_string()));
    }
    assert_eq!(table.upstream("api"), Ok(before));
    let missing = table.set_check("web", check::change(&options("{}")), SOON).unwrap_err();
    assert_eq!((missing.code, &*missing.message), (Code::NotFound, "upstream web: not found"));
}

#[test]
fn what_was_said_at_run_time_stays_when_the_file_is_loaded_and_all_else_follows_the_file() {
    for said in [r#"{"interval":200}"#, "false"] {
        let (table, _scratch) = table(MIB);
        load(&table, r#"{"interval":100}"#, false);
        say(&table, said).expect("good");
        let expected = interval(&table);
        let file = Upstream { peers: upstream("api", &[TWO]).peers, ..api(r#"{"interval":300}"#) };
        table.load(&[file], false, SOON).expect("room");
        let now = table.upstream("api").expect("there");
        assert_eq!((interval(&table), now.upstream.peers[0].address.text()), (expected, TWO), "{said}");
        assert!(!now.flags.has(Flags::TOUCHED), "{said}");
        let before = generation(&table);
        table.load(&[now.upstream], false, SOON).expect("room");
        assert_eq!(generation(&table), before, "nothing is new");
        load(&table, r#"{"interval":300}"#, true);
        assert_eq!(interval(&table), Some(300), "overwritten after {said}");
        load(&table, r#"{"interval":400}"#, false);
        assert_eq!(interval(&table), Some(400), "and from then on the file's");
        table.load(&[], false, SOON).expect("room");
        assert_eq!(table.upstream("api").map_err(|error| error.code), Err(Code::NotFound), "it goes with its file");
    }
}

#[test]
fn without_a_word_at_run_time_the_check_follows_the_file() {
    let (table, _scratch) = table(MIB);
    for (healthcheck, expected) in [
        (r#"{"interval":100}"#, Some(100)),
        (r#"{"interval":200}"#, Some(200)),
        ("", None),
        ("{}", Some(3000)),
        ("false", None),
    ] {
        load(&table, healthcheck, false);
        assert_eq!((interval(&table), view(&table).own_check), (expected, !healthcheck.is_empty()), "{healthcheck}");
    }
}

#[test]
fn an_upstream_that_is_replaced_keeps_its_check_unless_it_comes_with_another() {
    let (table, _scratch) = table(MIB);
    let set = |healthcheck: &str| table.set_upstream(&api(healthcheck), SOON).expect("room");
    set("");
    assert_eq!(interval(&table), None);
    say(&table, r#"{"interval":200}"#).expect("good");
    for (healthcheck, expected) in [
        ("", Some(200)),
        (r#"{"interval":300}"#, Some(300)),
        ("", Some(300)),
        ("false", None),
        ("", None),
        ("{}", Some(3000)),
    ] {
        set(healthcheck);
        assert_eq!((interval(&table), view(&table).own_check), (expected, true), "{healthcheck}");
    }
    table.put_peer("api", &patch(TWO, 1), Absent::Make, SOON).expect("room");
    assert_eq!(interval(&table), Some(3000), "a peer more");
    table.delete_upstream("api", true, SOON).expect("there");
    set("");
    assert_eq!(interval(&table), None, "another one of that name");
}

#[test]
fn what_is_different_for_a_peer_is_kept_with_it_until_it_is_set_anew() {
    let (table, _scratch) = table(MIB);
    let read = |json: &str| dyups::config::peer::peer_patch(&options(json), "peer").expect("good");
    let put = |json: &str| table.put_peer("api", &read(json), Absent::Make, SOON).expect("room");
    let of_peers = || {
        let peers = table.upstream("api").expect("there").upstream.peers;
        peers.into_iter().map(|peer| peer.check.map(|check| (check.port, check.url))).collect::<Vec<_>>()
    };
    put(r#"{"server":"10.0.0.1:80","check_port":81}"#);
    put(r#"{"server":"10.0.0.2:80"}"#);
    put(r#"{"server":"10.0.0.3:80","check_url":"/up"}"#);
    let first = Some((Some(81), None));
    assert_eq!(of_peers(), [first.clone(), None, Some((None, Some("/up".into())))]);
    // The peer before it goes, so that its index is another one.
    table.delete_peer("api", &support::address(TWO), SOON).expect("there");
    put(r#"{"server":"10.0.0.1:80","weight":5}"#);
    assert_eq!(of_peers(), [first, Some((None, Some("/up".into())))]);
    assert_eq!(view(&table).checks(table.region().mem()).expect("sound"), None, "nobody checks");
    say(&table, r#"{"interval":200}"#).expect("good");
    let (check, peers) = view(&table).checks(table.region().mem()).expect("sound").expect("checked");
    let expected = [
        (0, PeerCheck { port: Some(81), ..PeerCheck::default() }),
        (1, PeerCheck { url: Some("/up".into()), ..PeerCheck::default() }),
    ];
    assert_eq!((check.interval, peers), (200, expected.into()));
    put(r#"{"server":"10.0.0.3:80","check_url":false}"#);
    assert_eq!(of_peers()[1], None);
    table.set_upstream(&api(""), SOON).expect("room");
    assert_eq!(of_peers(), [None], "peers are replaced whole");
}

/// An operator's change.
type Say = fn(&Table<Region>);

fn set_default(table: &Table<Region>, json: Option<&str>) {
    table.set_default_check(json.map(check_of));
    table.spread_default_check(SOON).expect("room");
}

#[test]
fn an_upstream_that_is_new_has_the_default_however_it_is_made() {
    let made: [Say; 3] = [
        |table| table.put_peer("api", &patch(ONE, 1), Absent::Make, SOON).expect("room"),
        |table| table.set_upstream(&api(""), SOON).expect("room"),
        |table| load(table, "", false),
    ];
    for make in made {
        let (table, _scratch) = table(MIB);
        set_default(&table, Some(r#"{"interval":100}"#));
        make(&table);
        assert_eq!((interval(&table), view(&table).own_check), (Some(100), false));
        make(&table);
        assert_eq!((interval(&table), view(&table).own_check), (Some(100), false), "made again");
        say(&table, r#"{"rise":9}"#).expect("good");
        let check = table.upstream("api").expect("there").upstream.check;
        assert_eq!(check, Some(check_of(r#"{"interval":100,"rise":9}"#)), "merged with the default");
    }
}

#[test]
fn another_default_changes_those_that_nobody_said_anything_of() {
    let (table, _scratch) = table(MIB);
    load(&table, "", false);
    for (default, expected) in [
        (Some(r#"{"interval":100}"#), Some(100)),
        (Some(r#"{"interval":200}"#), Some(200)),
        (None, None),
        (Some("{}"), Some(3000)),
    ] {
        set_default(&table, default);
        assert_eq!((interval(&table), view(&table).own_check), (expected, false), "{default:?}");
        let before = generation(&table);
        set_default(&table, default);
        load(&table, "", false);
        assert_eq!(generation(&table), before, "{default:?} again");
        let stored = table.upstream("api").expect("there");
        assert_eq!(stored.flags, Flags::IN_FILE, "it follows its file as before");
    }
}

#[test]
fn what_was_said_of_an_upstream_wins_over_the_default() {
    let said: [(&str, Say, Option<u32>); 5] = [
        ("by a file", |table| load(table, r#"{"interval":200}"#, false), Some(200)),
        ("none by a file", |table| load(table, "false", false), None),
        ("by set_upstream", |table| table.set_upstream(&api(r#"{"interval":200}"#), SOON).expect("room"), Some(200)),
        ("none by set_upstream", |table| table.set_upstream(&api("false"), SOON).expect("room"), None),
        (
            "at run time",
            |table| {
                load(table, "", false);
                say(table, "false").expect("good");
            },
            None,
        ),
    ];
    for (how, say, expected) in said {
        let (table, _scratch) = table(MIB);
        table.set_default_check(Some(check_of(r#"{"interval":100}"#)));
        say(&table);
        set_default(&table, Some(r#"{"interval":300}"#));
        assert_eq!((interval(&table), view(&table).own_check), (expected, true), "{how}");
    }
}

#[test]
fn an_upstream_whose_file_says_nothing_any_more_has_the_default_again() {
    let (table, _scratch) = table(MIB);
    set_default(&table, Some(r#"{"interval":100}"#));
    for healthcheck in [r#"{"interval":200}"#, "false"] {
        load(&table, healthcheck, false);
        load(&table, "", false);
        assert_eq!((interval(&table), view(&table).own_check), (Some(100), false), "{healthcheck}");
        say(&table, "false").expect("good");
        load(&table, "", false);
        assert_eq!(interval(&table), None, "said at run time");
        load(&table, "", true);
        assert_eq!((interval(&table), view(&table).own_check), (Some(100), false), "overwritten");
    }
}

#[test]
fn a_deletion_that_is_remembered_has_no_check() {
    let (table, _scratch) = table(MIB);
    load(&table, "", false);
    table.delete_upstream("api", true, SOON).expect("there");
    set_default(&table, Some("{}"));
    assert!(!view(&table).checked);
    table.put_peer("api", &patch(TWO, 1), Absent::Make, SOON).expect("room");
    assert_eq!(interval(&table), Some(3000), "made again");
}
