//! The text of metrics: Prometheus's own format, or OpenMetrics.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, and
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::fmt::{Display, Write};

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The one that a client asks for by its header `Accept`.
    ///
    /// ```
    /// use dyups::status::metrics::Format;
    /// assert_eq!(Format::accepted(b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), Format::OpenMetrics);
    /// assert_eq!(Format::accepted(b"*/*"), Format::Text);
    /// ```
    pub fn accepted(accept: &[u8]) -> Format {
        let wanted = accept.windows(28).any(|part| part.eq_ignore_ascii_case(b"application/openmetrics-text"));
        if wanted { Format::OpenMetrics } else { Format::Text }
    }

    /// The value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The type of a family of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number that only grows. Its name ends in `_total`.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Counts of values up to each of some limits.
    Histogram,
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

impl Page {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        Page { format, text: String::new() }
    }

    /// Begins a family. Its samples follow.
    pub fn family(&mut self, name: &str, kind: Type, help: &str) {
        let name = match (self.format, kind) {
            (Format::OpenMetrics, Type::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes a sample of the family.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (nth, (label, text)) in labels.iter().enumerate() {
            self.text.push(if nth == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            text.chars().for_each(|c| match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            });
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Takes the text that was written since.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.as_bytes());
        self.text.clear();
    }

    /// Writes the end.
    pub fn end(&self, out: &mut Vec<u8>) {
        if self.format == Format::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_names_and_its_end_and_labels_are_escaped() {
        let page = |format| {
            let mut page = Page::new(format);
            page.family("a_total", Type::Counter, "As.");
            page.sample("a_total", &[("x", "a\"b\\c\nd"), ("y", "ö")], 1.5);
            page.sample("a_total", &[], 2);
            let mut out = Vec::new();
            page.take(&mut out);
            page.end(&mut out);
            String::from_utf8(out).expect("text")
        };
        let samples = "a_total{x=\"a\\\"b\\\\c\\nd\",y=\"ö\"} 1.5\na_total 2\n";
        assert_eq!(page(Format::Text), format!("# HELP a_total As.\n# TYPE a_total counter\n{samples}"));
        assert_eq!(page(Format::OpenMetrics), format!("# HELP a As.\n# TYPE a counter\n{samples}# EOF\n"));
    }
}
