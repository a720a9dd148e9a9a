//! A JSON object that is written in slices.

use serde::Serialize;
use serde_json::Value;

/// The shape of the slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One text, which is cut anywhere.
    Text,
    /// Each slice is an object of its own. All of them make the whole when objects are merged by their keys, and lists are put one
    /// behind the other.
    Objects,
}

/// The object, as far as it is written. The text is the caller's.
#[derive(Debug)]
pub struct Doc {
    shape: Shape,
    /// The open objects and lists inside the outermost one: the key of each, as JSON, and its last byte.
    open: Vec<(String, u8)>,
    /// Nothing stands in the innermost one yet.
    is_fresh: bool,
    is_begun: bool,
}

impl Doc {
    /// A new object.
    pub fn new(shape: Shape) -> Self {
        Doc { shape, open: Vec::new(), is_fresh: true, is_begun: false }
    }

    /// Begins a slice.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if self.is_begun && self.shape == Shape::Text {
            return;
        }
        self.is_begun = true;
        out.push(b'{');
        for (key, end) in &self.open {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(if *end == b'}' { b":{" } else { b":[" });
        }
        self.is_fresh = true;
    }

    /// Ends a slice behind which others come.
    pub fn pause(&self, out: &mut Vec<u8>) {
        if self.shape == Shape::Objects {
            out.extend(self.open.iter().rev().map(|&(_, end)| end).chain([b'}']));
        }
    }

    /// Ends the object.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        while !self.open.is_empty() {
            self.close(out);
        }
        out.push(b'}');
    }

    /// Begins a list under this key.
    pub fn list(&mut self, out: &mut Vec<u8>, key: &str) {
        self.inner(out, key, b'[', b']');
    }

    /// Begins an object under this key.
    pub fn object(&mut self, out: &mut Vec<u8>, key: &str) {
        self.inner(out, key, b'{', b'}');
    }

    fn inner(&mut self, out: &mut Vec<u8>, key: &str, first: u8, last: u8) {
        let key = Value::from(key).to_string();
        self.comma(out);
        out.extend_from_slice(key.as_bytes());
        out.extend([b':', first]);
        self.open.push((key, last));
        self.is_fresh = true;
    }

    /// Ends the innermost list or object.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        out.extend(self.open.pop().map(|(_, end)| end));
        self.is_fresh = false;
    }

    /// Writes an entry of the object.
    pub fn entry(&mut self, out: &mut Vec<u8>, key: &str, value: &impl Serialize) {
        self.comma(out);
        out.extend_from_slice(Value::from(key).to_string().as_bytes());
        out.push(b':');
        json(out, value);
    }

    /// Writes all entries of `map`, which is written as an object.
    pub fn entries(&mut self, out: &mut Vec<u8>, map: &impl Serialize) {
        let at = out.len();
        json(out, map);
        out.pop();
        if out.len() == at + 1 {
            out.pop();
            return;
        }
        if std::mem::take(&mut self.is_fresh) {
            out.remove(at);
        } else {
            out[at] = b',';
        }
    }

    /// Writes an element of the list.
    pub fn element(&mut self, out: &mut Vec<u8>, value: &impl Serialize) {
        self.comma(out);
        json(out, value);
    }

    fn comma(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_fresh) {
            out.push(b',');
        }
    }
}

fn json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("a Vec takes every write, and every key is a text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Writes an object, and pauses where `pauses` has a bit.
    fn written(shape: Shape, pauses: u32) -> Vec<String> {
        let (mut doc, mut slices, mut out) = (Doc::new(shape), Vec::new(), Vec::new());
        doc.begin(&mut out);
        for step in 0..9 {
            match step {
                0 => doc.entries(&mut out, &json!({})),
                1 => doc.entries(&mut out, &json!({"a": 1, "b": "x"})),
                2 => doc.object(&mut out, "o\""),
                3 => doc.list(&mut out, "l"),
                4 | 5 => doc.element(&mut out, &json!({"n": step})),
                6 => doc.close(&mut out),
                7 => doc.entries(&mut out, &json!({"c": [1]})),
                _ => {
                    doc.close(&mut out);
                    doc.entry(&mut out, "z", &true);
                }
            }
            if pauses >> step & 1 == 1 {
                doc.pause(&mut out);
                slices.push(String::from_utf8(std::mem::take(&mut out)).expect("text"));
                doc.begin(&mut out);
            }
        }
        doc.end(&mut out);
        slices.push(String::from_utf8(out).expect("text"));
        slices
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
            }
            (Value::Array(into), Value::Array(mut from)) => into.append(&mut from),
            (into, from) => *into = from,
        }
    }

    #[test]
    fn wherever_it_is_cut_the_slices_make_the_whole() {
        let whole = written(Shape::Text, 0).concat();
        assert_eq!(whole, r#"{"a":1,"b":"x","o\"":{"l":[{"n":4},{"n":5}],"c":[1]},"z":true}"#);
        for pauses in 0..1 << 9 {
            assert_eq!(written(Shape::Text, pauses).concat(), whole, "{pauses:b}");
            let mut merged = json!({});
            for slice in written(Shape::Objects, pauses) {
                merge(&mut merged, serde_json::from_str(&slice).unwrap_or_else(|error| panic!("{slice}: {error}")));
            }
            assert_eq!(merged, serde_json::from_str::<Value>(&whole).expect("JSON"), "{pauses:b}");
        }
    }
}
