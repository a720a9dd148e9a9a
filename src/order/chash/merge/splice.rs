//! Copies a ring, and on the way takes points out and puts points in.

use super::diff::Moved;
use crate::order::chash::search::{Words, half};
use crate::order::chash::shape::RingShape;
use crate::shm::huge_pages::in_huge_pages;

/// Sorted points as keys: the bucket in the high half, and the ring's own half of the point below it.
#[derive(Debug)]
pub(super) struct Edits {
    /// With old indexes.
    pub(super) left: Vec<u64>,
    /// With new indexes.
    pub(super) came: Vec<u64>,
}

/// The words of the ring of `shape` in `old` after `edits`, with indexes as in `moved`; the bits stay. `None`: the ring
/// does not have the points that leave.
pub(super) fn splice<W: Words + ?Sized>(old: &W, shape: RingShape, edits: &Edits, moved: &Moved) -> Option<Vec<u64>> {
    let points = (shape.points as usize + edits.came.len()).checked_sub(edits.left.len())?;
    let mut splice = Splice {
        old,
        shape,
        buffer: [0; CHUNK],
        out: Vec::with_capacity(RingShape { points: points as u32, ..shape }.words()),
        low: None,
    };
    in_huge_pages(&splice.out);
    splice.starts(edits)?;
    let mask = (1 << shape.bits) - 1;
    match moved {
        Moved::Nobody => splice.points(edits, |point| point)?,
        Moved::From(first, by) => splice.points(edits, |point| {
            let up = if point & mask >= *first { *by } else { 0 };
            point.wrapping_add(up)
        })?,
        Moved::To(indexes) => splice.points(edits, |point| {
            let index = indexes.get((point & mask) as usize).copied().unwrap_or(Moved::NOWHERE);
            point & !mask | index & mask
        })?,
    }
    Some(splice.finish())
}

/// Words that are copied at once: within the innermost cache.
const CHUNK: usize = 512;

struct Splice<'a, W: ?Sized> {
    old: &'a W,
    shape: RingShape,
    buffer: [u64; CHUNK],
    /// The new words, and a half that waits for the upper one.
    out: Vec<u64>,
    low: Option<u32>,
}

impl<W: Words + ?Sized> Splice<'_, W> {
    /// Each start is off by the points that came and left in the buckets before it.
    fn starts(&mut self, edits: &Edits) -> Option<()> {
        let (mut from, mut off) = (0, 0u32);
        for (bucket, left, came) in edits.buckets() {
            self.copy(from, bucket + 1, |start| start.wrapping_add(off))?;
            from = bucket + 1;
            off = off.wrapping_add(came.len() as u32).wrapping_sub(left.len() as u32);
        }
        self.copy(from, (1 << self.shape.bits) + 1, |start| start.wrapping_add(off))?;
        self.push(0);
        Some(())
    }

    /// The points, each through `moved`: all between the buckets with edits, and these one by one.
    fn points(&mut self, edits: &Edits, mut moved: impl FnMut(u32) -> u32) -> Option<()> {
        let first = 2 * self.shape.first_point_word();
        let mut done = 0;
        for (bucket, left, came) in edits.buckets() {
            let (start, end) = (half(self.old, bucket)?, half(self.old, bucket + 1)?);
            if start < done || end < start || end > self.shape.points {
                return None;
            }
            self.copy(first + done as usize, first + start as usize, &mut moved)?;
            self.bucket(first + start as usize, first + end as usize, left, came, &mut moved)?;
            done = end;
        }
        self.copy(first + done as usize, first + self.shape.points as usize, moved)
    }

    /// The points of a bucket, halves `from` to `to`, without those that left and with those that came.
    fn bucket(
        &mut self,
        from: usize,
        to: usize,
        mut left: &[u64],
        mut came: &[u64],
        mut moved: impl FnMut(u32) -> u32,
    ) -> Option<()> {
        for at in from..to {
            let point = half(self.old, at)?;
            if let Some((&key, rest)) = left.split_first()
                && key as u32 == point
            {
                left = rest;
                continue;
            }
            let point = moved(point);
            while let Some((&key, rest)) = came.split_first()
                && (key as u32) < point
            {
                self.push(key as u32);
                came = rest;
            }
            self.push(point);
        }
        came.iter().for_each(|&key| self.push(key as u32));
        left.is_empty().then_some(())
    }

    /// The old halves `from` to `to`, each through `change`.
    fn copy(&mut self, mut from: usize, mut to: usize, mut change: impl FnMut(u32) -> u32) -> Option<()> {
        if from % 2 == 1 && from < to {
            self.push(change(half(self.old, from)?));
            from += 1;
        }
        let last = if to % 2 == 1 && from < to { Some(to - 1) } else { None };
        to = last.unwrap_or(to);
        let mut words = from / 2..to / 2;
        while !words.is_empty() {
            let count = words.len().min(CHUNK);
            let chunk = &mut self.buffer[..count];
            self.old.copy(words.start, chunk)?;
            for word in chunk {
                *word = u64::from(change(*word as u32)) | u64::from(change((*word >> 32) as u32)) << 32;
            }
            self.extend(count);
            words.start += count;
        }
        if let Some(last) = last {
            self.push(change(half(self.old, last)?));
        }
        Some(())
    }

    /// The first words of the buffer, half a word further on if one waits.
    fn extend(&mut self, count: usize) {
        let words = &self.buffer[..count];
        let (Some(low), [first, ..]) = (self.low, words) else { return self.out.extend_from_slice(words) };
        self.out.push(u64::from(low) | first << 32);
        self.out.extend(words.windows(2).map(|pair| pair[0] >> 32 | pair[1] << 32));
        self.low = Some((words[count - 1] >> 32) as u32);
    }

    #[inline]
    fn push(&mut self, half: u32) {
        match self.low.take() {
            None => self.low = Some(half),
            Some(low) => self.out.push(u64::from(low) | u64::from(half) << 32),
        }
    }

    fn finish(mut self) -> Vec<u64> {
        self.out.extend(self.low.map(u64::from));
        self.out
    }
}

impl Edits {
    /// The buckets with edits, ascending: the number of each, the points that left it, and those that came.
    fn buckets(&self) -> impl Iterator<Item = (usize, &[u64], &[u64])> {
        let (mut left, mut came) = (&self.left[..], &self.came[..]);
        std::iter::from_fn(move || {
            let bucket = [left, came].into_iter().flat_map(<[u64]>::first).map(|key| key >> 32).min()?;
            Some((bucket as usize, split_off(&mut left, bucket), split_off(&mut came, bucket)))
        })
    }
}

/// Takes the keys of `bucket` off the front.
fn split_off<'a>(keys: &mut &'a [u64], bucket: u64) -> &'a [u64] {
    let count = keys.iter().take_while(|&key| key >> 32 == bucket).count();
    let (own, rest) = keys.split_at(count);
    *keys = rest;
    own
}
