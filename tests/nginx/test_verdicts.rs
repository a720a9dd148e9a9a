//! Verdicts of probes: after a start, a reload or a crash, beside failures that requests meet, and where no peer is well.

use super::checked::{Checked, upstream};
use super::counted::{Counted, NAME, Protocol};
use super::load::{Connections, requests};
use super::place::Place;
use super::server::Conf;
use super::sick::{HEALTH, Sick};
use super::symptoms::Mode;
use super::system::{signal, wait_for};
use serde_json::{Value, json};

/// How often each of these answered, of 120 requests over all workers.
fn shares(checked: &Checked, name: &str, sicks: &[Sick]) -> Vec<u64> {
    let seen = requests(checked.nginx.traffic, name, 120, 4, Connections::Fresh);
    seen.assert_all_good();
    sicks.iter().map(|sick| seen.from(&sick.name)).collect()
}

fn names(sicks: &[Sick]) -> Vec<&str> {
    sicks.iter().map(|sick| sick.name.as_str()).collect()
}

fn check(rise: usize) -> Value {
    json!({ "url": HEALTH, "interval": 100, "timeout": 5000, "rise": rise, "fall": 3 })
}

#[test]
fn at_a_first_start_all_are_up_or_with_default_down_get_nothing_until_rise_probes_were_good() {
    let place = Place::new("first-start");
    let (up, down) = ([Sick::start(), Sick::start()], [Sick::start(), Sick::start()]);
    // Long enough for a pick to come before a probe.
    let mut never = check(2);
    never["interval"] = json!(86_400_000);
    let mut checking = check(2);
    checking["default_down"] = json!(true);
    down.iter().for_each(|sick| sick.set_probes(Mode::Status(500)));
    let upstreams = json!({ "up": upstream(&names(&up), &never), "checking": upstream(&names(&down), &checking) });
    let checked = Checked::start(&place, 2, "", &upstreams);
    assert_eq!((checked.states("up"), shares(&checked, "up", &up)), (vec!["up".into(); 2], vec![60, 60]));
    assert_eq!(up.iter().map(Sick::probed).sum::<usize>(), 0);

    checked.wait_for_states("checking", &["unhealthy", "unhealthy"]);
    down[0].set_probes(Mode::Well);
    checked.wait_for_states("checking", &["up", "unhealthy"]);
    let good = checked.wait_for_change("checking", "up");
    assert_eq!((good.after, checked.changes_of("checking").len()), (2, 1), "{good:?}");
    assert_eq!(shares(&checked, "checking", &down), [120, 0]);
    // A peer that comes later begins as down as well, with others in any state.
    let later = [Sick::start()];
    later[0].set_probes(Mode::Hung);
    checked.set("checking", &upstream(&[&down[0].name, &later[0].name], &checking));
    later[0].wait_for_probes(0, 1);
    assert_eq!(checked.states("checking"), ["up", "checking"]);
    assert_eq!((shares(&checked, "checking", &down)[0], later[0].traffic()), (120, 0));
    later[0].set_probes(Mode::Well);
    checked.wait_for_states("checking", &["up", "up"]);
    assert_eq!(shares(&checked, "checking", &later), [60]);
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
}

#[test]
fn who_was_out_is_out_at_the_first_pick_after_a_reload_a_restart_and_a_crash() {
    let place = Place::new("states-stay");
    let (filed, changed) = ([Sick::start(), Sick::start()], [Sick::start(), Sick::start()]);
    // It would take so many good probes that none of these tests lives to see it.
    let upstreams = json!({ "filed": upstream(&names(&filed), &check(255)) });
    let mut checked = Checked::start(&place, 2, "", &upstreams);
    checked.set("changed", &upstream(&names(&changed), &check(255)));
    for (name, sicks) in [("filed", &filed), ("changed", &changed)] {
        sicks[1].set_probes(Mode::Status(500));
        checked.wait_for_states(name, &["up", "unhealthy"]);
        sicks[1].set_probes(Mode::Well);
    }
    // From now on no peer is probed any more: the verdicts stay as they are.
    let mut never = check(255);
    never["interval"] = json!(86_400_000);
    checked.set("changed", &upstream(&names(&changed), &never));
    wait_for("nobody is probed", || {
        let before = changed.each_ref().map(Sick::probed);
        filed[0].wait_for_probes(filed[0].probed(), 5);
        before == changed.each_ref().map(Sick::probed)
    });
    let (probed, lines) = (changed.each_ref().map(Sick::probed), checked.lines().len());
    let assert_kept = |checked: &Checked, after: &str| {
        assert_eq!(shares(checked, "changed", &changed), [120, 0], "{after}");
        assert_eq!(shares(checked, "filed", &filed), [120, 0], "{after}");
        for name in ["filed", "changed"] {
            assert_eq!(checked.states(name), ["up", "unhealthy"], "{after}: {name}");
        }
    };
    assert_kept(&checked, "nothing");
    checked.nginx.reload();
    assert_kept(&checked, "a reload");
    checked.nginx.kill_workers(&checked.nginx.worker_pids());
    assert_kept(&checked, "the death of all workers");
    assert!(signal(checked.nginx.master() as i32, libc::SIGQUIT), "no master");
    checked.nginx.wait_until_gone();
    checked.nginx.start_again();
    assert_kept(&checked, "a restart");
    checked.nginx.kill_all();
    checked.nginx.start_again();
    assert_kept(&checked, "a crash");
    assert_eq!(changed.each_ref().map(Sick::probed), probed, "no probe was needed");
    assert_eq!(checked.lines().len(), lines, "nothing has changed");
    // Those that are probed still are.
    let before = filed.each_ref().map(Sick::probed);
    filed.iter().zip(before).for_each(|(sick, before)| drop(sick.wait_for_probes(before, 3)));
    checked.nginx.assert_calm();
}

