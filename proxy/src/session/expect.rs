//! What the server still owes: one entry for each message that it answers, in order.
//!
//! The queue tells replies that belong to the client from replies to what pgherd put in between,
//! and says when the server is free. Pure.
//! Source: PostgreSQL manual, "Message Flow"; which message ends in which reply.

use std::collections::VecDeque;
use std::sync::Arc;

use super::effects::Tracked;
use super::statements::Statement;

/// One expected answer.
#[derive(Debug)]
pub enum Expect {
    /// A simple query: any replies, ends with ReadyForQuery.
    Query(Option<Box<Tracked>>),
    /// FunctionCall: FunctionCallResponse, then ReadyForQuery.
    Function,
    /// Sync: ReadyForQuery.
    Sync,
    /// Parse: ParseComplete. A named one creates `statement` on the server.
    Parse(Option<Box<Created>>),
    /// Parse of the unnamed statement with this stamp: ParseComplete.
    ParseUnnamed(u64),
    /// Bind: BindComplete.
    Bind,
    /// Describe: RowDescription or NoData (behind a ParameterDescription for statements).
    Describe,
    /// Execute: rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Option<Box<Tracked>>),
    /// Close: CloseComplete.
    Close,
    /// Ours; the client must not see the answer.
    Ours(Ours),
    /// The server is not asked: the client gets this when its turn comes.
    Owed(Owed),
}

/// A statement that a client's Parse creates.
#[derive(Debug)]
pub struct Created {
    /// The client's name for it.
    pub name: Box<[u8]>,
    /// The statement.
    pub statement: Arc<Statement>,
}

/// What had been sent behind a COPY when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyBegun {
    /// The end of the data.
    pub ended: bool,
    /// Syncs in front of it, to be ignored with the data.
    pub early_syncs: usize,
}

/// A message of ours.
#[derive(Debug)]
pub enum Ours {
    /// Parse of a shared statement.
    Parse(Arc<Statement>),
    /// Parse of the session's unnamed statement.
    ParseUnnamed,
    /// Close of a shared statement.
    Close(Arc<Statement>),
    /// Close of what another session left unnamed.
    CloseUnnamed,
    /// Settings that the server lacks: a simple query.
    Settings,
    /// `PREPARE` of a shared statement: a simple query.
    Prepare(Arc<Statement>),
    /// A simple query whose outcome does not matter.
    Query,
    /// The question whether what pinned the server is gone: a simple query.
    Recheck,
    /// An empty simple query: each ReadyForQuery before its EmptyQueryResponse is the client's.
    Boundary {
        /// The EmptyQueryResponse came.
        seen: bool,
    },
    /// Bind, Execute or Close of an extended query of ours.
    Step(Step),
}

/// A message of an extended query of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Parse.
    Parse,
    /// Bind.
    Bind,
    /// Execute.
    Execute,
    /// Close.
    Close,
}

/// An answer that pgherd gives itself.
#[derive(Debug)]
pub enum Owed {
    /// ParseComplete: the server has the statement already.
    Parse(Box<Created>),
    /// CloseComplete: the session forgot the name, the server keeps the statement.
    Close(Box<Created>),
    /// Nothing: here COPY data ends that was sent before the server asked for it.
    CopyEnd,
}

impl Expect {
    /// Whether the answer ends with ReadyForQuery.
    #[must_use]
    pub fn ends_ready(&self) -> bool {
        match self {
            Expect::Query(_) | Expect::Function | Expect::Sync => true,
            Expect::Ours(ours) => ours.is_query(),
            _ => false,
        }
    }
}

impl Ours {
    /// Whether it is a simple query: all replies up to ReadyForQuery are ours.
    #[must_use]
    pub fn is_query(&self) -> bool {
        matches!(
            self,
            Ours::Settings | Ours::Prepare(_) | Ours::Query | Ours::Recheck | Ours::Boundary { .. }
        )
    }
}

/// The queue.
#[derive(Debug, Default)]
pub struct Expects {
    queue: VecDeque<Expect>,
}

impl Expects {
    /// A message was sent, or an answer is owed.
    #[inline]
    pub fn push(&mut self, expect: Expect) {
        self.queue.push_back(expect);
    }

