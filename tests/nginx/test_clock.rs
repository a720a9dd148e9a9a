//! The wall clock is set back by a day, as an operator or NTP may do it: nothing of dyups stops.

use super::place::Place;
use super::probers::{conf, set, states};
use super::server::{Conf, Nginx};
use super::sick::Sick;
use super::symptoms::Mode;
use super::system::wait_for;
use super::wall_clock::WallClock;

const CHECK: &str = "interval = 100, timeout = 100, rise = 1, fall = 1";
const DAY: u64 = 86_400;

fn seconds() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

/// Whether a worker shows a time that is long over.
fn shows_yesterday(nginx: &Nginx) -> bool {
    let shown: u64 = nginx.eval("ngx.update_time() return os.time()").parse().expect("a number");
    shown < seconds() - DAY / 2
}

#[test]
fn a_clock_that_is_set_back_by_a_day_stops_nothing() {
    let place = Place::new("clock");
    let clock = WallClock::new(&place);
    let nginx = Nginx::start(&place, &Conf { clock: Some(clock.clone()), ..conf(&place, 2, "") });
    let backends = [Sick::start(), Sick::start()];
    let [first, second] = backends.each_ref().map(|backend| backend.name.as_str());
    set(&nginx, "api", &[first, second], CHECK);
    backends.iter().for_each(|backend| drop(backend.wait_for_probes(0, 2)));
    assert!(!shows_yesterday(&nginx));

    clock.set_back_a_day();
    wait_for("the clock is set back", || shows_yesterday(&nginx));
    let state = |name: &str| states(&nginx.status(), "api")[name].clone();
    backends.iter().for_each(|backend| drop(backend.wait_for_probes(backend.probed(), 5)));
    backends[0].set(Mode::Status(500));
    wait_for("a sick peer is found", || state(first) == "unhealthy");
    backends[0].set(Mode::Well);
    wait_for("it is found well again", || state(first) == "up");

    // An idle peer that drains is taken out by a periodic tick.
    nginx.change(&format!("delete_peer('api', {{ server = '{second}', drain = true }})"));
    wait_for("the drained peer is gone", || states(&nginx.status(), "api").len() == 1);
    assert_eq!(nginx.get("api", "/").status, 200);
    nginx.assert_calm();
}
