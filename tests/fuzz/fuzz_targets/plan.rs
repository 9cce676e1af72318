//! Any bytes, in any encoding: the lexer tiles them, and planning never panics and gives ordered,
//! disjoint spans within the text. The first byte chooses the options.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgherd_router::lex::Lexer;
use pgherd_router::{Encoding, LexOptions, is_plain, statements};

const ENCODINGS: [Encoding; 8] = [
    Encoding::AsciiSafe,
    Encoding::Sjis,
    Encoding::ShiftJis2004,
    Encoding::Big5,
    Encoding::Gbk,
    Encoding::Uhc,
    Encoding::Gb18030,
    Encoding::Johab,
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, sql)) = data.split_first() else { return };
    let options = LexOptions {
        standard_conforming_strings: choice & 8 == 0,
        encoding: ENCODINGS[usize::from(choice & 7)],
    };

    let mut end = 0;
    for token in Lexer::new(sql, options) {
        assert_eq!(token.start, end, "tokens leave no gap");
        assert!(token.end > token.start, "no token is empty");
        assert!(token.closed || token.end == sql.len(), "an open token runs to the end");
        end = token.end;
    }
    assert_eq!(end, sql.len(), "tokens cover the text");

    let mut end = 0;
    for plan in statements(sql, options) {
        assert!(plan.span.start >= end, "statements don't overlap");
        assert!(plan.span.end > plan.span.start, "no statement is empty");
        end = plan.span.end;
        assert!(end <= sql.len(), "statements are inside of the text");
    }

    if is_plain(sql, options) {
        let plans: Vec<_> = statements(sql, options).collect();
        assert_eq!(plans.len(), 1, "a plain text is one statement");
        assert!(plans.iter().all(|plan| plan.effects.is_empty() && plan.complete));
    }
});
