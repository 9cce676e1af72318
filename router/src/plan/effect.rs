//! What a statement can leave behind in its session. Values only, no logic.

use std::ops::Range;

/// Effects in the order of the text.
pub type Effects = Vec<Effect>;

/// One thing that a statement does to its session. Ranges are offsets into the planned text.
///
/// Names given as bytes are what PostgreSQL understands: unquoted, folded, truncated. Names given as
/// ranges are as they stand in the text; [`crate::lex::value::name`] makes the former of the latter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A transaction block starts.
    Begin,
    /// The transaction block ends.
    Commit {
        /// `AND CHAIN`: another one starts at once.
        chain: bool,
    },
    /// The transaction block is undone.
    Rollback {
        /// `AND CHAIN`: another one starts at once.
        chain: bool,
    },
    /// A savepoint of this name.
    Savepoint(Vec<u8>),
    /// Everything since this savepoint is undone; the savepoint stays.
    RollbackTo(Vec<u8>),
    /// This savepoint and those after it are forgotten.
    Release(Vec<u8>),
    /// The transaction block ends, prepared for the second phase.
    PrepareTransaction,
    /// A setting of the session changes.
    Set {
        /// Canonical name: lower case, dotted where custom.
        name: Vec<u8>,
        /// What it becomes.
        value: SetValue,
    },
    /// A setting goes back to its default.
    Reset(Vec<u8>),
    /// All settings do, but `role` and `session_authorization` (`GUC_NO_RESET_ALL` in guc.c).
    ResetAll,
    /// A setting of the transaction: nothing is left behind it.
    SetLocal,
    /// Some setting of the session changes, but the text doesn't tell which or to what.
    SetComputed,
    /// `DISCARD`. For ALL, everything that is tracked about the session is gone.
    Discard(DiscardTarget),
    /// A prepared statement of SQL.
    Prepare {
        /// Its name.
        name: Range<usize>,
        /// From behind the name to the end: `(int) AS SELECT $1`.
        body: Range<usize>,
        /// The statement behind AS: `SELECT $1`.
        statement: Range<usize>,
    },
    /// A prepared statement of this name must exist.
    Execute {
        /// Its name.
        name: Range<usize>,
    },
    /// Prepared statements are forgotten.
    Deallocate(DeallocateTarget),
    /// The session listens to this channel once the transaction commits.
    Listen(Vec<u8>),
    /// The session listens no more: to this channel, or (none) to all.
    Unlisten(Option<Vec<u8>>),
    /// A notification is sent once the transaction commits.
    Notify,
    /// State stays on the server that can't be moved to another one.
    Pin(PinReason),
    /// Such state may be gone now, or at the end of the transaction: worth a check.
    MayUnpin,
    /// The client will send rows.
    CopyIn,
    /// The server will send rows.
    CopyOut,
}

/// What a setting becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// Its default.
    Default,
    /// This string, as `set_config()` would be given it.
    Literal(Vec<u8>),
    /// Something else: run the statement's own text again to get it.
    Raw,
}

/// What `DISCARD` throws away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardTarget {
    /// Everything.
    All,
    /// Cached plans.
    Plans,
    /// Cached sequence values, and what `currval()` knows.
    Sequences,
    /// Temporary tables.
    Temp,
}

/// Which prepared statements are forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeallocateTarget {
    /// The one whose name stands here.
    Name(Range<usize>),
    /// All, those of the protocol too.
    All,
}

/// Why a session must keep its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PinReason {
    /// A temporary table, view, sequence or other object of `pg_temp`.
    TempTable,
    /// `search_path` starts with `pg_temp`: whatever is created will be temporary.
    TempSchema,
    /// A cursor that outlives its transaction.
    HoldCursor,
    /// A loaded library. It can't be unloaded.
    Load,
    /// An advisory lock of the session.
    AdvisoryLock,
    /// The seed of `random()`. Running `setseed()` again elsewhere would repeat numbers instead of
    /// going on with them.
    RandomSeed,
    /// A connection opened by the extension dblink.
    Dblink,
    /// A replication origin was set up for the session.
    ReplicationOrigin,
}
