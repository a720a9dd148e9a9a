//! The table that `make bench` prints, as docs/benchmarks.md has it.

/// A measured figure, the figure beside it, and whether it is within its limit.
pub struct Line {
    what: String,
    figure: String,
    beside: String,
    ratio: String,
    limit: Option<(String, bool)>,
    doubt: bool,
}

impl Line {
    /// `ratio` is of `figure` to the yardstick beside it.
    pub fn new(what: impl Into<String>, figure: String, beside: impl Into<String>, ratio: f64) -> Line {
        Line { what: what.into(), figure, beside: beside.into(), ratio: digits(ratio), limit: None, doubt: false }
    }

    /// With a limit that `value` must not exceed.
    pub fn at_most(self, value: f64, most: f64, show: fn(f64) -> String) -> Line {
        Line { limit: Some((format!("at most {}", show(most)), value <= most)), ..self }
    }

    /// With a limit that `value` must reach.
    pub fn at_least(self, value: f64, least: f64, show: fn(f64) -> String) -> Line {
        Line { limit: Some((format!("at least {}", show(least)), value >= least)), ..self }
    }

    /// With the verdict "disturbed" if the machine did not let it be measured.
    pub fn doubted(self, doubt: bool) -> Line {
        Line { doubt, ..self }
    }

    /// Whether the limit does not hold, as far as can be said.
    pub fn is_missed(&self) -> bool {
        self.limit.as_ref().is_some_and(|(_, kept)| self.doubt || !kept)
    }

    fn cells(&self) -> [String; 6] {
        let (limit, kept) = match &self.limit {
            None => (String::new(), ""),
            Some((limit, _)) if self.doubt => (limit.clone(), "**disturbed**"),
            Some((limit, kept)) => (limit.clone(), if *kept { "kept" } else { "**missed**" }),
        };
        [self.what.clone(), self.figure.clone(), self.beside.clone(), self.ratio.clone(), limit, kept.to_owned()]
    }
}

const HEAD: [&str; 6] = ["", "dyups", "beside it", "ratio", "limit", ""];
const TO_THE_RIGHT: [bool; 6] = [false, true, false, true, false, false];

/// Markdown that can be read as it is.
pub fn print(lines: &[Line]) {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lines.iter().map(Line::cells));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3));
    println!();
    for (number, row) in rows.iter().enumerate() {
        let cells: [String; 6] = std::array::from_fn(|column| match TO_THE_RIGHT[column] {
            true => format!("{:>1$}", row[column], widths[column]),
            false => format!("{:<1$}", row[column], widths[column]),
        });
        println!("| {} |", cells.join(" | "));
        if number == 0 {
            let rule: [String; 6] = std::array::from_fn(|column| match TO_THE_RIGHT[column] {
                true => format!("{}:", "-".repeat(widths[column] - 1)),
                false => "-".repeat(widths[column]),
            });
            println!("| {} |", rule.join(" | "));
        }
    }
}

/// Nanoseconds, for people.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        ..1e6 => (ns / 1e3, "µs"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

pub fn bytes(count: f64) -> String {
    format!("{} bytes", digits(count))
}

/// A ratio with its sign.
pub fn times(ratio: f64) -> String {
    format!("{} ×", digits(ratio))
}

/// Three digits, and no zeros that say nothing.
pub fn digits(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        0.1.. => 2,
        0.01.. => 3,
        _ => 4,
    };
    format!("{value:.places$}")
}