#[test]
fn where_all_are_out_all_get_requests_and_below_the_panic_threshold_too() {
    let place = Place::new("panic");
    let sicks: Vec<Sick> = (0..4).map(|_| Sick::start()).collect();
    let mut half = check(2);
    half["panic_threshold"] = json!(50);
    let upstreams = json!({ "all": upstream(&names(&sicks), &check(2)), "half": upstream(&names(&sicks), &half) });
    let checked = Checked::start(&place, 2, "", &upstreams);
    let turn = |well: usize| {
        for (number, sick) in sicks.iter().enumerate() {
            sick.set_probes(if number < well { Mode::Well } else { Mode::Status(500) });
        }
        let states: Vec<&str> = (0..4).map(|number| if number < well { "up" } else { "unhealthy" }).collect();
        for name in ["all", "half"] {
            checked.wait_for_states(name, &states);
        }
        ["all", "half"].map(|name| {
            let shares = shares(&checked, name, &sicks);
            let serve = shares.iter().take_while(|&&share| share > 0).count();
            assert!(shares[serve..].iter().all(|&share| share == 0), "{name}: {shares:?}");
            serve
        })
    };
    for (well, all, half) in
        [(4, 4, 4), (3, 3, 3), (2, 2, 2), (1, 1, 4), (0, 4, 4), (1, 1, 4), (2, 2, 2), (0, 4, 4), (4, 4, 4)]
    {
        assert_eq!(turn(well), [all, half], "{well} of 4 are up");
    }
    checked.assert_each_change_is_one_line_and_one_event();
    checked.nginx.assert_calm();
}

/// How often each of these answered, of 60 requests that balance() has sent, of which none has failed.
fn balanced(counted: &Counted, sicks: &[Sick]) -> Vec<u64> {
    let seen = requests(counted.address(Protocol::Http1), NAME, 60, 4, Connections::Fresh);
    seen.assert_all_good();
    sicks.iter().map(|sick| seen.from(&sick.name)).collect()
}

#[test]
fn failures_of_requests_take_out_who_is_up_by_probes_until_fail_timeout_or_until_probes_bring_it_up() {
    let place = Place::new("passive-and-active");
    let sicks = [Sick::start(), Sick::start()];
    let peer = |sick: &Sick| json!({ "server": sick.name, "max_fails": 1, "fail_timeout": 600 });
    let upstreams = json!({ NAME: { "peers": sicks.each_ref().map(peer), "healthcheck": check(2) } });
    let conf: Conf = Checked::conf(&place, 2, "", &upstreams);
    let counted = Counted::with(&place, 0, "", conf);
    let is = |states: [&str; 2]| wait_for(&format!("{states:?}"), || counted.of_peers("state") == states);
    let cause = || counted.of_peers("cause")[0].as_str().unwrap_or_default().to_owned();
    let fail_timeout = |seconds: u32| {
        counted
            .nginx
            .change(&format!("set_peer('{NAME}', {{ server = '{}', fail_timeout = {seconds} }})", sicks[0].name));
    };
    let fails_for_traffic = || {
        sicks[0].set(Mode::Reset);
        sicks[0].set_probes(Mode::Well);
    };
    assert_eq!(balanced(&counted, &sicks), [30, 30]);
    fails_for_traffic();
    assert_eq!(balanced(&counted, &sicks), [0, 60]);
    is(["unavail", "up"]);
    assert_eq!(cause(), "1 failed request: out for 600 s");
    // Good probes of a peer that was up for them all the time say nothing about the failures of requests.
    sicks[0].set(Mode::Well);
    sicks[0].wait_for_probes(sicks[0].probed(), 10);
    let before = sicks[0].traffic();
    assert_eq!((balanced(&counted, &sicks), sicks[0].traffic()), (vec![0, 60], before));
    is(["unavail", "up"]);

    fail_timeout(1);
    wait_for("somebody tries it", || balanced(&counted, &sicks)[0] > 0);
    is(["up", "up"]);
    assert_eq!(cause(), "a trial request succeeded");
    assert_eq!(balanced(&counted, &sicks), [30, 30]);

    fail_timeout(600);
    fails_for_traffic();
    assert_eq!(balanced(&counted, &sicks), [0, 60]);
    is(["unavail", "up"]);
    sicks[0].set(Mode::Status(500));
    is(["unhealthy", "up"]);
    assert!(cause().contains("failed probe"), "{}", cause());
    sicks[0].set(Mode::Well);
    is(["up", "up"]);
    assert!(cause().contains("good probe"), "{}", cause());
    assert_eq!((balanced(&counted, &sicks), counted.of_peers("fails")[0].as_u64()), (vec![30, 30], Some(0)));

    // Time does not bring back a peer that probes have down.
    fail_timeout(1);
    sicks[0].set_probes(Mode::Status(500));
    is(["unhealthy", "up"]);
    let before = sicks[0].traffic();
    sicks[0].wait_for_probes(sicks[0].probed(), 12);
    assert_eq!((balanced(&counted, &sicks), sicks[0].traffic()), (vec![0, 60], before));
    counted.nginx.assert_calm();
}
