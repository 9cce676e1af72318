//! Reading startup packets: pure, bytes in, values or a refusal out.
//!
//! Follows `ProcessStartupPacket` (backend_startup.c), `pg_split_opts` (postinit.c) and
//! `process_postgres_switches` (postgres.c) of PostgreSQL 18. Never guesses an encoding: names
//! decide who a client is, so what is not UTF-8 is refused.

use super::Startup;
use crate::error::{Fault, Report, sqlstate};
use crate::limits;
use crate::wire::{self, Reader, WireError, build};

/// The newest minor version of protocol 3 that pgherd speaks.
const MINOR_MAX: u32 = 2;

/// invalid_parameter_value
const INVALID_PARAMETER_VALUE: &str = "22023";
/// character_not_in_repertoire
const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
/// syntax_error
const SYNTAX_ERROR: &str = "42601";
/// undefined_object
const UNDEFINED_OBJECT: &str = "42704";

/// A startup packet that was understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) startup: Startup,
    /// NegotiateProtocolVersion, when the client asked for more than there is; else empty.
    pub(crate) negotiation: Vec<u8>,
}

/// The key in a CancelRequest, behind its code: protocol 3.2 allows secrets of 4 to 256 bytes.
pub(crate) fn cancel_key(body: &[u8]) -> Result<(u32, Box<[u8]>), WireError> {
    let mut reader = Reader::new(body);
    let pid = reader.u32("CancelRequest")?;
    match reader.rest() {
        secret @ [_, _, _, _, ..] if secret.len() <= 256 => Ok((pid, secret.into())),
        _ => Err(WireError { what: "CancelRequest" }),
    }
}

/// A startup packet, from its protocol version on.
pub(crate) fn parse(packet: &[u8]) -> Result<Parsed, Report> {
    let mut reader = Reader::new(packet);
    let asked = reader.u32("startup packet").map_err(|_| layout())?;
    let (major, minor) = (asked >> 16, asked & 0xffff);
    if major != 3 {
        let message = format!(
            "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_MAX}"
        );
        return Err(refusal(sqlstate::FEATURE_NOT_SUPPORTED, message));
    }
    let mut fields = Fields::default();
    loop {
        let name = reader.cstr("startup parameter").map_err(|_| layout())?;
        if name.is_empty() {
            break;
        }
        let value = reader.cstr("startup parameter").map_err(|_| layout())?;
        fields.take(utf8(name)?, utf8(value)?)?;
    }
    reader.end("startup packet").map_err(|_| layout())?;

    let mut negotiation = Vec::new();
    if minor > MINOR_MAX || !fields.unrecognised.is_empty() {
        negotiate(&mut negotiation, minor.min(MINOR_MAX), &fields.unrecognised);
    }
    let mut startup = fields.into_startup()?;
    // 3.1 was never released; its messages are those of 3.0.
    startup.protocol = wire::version(3, if minor >= MINOR_MAX { 2 } else { 0 });
    Ok(Parsed { startup, negotiation })
}

/// What the packet holds, before defaults.
#[derive(Default)]
struct Fields<'a> {
    user: &'a str,
    database: &'a str,
    options: &'a str,
    replication: Option<String>,
    settings: Vec<(&'a str, &'a str)>,
    unrecognised: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &'a str, value: &'a str) -> Result<(), Report> {
        match name {
            "user" => self.user = value,
            "database" => self.database = value,
            "options" => self.options = value,
            "replication" => self.replication = replication(value)?,
            _ if name.starts_with("_pq_.") => self.unrecognised.push(name),
            _ => self.settings.push((name, value)),
        }
        Ok(())
    }

    fn into_startup(self) -> Result<Startup, Report> {
        if self.user.is_empty() {
            let message = "no PostgreSQL user name specified in startup packet";
            return Err(refusal(sqlstate::INVALID_AUTHORIZATION, message));
        }
        let database = if self.database.is_empty() { self.user } else { self.database };
        let mut startup = Startup {
            user: truncate(self.user).to_owned(),
            database: truncate(database).to_owned(),
            replication: self.replication,
            ..Startup::default()
        };
        // Parameters of their own override `options` (process_startup_options, postinit.c).
        switches(&split(self.options), &mut startup.settings)?;
        for (name, value) in self.settings {
            set(&mut startup.settings, name, value)?;
        }
        Ok(startup)
    }
}

