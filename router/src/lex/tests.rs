//! Tables of texts and the tokens that PostgreSQL's scanner makes of them.

use super::*;
use proptest::prelude::*;

const OLD: LexOptions =
    LexOptions { standard_conforming_strings: false, encoding: Encoding::AsciiSafe };
const SJIS: LexOptions = LexOptions { standard_conforming_strings: true, encoding: Encoding::Sjis };
const OLD_SJIS: LexOptions =
    LexOptions { standard_conforming_strings: false, encoding: Encoding::Sjis };

/// `Kind:text` of every significant token; `!` marks one that is unterminated.
fn show(sql: &[u8], options: LexOptions) -> String {
    let mut lexer = Lexer::new(sql, options);
    let mut shown = Vec::new();
    while let Some(token) = lexer.significant() {
        let mark = if token.closed { "" } else { "!" };
        let text = String::from_utf8_lossy(token.bytes(sql)).into_owned();
        shown.push(format!("{:?}{mark}:{text}", token.kind));
    }
    shown.join("  ")
}

fn check(sql: &str, expect: &str) {
    assert_eq!(show(sql.as_bytes(), LexOptions::default()), expect, "{sql}");
}

fn check_with(options: LexOptions, sql: &[u8], expect: &str) {
    assert_eq!(show(sql, options), expect, "{}", String::from_utf8_lossy(sql));
}

