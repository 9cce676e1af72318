//! Tables of statements, and what each does to its session.

use super::*;
use crate::lex::Encoding;

mod properties;
mod sessions;
mod settings;
mod splitting;

/// The statements of `sql`: class, `!` if cut off, and effects.
fn show(sql: &[u8], options: LexOptions) -> String {
    let plans = statements(sql, options).map(|plan| {
        let mark = if plan.complete { "" } else { "!" };
        let effects: Vec<_> = plan.effects.iter().map(|effect| show_effect(effect, sql)).collect();
        let separator = if effects.is_empty() { "" } else { ": " };
        format!("{:?}{mark}{separator}{}", plan.class, effects.join(", "))
    });
    plans.collect::<Vec<_>>().join("; ")
}

fn show_effect(effect: &Effect, sql: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let range = |range: &Range<usize>| text(&sql[range.clone()]);
    let chain = |chain: bool| if chain { " chain" } else { "" };
    match effect {
        Effect::Begin => "begin".into(),
        Effect::Commit { chain: on } => format!("commit{}", chain(*on)),
        Effect::Rollback { chain: on } => format!("rollback{}", chain(*on)),
        Effect::Savepoint(name) => format!("savepoint {}", text(name)),
        Effect::RollbackTo(name) => format!("rollback to {}", text(name)),
        Effect::Release(name) => format!("release {}", text(name)),
        Effect::PrepareTransaction => "prepare transaction".into(),
        Effect::Set { name, value } => match value {
            SetValue::Default => format!("{}=default", text(name)),
            SetValue::Literal(value) => format!("{}=[{}]", text(name), text(value)),
            SetValue::Raw => format!("{}=raw", text(name)),
        },
        Effect::Reset(name) => format!("reset {}", text(name)),
        Effect::ResetAll => "reset all".into(),
        Effect::SetLocal => "local".into(),
        Effect::SetComputed => "computed".into(),
        Effect::Discard(target) => format!("discard {target:?}"),
        Effect::Prepare { name, body, statement } => {
            format!("prepare <{}> <{}> <{}>", range(name), range(body), range(statement))
        }
        Effect::Execute { name } => format!("execute <{}>", range(name)),
        Effect::Deallocate(DeallocateTarget::All) => "deallocate all".into(),
        Effect::Deallocate(DeallocateTarget::Name(name)) => format!("deallocate <{}>", range(name)),
        Effect::Listen(name) => format!("listen {}", text(name)),
        Effect::Unlisten(None) => "unlisten all".into(),
        Effect::Unlisten(Some(name)) => format!("unlisten {}", text(name)),
        Effect::Notify => "notify".into(),
        Effect::Pin(reason) => format!("pin {reason:?}"),
        Effect::MayUnpin => "may unpin".into(),
        Effect::CopyIn => "copy in".into(),
        Effect::CopyOut => "copy out".into(),
    }
}

fn check(sql: &str, expect: &str) {
    assert_eq!(show(sql.as_bytes(), LexOptions::default()), expect, "{sql}");
}

fn check_with(options: LexOptions, sql: &[u8], expect: &str) {
    assert_eq!(show(sql, options), expect, "{}", String::from_utf8_lossy(sql));
}