/// PostgreSQL truncates names to the length it can store; so the rules decide about the name that
/// the server will see.
fn truncate(name: &str) -> &str {
    let fits = |end: &usize| name.is_char_boundary(*end);
    let end = (0..=limits::NAME_BYTES_MAX.min(name.len())).rev().find(fits);
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// `replication` is a boolean (`parse_bool`, bool.c) or the word `database`.
fn replication(value: &str) -> Result<Option<String>, Report> {
    let lower = value.to_ascii_lowercase();
    let abbreviates = |word: &str, shortest| lower.len() >= shortest && word.starts_with(&lower);
    if value == "database"
        || lower == "1"
        || abbreviates("true", 1)
        || abbreviates("yes", 1)
        || abbreviates("on", 2)
    {
        return Ok(Some(value.to_owned()));
    }
    if lower == "0" || abbreviates("false", 1) || abbreviates("no", 1) || abbreviates("off", 2) {
        return Ok(None);
    }
    let message = format!("invalid value for parameter \"replication\": \"{value}\"");
    Err(refusal(INVALID_PARAMETER_VALUE, message)
        .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."))
}

/// Words of `options`: split at white space, a backslash keeps the next character.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = options.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_ascii_whitespace() || *c == '\x0b').is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(c) = rest.next_if(|c| !(c.is_ascii_whitespace() || *c == '\x0b')) {
            match c {
                '\\' => word.extend(rest.next()),
                c => word.push(c),
            }
        }
        words.push(word);
    }
}

/// `-c name=value`, `-cname=value` and `--name=value`; PostgreSQL's other switches are shorthands
/// for settings, or would change the server process, which a pooled one must not.
fn switches(words: &[String], settings: &mut Vec<(Box<str>, Box<str>)>) -> Result<(), Report> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (switch, assignment) = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(""), _) => match words.next() {
                Some(word) => return Err(invalid_argument(word)),
                None => return Ok(()),
            },
            (Some(assignment), _) => (format!("--{assignment}"), assignment),
            (None, Some("")) => match words.next() {
                Some(assignment) => (format!("-c {assignment}"), assignment.as_str()),
                None => return Err(invalid_argument("-c")),
            },
            (None, Some(assignment)) => (format!("-c {assignment}"), assignment),
            (None, None) if word.starts_with('-') && word.len() > 1 => {
                let message = format!("unsupported startup option: {word}");
                return Err(refusal(sqlstate::FEATURE_NOT_SUPPORTED, message)
                    .hint("Pass settings as \"-c name=value\"."));
            }
            (None, None) => return Err(invalid_argument(word)),
        };
        let Some((name, value)) = assignment.split_once('=') else {
            return Err(refusal(SYNTAX_ERROR, format!("{switch} requires a value")));
        };
        set(settings, &name.replace('-', "_"), value)?;
    }
    Ok(())
}

fn invalid_argument(word: &str) -> Report {
    let message = format!("invalid command-line argument for server process: {word}");
    refusal(SYNTAX_ERROR, message)
}

/// Adds a setting; the last of a name wins.
fn set(settings: &mut Vec<(Box<str>, Box<str>)>, name: &str, value: &str) -> Result<(), Report> {
    // No setting of PostgreSQL or of an extension has another name (valid_custom_variable_name,
    // guc.c), and later code may write the name into a statement.
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$') || !c.is_ascii();
    if name.is_empty() || !name.chars().all(plain) {
        let message = format!("unrecognized configuration parameter \"{name}\"");
        return Err(refusal(UNDEFINED_OBJECT, message));
    }
    let name = spelling(name);
    match settings.iter_mut().find(|(known, _)| **known == *name) {
        Some((_, old)) => *old = value.into(),
        None => settings.push((name, value.into())),
    }
    Ok(())
}

/// Settings are named without regard to case; three that servers report have capitals.
fn spelling(name: &str) -> Box<str> {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "datestyle" => "DateStyle".into(),
        "intervalstyle" => "IntervalStyle".into(),
        "timezone" => "TimeZone".into(),
        _ => lower.into(),
    }
}

