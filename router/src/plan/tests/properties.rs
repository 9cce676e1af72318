//! What holds for any bytes.

use super::*;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => prop::sample::select(vec![
            "select ", "set ", "set_config(", "'a'", ",", "(", ")", ";", "begin ", "atomic ",
            "end ", "case ", "create ", "or replace ", "function ", "procedure ", "temp ",
            "table ", "as ", "execute ", "prepare ", "explain ", "analyze ", "declare ", "cursor ",
            "with ", "hold ", "false", "true", "::", "text ", "pg_temp", ".", "into ", "to ", "=",
            "\"", "'", "$$", "$a$", "/*", "*/", "--", "\n", "copy ", "from ", "stdin", "rollback ",
            "session ", "local ", "time ", "zone ", "default ", "update ", "pg_settings ", "x ",
            "reset ", "U&\"\\0061\" ", "E'\\", "1", "-", "transaction ", "isolation ", "level ",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn statements_never_panic_and_spans_are_ordered(
        sql in text(),
        standard_conforming_strings: bool,
        encoding in prop::sample::select(vec![Encoding::AsciiSafe, Encoding::Sjis, Encoding::Gb18030]),
    ) {
        let options = LexOptions { standard_conforming_strings, encoding };
        let mut end = 0;
        for plan in statements(&sql, options) {
            prop_assert!(plan.span.start >= end && plan.span.start < plan.span.end);
            prop_assert!(plan.span.end <= sql.len());
            end = plan.span.end;
            for effect in &plan.effects {
                let inside = |range: &Range<usize>| {
                    plan.span.start <= range.start && range.start < range.end && range.end <= end
                };
                match effect {
                    Effect::Prepare { name, body, statement } => {
                        prop_assert!(inside(name) && inside(body) && inside(statement));
                    }
                    Effect::Execute { name }
                    | Effect::Deallocate(DeallocateTarget::Name(name)) => {
                        prop_assert!(inside(name));
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn what_is_plain_has_no_effect(sql in text()) {
        for verb in ["select ", "insert into ", "update ", "with ", "(values "] {
            let sql = [verb.as_bytes(), &sql].concat();
            if is_plain(&sql, LexOptions::default()) {
                let plans: Vec<_> = statements(&sql, LexOptions::default()).collect();
                prop_assert_eq!(plans.len(), 1);
                prop_assert!(plans[0].effects.is_empty() && plans[0].complete);
            }
        }
    }

    #[test]
    fn a_statement_alone_is_planned_as_in_its_text(sql in text()) {
        let options = LexOptions::default();
        for plan in statements(&sql, options) {
            let alone: Vec<_> = statements(&sql[plan.span.clone()], options).collect();
            prop_assert_eq!(alone.len(), 1);
            prop_assert_eq!(alone[0].class, plan.class);
            prop_assert_eq!(alone[0].effects.len(), plan.effects.len());
        }
    }
}