#[test]
fn strings() {
    check("'a''b'", "String:'a''b'");
    check(r"'a\' 'b'", r"String:'a\'  String:'b'");
    check(r"E'a\'b' c", r"EscapeString:E'a\'b'  Word:c");
    check(r"e'\\' c", r"EscapeString:e'\\'  Word:c");
    check(r"'\", r"String!:'\");
    check(r"E'\", r"EscapeString!:E'\");
    check("'open", "String!:'open");
    check("'a'\n'b' 'c'", "String:'a'\n'b'  String:'c'");
    check("'a' 'b'", "String:'a'  String:'b'");
    check("'a' -- x\n  -- y\r\n 'b'", "String:'a' -- x\n  -- y\r\n 'b'");
    check("'a' /* x */ \n'b'", "String:'a'  String:'b'");
    check("'a' -- x", "String:'a'");
    check("'a'\n'b", "String!:'a'\n'b");
    check("E'a'\n'\\'b'", "EscapeString:E'a'\n'\\'b'");
    check("N'a''b'", "NationalString:N'a''b'");
    check("nation'a'", "Word:nation  String:'a'");
    check("B'1''0'", "BitString:B'1'  String:'0'");
    check("x'1F'\n'2'", "HexString:x'1F'\n'2'");
    check(r"U&'\0061' UESCAPE '!'", r"UnicodeString:U&'\0061'  Word:UESCAPE  String:'!'");
    check(r"u&'\'", r"UnicodeString:u&'\'");
    check("u & 'a'", "Word:u  Operator:&  String:'a'");
    check("u&a", "Word:u  Operator:&  Word:a");
    check("tee'a'", "Word:tee  String:'a'");
}

#[test]
fn strings_without_standard_conforming_strings() {
    check_with(OLD, br"'a\' 'c'", r"String:'a\' '  Word:c  String!:'");
    check_with(OLD, br"N'\''", r"NationalString:N'\''");
    check_with(OLD, br"B'1\' x", r"BitString:B'1\'  Word:x");
    check_with(OLD, br"U&'\' x", r"UnicodeString:U&'\'  Word:x");
    check_with(OLD, br#""a\" b"#, r#"QuotedIdentifier:"a\"  Word:b"#);
    check_with(OLD, br"$$\$$ b", r"DollarString:$$\$$  Word:b");
}

#[test]
fn identifiers() {
    check("a_1$b é", "Word:a_1$b  Word:é");
    check("a$1$b$c", "Word:a$1$b$c");
    check(r#""a""b;c" d"#, r#"QuotedIdentifier:"a""b;c"  Word:d"#);
    check(r#""a"#, r#"QuotedIdentifier!:"a"#);
    check("\"a\"\n\"b\"", "QuotedIdentifier:\"a\"  QuotedIdentifier:\"b\"");
    check(r#"U&"d\0061" x"#, r#"UnicodeIdentifier:U&"d\0061"  Word:x"#);
    check("a.b.*", "Word:a  Dot:.  Word:b  Dot:.  Operator:*");
    check("a[1]", "Word:a  Other:[  Number:1  Other:]");
}

#[test]
fn dollars() {
    check("$$a;b$$", "DollarString:$$a;b$$");
    check("$a$ $b$ $$ $a$", "DollarString:$a$ $b$ $$ $a$");
    check("$a$ x $A$", "DollarString!:$a$ x $A$");
    check("$a$$a$", "DollarString:$a$$a$");
    check("$a$b$a$", "DollarString:$a$b$a$");
    check("$a$$$a$", "DollarString:$a$$$a$");
    check("$é_1$x$é_1$", "DollarString:$é_1$x$é_1$");
    check("$1 $23,$4", "Parameter:$1  Parameter:$23  Comma:,  Parameter:$4");
    check("$1$a$b$a$", "Parameter:$1  DollarString:$a$b$a$");
    check("$1a$ b", "Parameter:$1  Word:a$  Word:b");
    check("$a b", "Other:$  Word:a  Word:b");
    check("a$$b$$", "Word:a$$b$$");
    check("1$$b$$", "Number:1  DollarString:$$b$$");
    check("$", "Other:$");
    check("$$", "DollarString!:$$");
}

#[test]
fn comments() {
    check("a -- 'b\nc", "Word:a  Word:c");
    check("a -- b\rc", "Word:a  Word:c");
    check("a /* ' /* ; */ \" */ b", "Word:a  Word:b");
    check("a /*/ b */ c", "Word:a  Word:c");
    check("a /***/ b", "Word:a  Word:b");
    check("a /*//**/*/ b", "Word:a  Word:b");
    check("a /* /* */ b", "Word:a");
    check("*/", "Operator:*/");
    check("/* open", "");
    check("--", "");
}

#[test]
fn operators() {
    check("1+-2", "Number:1  Operator:+  Operator:-  Number:2");
    check("1 @- 2", "Number:1  Operator:@-  Number:2");
    check("1 *- 2", "Number:1  Operator:*  Operator:-  Number:2");
    check("1 <=- 2", "Number:1  Operator:<=  Operator:-  Number:2");
    check("1+--2\n3", "Number:1  Operator:+  Number:3");
    check("1*/*x*/2", "Number:1  Operator:*  Number:2");
    check("1@#/*x*/2", "Number:1  Operator:@#  Number:2");
    check("a->>'b'", "Word:a  Operator:->>  String:'b'");
    check("a::text", "Word:a  Typecast:::  Word:text");
    check("a := 1", "Word:a  Other::  Operator:=  Number:1");
    check("a => 1", "Word:a  Operator:=>  Number:1");
    check("? ?| ?&", "Operator:?  Operator:?|  Operator:?&");
    check(r"\ { }", r"Other:\  Other:{  Other:}");
    check("+++", "Operator:+  Operator:+  Operator:+");
    check("a-->b", "Word:a");
}

#[test]
fn numbers() {
    check(
        "1 1.5 .5 1. 1e10 1.5E-3 1e+2",
        "Number:1  Number:1.5  Number:.5  Number:1.  Number:1e10  Number:1.5E-3  Number:1e+2",
    );
    check("1..10", "Number:1  Other:..  Number:10");
    check("1e", "Number:1  Word:e");
    check("1e+", "Number:1  Word:e  Operator:+");
    check(r"1e'\''", r"Number:1  EscapeString:e'\''");
    check("1_000 0x_1F 0o17 0b1_0", "Number:1_000  Number:0x_1F  Number:0o17  Number:0b1_0");
    check("1__0", "Number:1  Word:__0");
    check("0x'1'", "Number:0  HexString:x'1'");
    check("123abc", "Number:123  Word:abc");
}

#[test]
fn unsafe_encodings() {
    // 0x95 0x5C is one character, so the quote behind it closes the string.
    check_with(OLD_SJIS, b"'\x95\x5c' x", "String:'\u{fffd}\\'  Word:x");
    check_with(OLD, b"'\x95\x5c' x", "String!:'\u{fffd}\\' x");
    check_with(SJIS, b"E'\x95\x5c' x", "EscapeString:E'\u{fffd}\\'  Word:x");
    check_with(SJIS, b"E'\\\x95\x5c' x", "EscapeString:E'\\\u{fffd}\\'  Word:x");
    // A half-width katakana is one byte: the backslash behind it is one.
    check_with(SJIS, b"E'\xb1\\'' x", "EscapeString:E'\u{fffd}\\''  Word:x");
    check_with(SJIS, b"\x83\x5c = 1", "Word:\u{fffd}\\  Operator:=  Number:1");
    check_with(SJIS, b"\"\x83\x5c\" x", "QuotedIdentifier:\"\u{fffd}\\\"  Word:x");
    check_with(SJIS, b"$\x83\x5c$'$\x83\x5c$ x", "DollarString:$\u{fffd}\\$'$\u{fffd}\\$  Word:x");
    check_with(SJIS, b"/* \x95\x5c */ x", "Word:x");
    check_with(SJIS, b"'\x95", "String!:'\u{fffd}");
    let gb18030 = LexOptions { encoding: Encoding::Gb18030, ..OLD };
    check_with(gb18030, b"'\x81\x5c' x", "String:'\u{fffd}\\'  Word:x");
    check_with(gb18030, b"'\x81\x30\x81\x30' x", "String:'\u{fffd}0\u{fffd}0'  Word:x");
    for encoding in [Encoding::Big5, Encoding::Gbk, Encoding::Uhc, Encoding::Johab] {
        let options = LexOptions { encoding, ..OLD };
        check_with(options, b"'\xb5\x5c' x", "String:'\u{fffd}\\'  Word:x");
    }
}

#[test]
fn values() {
    let check = |sql: &str, expect: Option<&str>| {
        let options = LexOptions::default();
        let token = Lexer::new(sql.as_bytes(), options).significant().unwrap();
        let value = value::string(token, sql.as_bytes(), options);
        assert_eq!(value.as_deref(), expect.map(str::as_bytes), "{sql}");
    };
    check("'a''b'", Some("a'b"));
    check("''", Some(""));
    check("'a'\n 'b'", Some("ab"));
    check(r"'a\'", Some(r"a\"));
    check(r"E'a\'\\\n'", Some("a'\\\n"));
    check(r"E'\101'", None);
    check("$$a'b$$", Some("a'b"));
    check("$t$$t$", Some(""));
    check("N'a'", Some("a"));
    check("'open", None);
    check("U&'a'", None);
}

#[test]
fn names() {
    let check = |raw: &str, expect: &str| {
        assert_eq!(value::name(raw.as_bytes()), expect.as_bytes(), "{raw}");
    };
    check("Foo", "foo");
    check("\"Foo\"", "Foo");
    check("\"a\"\"b\"", "a\"b");
    check(&"x".repeat(70), &"x".repeat(63));
    check(&"é".repeat(40), &"é".repeat(31));
}

#[test]
fn a_flood_of_signs_takes_linear_time() {
    let sql = "+".repeat(1 << 16);
    assert_eq!(Lexer::new(sql.as_bytes(), LexOptions::default()).count(), sql.len());
}

fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "'", "\"", "\\", "$", "$a$", "$$", "--", "/*", "*/", "\n", ";", "(", ")", "E'", "U&\"",
            "begin", "atomic", "end", "create", "function", "set", "x", " ", "1", "\u{e9}",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn tokens_tile_the_text(
        sql in fragments(),
        standard_conforming_strings: bool,
        encoding in prop::sample::select(vec![
            Encoding::AsciiSafe, Encoding::Sjis, Encoding::Gb18030, Encoding::Johab,
        ]),
    ) {
        let options = LexOptions { standard_conforming_strings, encoding };
        let mut lexer = Lexer::new(&sql, options);
        let mut end = 0;
        for token in lexer.by_ref() {
            prop_assert_eq!(token.start, end);
            prop_assert!(token.end > token.start && token.end <= sql.len());
            prop_assert!(token.closed || token.end == sql.len());
            end = token.end;
        }
        prop_assert_eq!(end, sql.len());
    }
}