/// The version is sent whole, although the manual calls it the newest minor version.
fn negotiate(out: &mut Vec<u8>, minor: u32, unrecognised: &[&str]) {
    build::frame(out, b'v', |b| {
        b.extend_from_slice(&((3 << 16) | minor).to_be_bytes());
        // A startup packet is too small for more than fit.
        let count = u32::try_from(unrecognised.len()).unwrap_or(u32::MAX);
        b.extend_from_slice(&count.to_be_bytes());
        for name in unrecognised {
            build::cstr(b, name.as_bytes());
        }
    });
}

fn utf8(bytes: &[u8]) -> Result<&str, Report> {
    std::str::from_utf8(bytes).map_err(|_| {
        refusal(CHARACTER_NOT_IN_REPERTOIRE, "startup packet is not valid UTF-8")
            .hint("Names of users and databases and values of startup parameters must be UTF-8.")
    })
}

fn layout() -> Report {
    let message = "invalid startup packet layout: expected terminator as last byte";
    refusal(sqlstate::PROTOCOL_VIOLATION, message)
}

fn refusal(sqlstate: &'static str, message: impl Into<String>) -> Report {
    Report::fatal(Fault::Client, sqlstate, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(minor: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = wire::version(3, minor).to_be_bytes().to_vec();
        for (name, value) in pairs {
            build::cstr(&mut out, name.as_bytes());
            build::cstr(&mut out, value.as_bytes());
        }
        out.push(0);
        out
    }

    /// `user/database/replication name=value …`, or `SQLSTATE message`.
    fn show(packet: &[u8]) -> String {
        match parse(packet) {
            Err(report) => format!("{} {}", report.sqlstate, report.message),
            Ok(Parsed { startup: s, .. }) => {
                let mut out = format!("{}/{}", s.user, s.database);
                out.extend(s.replication.map(|word| format!("/{word}")));
                out.extend(s.settings.iter().map(|(name, value)| format!(" {name}={value}")));
                out
            }
        }
    }

    #[test]
    fn parameters() {
        let check = |pairs: &[(&str, &str)], expect: &str| {
            assert_eq!(show(&packet(0, pairs)), expect, "{pairs:?}");
        };
        check(&[("user", "u")], "u/u");
        check(&[("user", "u"), ("database", "")], "u/u");
        check(&[("user", "u"), ("database", "d")], "u/d");
        check(&[("user", "a"), ("user", "b")], "b/b");
        check(&[("user", "ü"), ("database", "数")], "ü/数");
        check(&[], "28000 no PostgreSQL user name specified in startup packet");
        check(&[("user", "")], "28000 no PostgreSQL user name specified in startup packet");
        check(&[("user", &"x".repeat(70)), ("database", "d")], &format!("{}/d", "x".repeat(63)));
        check(&[("user", &"é".repeat(40)), ("database", "d")], &format!("{}/d", "é".repeat(31)));
        let settings =
            [("user", "u"), ("TIMEZONE", "UTC"), ("DateStyle", "ISO"), ("Work_Mem", "1")];
        check(&settings, "u/u TimeZone=UTC DateStyle=ISO work_mem=1");
        check(&[("user", "u"), ("a", "1"), ("b", "2"), ("A", "3")], "u/u a=3 b=2");
        check(&[("user", "u"), ("app.x", "1")], "u/u app.x=1");
        check(&[("user", "u"), ("a b", "1")], "42704 unrecognized configuration parameter \"a b\"");
        check(&[("user", "u"), ("a;b", "1")], "42704 unrecognized configuration parameter \"a;b\"");
    }

    #[test]
    fn replication_is_a_boolean_or_database() {
        for word in ["true", "TRUE", "t", "on", "yes", "y", "1", "database"] {
            let text = show(&packet(0, &[("user", "u"), ("replication", word)]));
            assert_eq!(text, format!("u/u/{word}"));
        }
        for word in ["false", "f", "off", "of", "no", "0"] {
            assert_eq!(show(&packet(0, &[("user", "u"), ("replication", word)])), "u/u", "{word}");
        }
        for word in ["", "o", "2", "Database", "truee"] {
            let text = show(&packet(0, &[("user", "u"), ("replication", word)]));
            assert!(text.starts_with("22023 invalid value for parameter"), "{word}: {text}");
        }
    }

    #[test]
    fn options_are_split_and_read() {
        let check = |options: &str, expect: &str| {
            let text = show(&packet(0, &[("options", options), ("user", "u")]));
            assert_eq!(text, expect, "{options}");
        };
        check("", "u/u");
        check(" \t", "u/u");
        check("-c a=1", "u/u a=1");
        check("-ca=1 -c  b=2", "u/u a=1 b=2");
        check("--search-path=x,y --TimeZone=UTC", "u/u search_path=x,y TimeZone=UTC");
        check("-c a=1\\ 2 -c b=\\\\", "u/u a=1 2 b=\\");
        check("-c a=1 -c a=2", "u/u a=2");
        check("-c a=x=y --", "u/u a=x=y");
        check("-c a=", "u/u a=");
        check("-c a=\\", "u/u a=");
        check("-c", "42601 invalid command-line argument for server process: -c");
        check("-c a", "42601 -c a requires a value");
        check("--a", "42601 --a requires a value");
        check("-c =1", "42704 unrecognized configuration parameter \"\"");
        check("-S 5", "0A000 unsupported startup option: -S");
        check("-", "42601 invalid command-line argument for server process: -");
        check("x", "42601 invalid command-line argument for server process: x");
        check("-- x", "42601 invalid command-line argument for server process: x");
        let both = packet(0, &[("a", "packet"), ("options", "-c a=option"), ("user", "u")]);
        assert_eq!(show(&both), "u/u a=packet");
    }

    #[test]
    fn layouts() {
        let check = |tail: &[u8], expect: &str| {
            let bytes = [&wire::version(3, 0).to_be_bytes()[..], tail].concat();
            assert!(show(&bytes).starts_with(expect), "{tail:?}: {}", show(&bytes));
        };
        check(b"user\0u\0\0", "u/u");
        check(b"", "08P01");
        check(b"user\0u\0", "08P01");
        check(b"user\0u", "08P01");
        check(b"user\0\0", "08P01");
        check(b"user\0u\0\0x", "08P01");
        check(b"user\0u\0\0\0", "08P01");
        check(b"user\0\xff\0\0", "22021");
        assert!(show(b"\0\x03").starts_with("08P01"));
    }

    #[test]
    fn versions_are_negotiated() {
        let pairs = |option: bool| match option {
            true => vec![("user", "u"), ("_pq_.future", "1"), ("_pq_.more", "")],
            false => vec![("user", "u")],
        };
        let v = |minor: u8, tail: &[u8]| {
            let mut out =
                vec![b'v', 0, 0, 0, u8::try_from(8 + tail.len()).unwrap(), 0, 3, 0, minor];
            out.extend(tail);
            out
        };
        let none: &[u8] = &[0, 0, 0, 0];
        let two: &[u8] = b"\0\0\0\x02_pq_.future\0_pq_.more\0";
        for (minor, option, in_force, expect) in [
            (0, false, 0, vec![]),
            (1, false, 0, vec![]),
            (2, false, 2, vec![]),
            (3, false, 2, v(2, none)),
            (9999, false, 2, v(2, none)),
            (0, true, 0, v(0, two)),
            (2, true, 2, v(2, two)),
            (9999, true, 2, v(2, two)),
        ] {
            let parsed = parse(&packet(minor, &pairs(option))).unwrap();
            assert_eq!(parsed.startup.protocol, wire::version(3, in_force), "3.{minor}");
            assert_eq!(parsed.negotiation, expect, "3.{minor} {option}");
        }
        for (major, minor) in [(2, 0), (4, 0), (1234, 5679)] {
            let text = show(&wire::version(major, minor).to_be_bytes());
            let expect = format!("unsupported frontend protocol {major}.{minor}: server supports");
            assert_eq!(text, format!("0A000 {expect} 3.0 to 3.2"));
        }
    }

    #[test]
    fn cancel_keys() {
        assert_eq!(cancel_key(&[0, 0, 0, 7, 1, 2, 3, 4]).unwrap(), (7, [1, 2, 3, 4].into()));
        for (bytes, expect) in [(7, false), (8, true), (36, true), (260, true), (261, false)] {
            assert_eq!(cancel_key(&vec![1; bytes]).is_ok(), expect, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[&wire::version(3, 0).to_be_bytes()[..], &bytes].concat());
            let _ = cancel_key(&bytes);
        }

        #[test]
        fn no_options_make_it_panic(options in "[-c=a \\\\é]{0,40}") {
            let _ = parse(&packet(2, &[("user", "u"), ("options", &options)]));
        }
    }
}
