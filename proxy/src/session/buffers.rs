//! Buffers that belong to the thread, so that a connection owns memory only while it needs some.
//!
//! A socket is read into the thread's scratch and written from it in the same poll; what could not
//! be written, or is not complete, moves into a spare buffer that is given back when it is empty.

use std::cell::{Cell, RefCell};

use crate::limits;

/// Spare buffers that one thread keeps.
const SPARES_MAX: usize = 64;
/// A larger spare goes back to the allocator.
const SPARE_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with the thread's scratch: [`limits::SCRATCH_BYTES`] bytes of no known content.
pub fn with_scratch<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; limits::SCRATCH_BYTES].into());
    let result = f(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}

/// An empty buffer, usually one that was used before.
#[must_use]
pub fn take() -> Vec<u8> {
    SPARES.with(|spares| spares.borrow_mut().pop()).unwrap_or_default()
}

/// Gives a buffer back.
pub fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > SPARE_BYTES_MAX {
        return;
    }
    buffer.clear();
    SPARES.with(|spares| {
        let mut spares = spares.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(buffer);
        }
    });
}

/// Bytes on their way out: appended behind, written from the front, no memory while empty.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    at: usize,
}

impl Outbox {
    /// What is still to be written.
    #[must_use]
    #[inline]
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Whether nothing is to be written.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The buffer to append to.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = take();
        }
        &mut self.bytes
    }

    /// Appends `bytes`.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.buffer().extend_from_slice(bytes);
        }
    }

    /// `n` bytes were written.
    #[inline]
    pub fn wrote(&mut self, n: usize) {
        self.at += n;
        if self.at >= self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.at = 0;
        give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_outbox_owns_nothing() {
        let mut out = Outbox::default();
        out.push(b"abc");
        out.wrote(1);
        assert_eq!(out.pending(), b"bc");
        out.wrote(2);
        assert!(out.is_empty());
        assert_eq!(out.bytes.capacity(), 0);
    }

    #[test]
    fn scratch_may_be_used_inside_itself() {
        let inner = with_scratch(|a| with_scratch(|b| a.len() + b.len()));
        assert_eq!(inner, 2 * limits::SCRATCH_BYTES);
    }
}
