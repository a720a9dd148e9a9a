//! A change by a text that is so long that its caller does other work meanwhile: the text comes in pieces, and is read a part at a
//! time. The change itself is one step, as any other.

use super::{Site, with_losses};
use crate::bounds::{self, MAX_INPUT_BYTES};
use crate::config::long::LongJson;
use crate::config::nginx::LongBlock;
use crate::error::{Code, Error, Result};
use crate::health::certificate;
use crate::table::replace::Replacement;
use crate::table::store::Table;
use crate::upstream::Upstream;
use std::time::Duration;

/// A change that is under way. Nothing is changed before its last step.
#[derive(Debug)]
pub struct Draft {
    /// How many bytes have come.
    len: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The text, which may grow.
    Text(Vec<u8>),
    Json(Box<LongJson>),
    Block(Box<LongBlock>),
    /// It was read, with notes for the operator, and the new version is prepared.
    Read(Box<Replacement>, Vec<String>),
    /// The change is made, or was refused.
    Over,
}

impl Default for Draft {
    fn default() -> Self {
        Draft { len: 0, stage: Stage::Text(Vec::new()) }
    }
}

impl Draft {
    /// Adds a piece to the text.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`]: the text is being read already.
    pub fn add(&mut self, piece: &[u8]) -> Result<()> {
        let Stage::Text(text) = &mut self.stage else {
            return Err(Error::invalid("draft: it is being read: allowed: a new one"));
        };
        self.len = self.len.saturating_add(piece.len());
        match self.len > MAX_INPUT_BYTES {
            // It is counted on, for the message.
            true => *text = Vec::new(),
            false => text.extend_from_slice(piece),
        }
        Ok(())
    }

    /// Whether no text has come.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Refuses a text that is too long. The message calls it `what`.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`]: more than [`MAX_INPUT_BYTES`].
    pub fn check_size(&self, what: &str) -> Result<()> {
        bounds::check_len(self.len, what)
    }

    /// Makes the upstream `name`, or replaces it, by a text of JSON. False: the change is not made yet, and this call is to be made
    /// again. It works until `goes_on` says no.
    ///
    /// # Errors
    ///
    /// As [`crate::config::upstream::upstream`] and [`Table::set_upstream`]. After [`Code::Busy`] the call may be made again.
    pub fn set_upstream(
        &mut self,
        table: &Table,
        name: &str,
        wait: Duration,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        let begin = |text| LongJson::new(name, text, "upstream").map(|json| Stage::Json(Box::new(json)));
        let set = self.set(table, wait, "upstream.healthcheck", begin, goes_on)?;
        Ok(set.is_some())
    }

    /// The same by a text of nginx's syntax. Answers notes for the operator; `None`: the call is to be made again.
    ///
    /// # Errors
    ///
    /// As [`crate::config::nginx::block()`] and [`Table::set_upstream`]. After [`Code::Busy`] the call may be made again.
    pub fn post(
        &mut self,
        site: Site<'_, '_>,
        name: &str,
        wait: Duration,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<String>> {
        let begin = |text| LongBlock::new(name, text, "body", site.nginx).map(|block| Stage::Block(Box::new(block)));
        let notes = self.set(site.table, wait, "check", begin, goes_on)?;
        Ok(notes.map(with_losses))
    }

    /// `begin` begins to read the text. `check`: how messages call the check of the upstream.
    fn set(
        &mut self,
        table: &Table,
        wait: Duration,
        check: &str,
        begin: impl FnOnce(Vec<u8>) -> Result<Stage>,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<String>>> {
        // An error is the end of a draft, unless another process is writing.
        let stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Text(text) => begin(text)?,
            stage => stage,
        };
        self.stage = match stage {
            Stage::Json(mut json) => match json.read(goes_on) {
                false => Stage::Json(json),
                true => read(json.finish()?, Vec::new(), check)?,
            },
            Stage::Block(mut block) => match block.read(goes_on)? {
                false => Stage::Block(block),
                true => {
                    let (upstream, notes) = block.finish()?;
                    read(upstream, notes, check)?
                }
            },
            Stage::Read(mut new, notes) => {
                // The last part is a call of its own, as it is the longest.
                let done = match new.is_prepared() {
                    true => new.put(table, wait),
                    false => new.prepare(table, goes_on).map(|()| false),
                };
                match done {
                    Ok(true) => return Ok(Some(notes)),
                    Ok(false) => Stage::Read(new, notes),
                    Err(error) if error.code == Code::Busy => {
                        self.stage = Stage::Read(new, notes);
                        return Err(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            Stage::Over | Stage::Text(_) => return Err(Error::invalid("draft: it has ended: allowed: a new one")),
        };
        Ok(None)
    }
}

/// An upstream that was read. Messages call its check `check`.
fn read(upstream: Upstream, notes: Vec<String>, check: &str) -> Result<Stage> {
    certificate::keep_for(upstream.check.as_ref(), check)?;
    Ok(Stage::Read(Box::new(Replacement::new(upstream)), notes))
}
