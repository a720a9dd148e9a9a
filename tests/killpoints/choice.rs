//! At which stores processes die.

use crate::death::{Place, Stores};
use crate::support::Random;
use std::collections::{BTreeMap, BTreeSet};

/// Deaths of one operation, and of one repair, that chance adds to a sample.
const BY_CHANCE: usize = 3;

pub enum Choice {
    /// At each.
    All,
    /// Where there are too many: at 200 spread evenly, and at those around every step of the operation; of each repair, at 5.
    Spread,
    /// The sample for which `make test` has time: one store of every line of each operation, and some by chance. Of each
    /// repair: one of every line at which no process has died before, and one by chance.
    Sample(Random),
}

impl Choice {
    pub fn of_operation(&mut self, stores: &Stores) -> BTreeSet<u64> {
        match self {
            Choice::All => stores.all(),
            Choice::Spread => &stores.spread(200) | &stores.steps(),
            Choice::Sample(random) => {
                let steps = stores.steps().into_iter().collect::<Vec<_>>();
                let mut chosen = one_of_each_line(stores, &BTreeSet::new(), random);
                chosen.extend((0..BY_CHANCE).filter_map(|_| any(&steps, random)));
                chosen
            }
        }
    }

    /// `died`: the lines at which a process has died before.
    pub fn of_repair(&mut self, stores: &Stores, died: &BTreeSet<Place>) -> BTreeSet<u64> {
        match self {
            Choice::All => stores.all(),
            Choice::Spread => stores.spread(5),
            Choice::Sample(random) => {
                let all = stores.all().into_iter().collect::<Vec<_>>();
                let mut chosen = one_of_each_line(stores, died, random);
                chosen.extend(any(&all, random));
                chosen
            }
        }
    }
}

fn any(stores: &[u64], random: &mut Random) -> Option<u64> {
    (!stores.is_empty()).then(|| stores[random.below(stores.len() as u64) as usize])
}

fn one_of_each_line(stores: &Stores, but: &BTreeSet<Place>, random: &mut Random) -> BTreeSet<u64> {
    let mut lines: BTreeMap<Place, Vec<u64>> = BTreeMap::new();
    for (nth, place) in (1u64..).zip(stores.places()).filter(|(_, place)| !but.contains(place)) {
        lines.entry(place).or_default().push(nth);
    }
    lines.values().filter_map(|stores| any(stores, random)).collect()
}
