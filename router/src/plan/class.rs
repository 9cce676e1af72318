//! The kind of a statement, by its first words.
//!
//! It is about syntax only: `SELECT` may write and `EXECUTE` may do anything.

/// What kind of statement it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// `SELECT`, also in parentheses.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `VALUES`.
    Values,
    /// `TABLE t`.
    Table,
    /// `WITH …`, whatever follows.
    With,
    /// `COPY`.
    Copy,
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `SAVEPOINT`.
    Savepoint,
    /// `ROLLBACK TO`.
    RollbackTo,
    /// `RELEASE`.
    Release,
    /// `PREPARE TRANSACTION`.
    PrepareTransaction,
    /// `SET`, all forms.
    Set,
    /// `SHOW`.
    Show,
    /// `RESET`.
    Reset,
    /// `DISCARD`.
    Discard,
    /// `PREPARE name AS …`.
    Prepare,
    /// `EXECUTE`.
    Execute,
    /// `DEALLOCATE`.
    Deallocate,
    /// `DECLARE … CURSOR`.
    Declare,
    /// `FETCH`.
    Fetch,
    /// `MOVE`.
    Move,
    /// `CLOSE`.
    Close,
    /// `LISTEN`.
    Listen,
    /// `UNLISTEN`.
    Unlisten,
    /// `NOTIFY`.
    Notify,
    /// `LOCK`.
    Lock,
    /// `CALL`.
    Call,
    /// `DO`.
    Do,
    /// `EXPLAIN`.
    Explain,
    /// Anything that changes the catalogue, `TRUNCATE` included.
    Ddl,
    /// `VACUUM`, `CHECKPOINT`, `COMMIT PREPARED` and the like.
    Utility,
    /// Anything else.
    Unknown,
}

/// Longest first word of a statement.
const WORD_BYTES_MAX: usize = 10;

impl Class {
    /// The class of a statement that starts with `word`, which may be in any case.
    ///
    /// Where more words decide (`ROLLBACK TO`, `PREPARE TRANSACTION`), this is the common case.
    #[must_use]
    pub fn from_word(word: &[u8]) -> Self {
        let mut buffer = [0_u8; WORD_BYTES_MAX];
        let Some(lower) = buffer.get_mut(..word.len()) else {
            return Self::Unknown;
        };
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        match &*lower {
            b"select" => Self::Select,
            b"insert" => Self::Insert,
            b"update" => Self::Update,
            b"delete" => Self::Delete,
            b"merge" => Self::Merge,
            b"values" => Self::Values,
            b"table" => Self::Table,
            b"with" => Self::With,
            b"copy" => Self::Copy,
            b"begin" | b"start" => Self::Begin,
            b"commit" | b"end" => Self::Commit,
            b"rollback" | b"abort" => Self::Rollback,
            b"savepoint" => Self::Savepoint,
            b"release" => Self::Release,
            b"set" => Self::Set,
            b"show" => Self::Show,
            b"reset" => Self::Reset,
            b"discard" => Self::Discard,
            b"prepare" => Self::Prepare,
            b"execute" => Self::Execute,
            b"deallocate" => Self::Deallocate,
            b"declare" => Self::Declare,
            b"fetch" => Self::Fetch,
            b"move" => Self::Move,
            b"close" => Self::Close,
            b"listen" => Self::Listen,
            b"unlisten" => Self::Unlisten,
            b"notify" => Self::Notify,
            b"lock" => Self::Lock,
            b"call" => Self::Call,
            b"do" => Self::Do,
            b"explain" => Self::Explain,
            b"create" | b"alter" | b"drop" | b"truncate" | b"comment" | b"grant" | b"revoke"
            | b"security" | b"reassign" | b"import" | b"refresh" => Self::Ddl,
            b"vacuum" | b"analyze" | b"analyse" | b"cluster" | b"reindex" | b"checkpoint"
            | b"load" | b"repack" | b"wait" => Self::Utility,
            _ => Self::Unknown,
        }
    }
}
