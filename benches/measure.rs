//! Runs that alternate, and the medians of their figures.

/// Measures something once and gives the figure.
pub type Run<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// The figures of one thing, a run each.
#[derive(Clone, Debug)]
pub struct Figures(Vec<f64>);

/// Each once for nothing, then all of them in turn, `rounds` times.
pub fn alternate<const N: usize>(rounds: usize, runs: [Run<'_>; N]) -> [Figures; N] {
    let figures = alternate_all(rounds, runs.into());
    figures.try_into().expect("as many as runs")
}

/// [`alternate`] for a list.
pub fn alternate_all(rounds: usize, mut runs: Vec<Run<'_>>) -> Vec<Figures> {
    let mut figures = vec![Figures(Vec::new()); runs.len()];
    for round in 0..=rounds {
        for (run, figures) in runs.iter_mut().zip(&mut figures) {
            let figure = run();
            if round > 0 {
                figures.0.push(figure);
            }
        }
    }
    figures
}

impl Figures {
    pub fn new(figures: Vec<f64>) -> Figures {
        assert!(!figures.is_empty());
        Figures(figures)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest figure that a share of `part` does not exceed.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (part * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    /// The median of the ratios of each run to the other's run beside it.
    pub fn of(&self, yardstick: &Figures) -> f64 {
        self.ratios(yardstick).median()
    }

    /// The ratio of each run to the other's run beside it.
    pub fn ratios(&self, yardstick: &Figures) -> Figures {
        Figures::new(self.0.iter().zip(&yardstick.0).map(|(figure, beside)| figure / beside).collect())
    }
}