    /// What is answered next.
    #[inline]
    #[must_use]
    pub fn head(&self) -> Option<&Expect> {
        self.queue.front()
    }

    /// The same, to be changed.
    #[inline]
    pub fn head_mut(&mut self) -> Option<&mut Expect> {
        self.queue.front_mut()
    }

    /// It was answered.
    #[inline]
    pub fn pop(&mut self) -> Option<Expect> {
        self.queue.pop_front()
    }

    /// Whether nothing is expected.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many answers are expected.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the head belongs to a simple query or a function call, in which an error does not
    /// make the server skip messages.
    #[must_use]
    pub fn head_is_simple(&self) -> bool {
        match self.queue.front() {
            Some(Expect::Query(_) | Expect::Function) => true,
            Some(Expect::Ours(ours)) => ours.is_query(),
            _ => false,
        }
    }

    /// An error in the extended protocol: the server skips up to the next Sync (postgres.c,
    /// `ignore_till_sync`). Takes out what will not be answered; false: no Sync was sent yet.
    pub fn skip_to_sync(&mut self, mut dropped: impl FnMut(Expect)) -> bool {
        loop {
            match self.queue.front() {
                None => return false,
                Some(Expect::Sync) => return true,
                Some(_) => {
                    if let Some(expect) = self.queue.pop_front() {
                        dropped(expect);
                    }
                }
            }
        }
    }

    /// Whether the queue is one simple query of the client's.
    #[must_use]
    pub fn is_one_query(&self) -> bool {
        self.queue.len() == 1 && matches!(self.queue.front(), Some(Expect::Query(_)))
    }

    /// Whether the queue is one extended query up to its Sync, and nothing behind it.
    #[must_use]
    pub fn is_one_batch(&self) -> bool {
        let ends = self.queue.iter().filter(|expect| expect.ends_ready()).count();
        ends == 1 && matches!(self.queue.back(), Some(Expect::Sync))
    }

    /// COPY FROM STDIN began: the server ignores each Sync before the end of the data (copyfromparse.c,
    /// `CopyGetData`).
    pub fn begin_copy(&mut self) -> CopyBegun {
        let mut begun = CopyBegun { ended: false, early_syncs: 0 };
        while let Some(next) = self.queue.get(1) {
            match next {
                Expect::Owed(Owed::CopyEnd) => begun.ended = true,
                Expect::Sync => begun.early_syncs += 1,
                _ => break,
            }
            self.queue.remove(1);
            if begun.ended {
                break;
            }
        }
        begun
    }

    /// Whether the last that was sent is COPY data with a Sync in front of its end. The server has not said
    /// yet that it wants data: if it fails before it reads the Sync, it answers it.
    #[must_use]
    pub fn may_have_early_sync(&self) -> bool {
        let mut last = self.queue.iter().rev();
        matches!(last.next(), Some(Expect::Owed(Owed::CopyEnd)))
            && matches!(last.next(), Some(Expect::Sync))
    }

    /// Marks the boundary at the head as seen; false: there is none.
    pub fn see_boundary(&mut self) -> bool {
        match self.queue.front_mut() {
            Some(Expect::Ours(Ours::Boundary { seen })) => {
                *seen = true;
                true
            }
            _ => false,
        }
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> impl Iterator<Item = Expect> + '_ {
        self.queue.drain(..)
    }

    /// Gives memory of an unusually long pipeline back.
    pub fn shrink(&mut self) {
        if self.queue.capacity() > 64 {
            self.queue.shrink_to(8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_skips_to_the_next_sync() {
        let mut expects = Expects::default();
        for e in [Expect::Bind, Expect::Execute(None), Expect::Sync, Expect::Bind, Expect::Sync] {
            expects.push(e);
        }
        let mut dropped = 0;
        assert!(expects.skip_to_sync(|_| dropped += 1));
        assert_eq!(dropped, 2);
        assert!(matches!(expects.pop(), Some(Expect::Sync)));
        assert_eq!(expects.len(), 2);
        expects.pop();
        expects.pop();
        expects.push(Expect::Bind);
        assert!(!expects.skip_to_sync(|_| {}));
    }

    #[test]
    fn an_expected_answer_is_small() {
        assert!(size_of::<Expect>() <= 24, "{}", size_of::<Expect>());
    }
}
