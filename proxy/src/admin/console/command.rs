//! The console's language: PgBouncer's commands, and what drivers send without being asked.
//!
//! Text in, commands out; nothing is executed here. Words are separated as in PgBouncer
//! (usage manual, "Admin console"): case does not matter, names may be quoted.

use crate::error::{Fault, Report};
use crate::limits;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Show(Show),
    /// `SELECT` of one constant: how drivers and pools ask whether anybody is there.
    Select(Constant),
    Set {
        key: String,
        value: String,
    },
    Pause(Option<String>),
    Resume(Option<String>),
    Disable(String),
    Enable(String),
    Reconnect(Option<String>),
    Kill(Option<String>),
    KillClient(u64),
    Suspend,
    Shutdown(Shutdown),
    Reload,
    WaitClose(Option<String>),
    /// BEGIN: accepted, so that drivers without autocommit work.
    Begin,
    /// COMMIT or ROLLBACK, with its tag.
    End(&'static str),
    /// Accepted without effect, with its tag.
    Nothing(&'static str),
}

/// What SHOW shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Help,
    Version,
    Config,
    Databases,
    Pools,
    PeerPools,
    Clients,
    Servers,
    Sockets,
    ActiveSockets,
    Lists,
    Users,
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Mem,
    Fds,
    DnsHosts,
    DnsZones,
    State,
    Peers,
    Nodes,
    /// A setting of PostgreSQL that drivers look at; name and value.
    Parameter(&'static str, &'static str),
}

/// What SELECT answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Constant {
    Int(i64),
    Version,
    Database,
    User,
}

/// How to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// At once.
    Now,
    /// After transactions.
    WaitForServers,
    /// After sessions.
    WaitForClients,
}

/// Settings of PostgreSQL that a console session seems to have; SET of them is ignored.
pub(super) const PARAMETERS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("datestyle", "ISO"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "0"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("lock_timeout", "0"),
    ("search_path", ""),
    ("server_version", super::SERVER_VERSION),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("timezone", "GMT"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
];

const SHOWS: &[(&str, Show)] = &[
    ("active_sockets", Show::ActiveSockets),
    ("clients", Show::Clients),
    ("config", Show::Config),
    ("databases", Show::Databases),
    ("dns_hosts", Show::DnsHosts),
    ("dns_zones", Show::DnsZones),
    ("fds", Show::Fds),
    ("help", Show::Help),
    ("lists", Show::Lists),
    ("mem", Show::Mem),
    ("nodes", Show::Nodes),
    ("peer_pools", Show::PeerPools),
    ("peers", Show::Peers),
    ("pools", Show::Pools),
    ("servers", Show::Servers),
    ("sockets", Show::Sockets),
    ("state", Show::State),
    ("stats", Show::Stats),
    ("stats_averages", Show::StatsAverages),
    ("stats_totals", Show::StatsTotals),
    ("totals", Show::Totals),
    ("users", Show::Users),
    ("version", Show::Version),
];

/// The commands of `sql`, separated by semicolons; none when it says nothing.
pub(super) fn parse(sql: &str) -> Result<Vec<Command>, Report> {
    let mut commands = Vec::new();
    for tokens in tokens(sql)?.split(|t| *t == Token::Punct(';')) {
        if tokens.is_empty() {
            continue;
        }
        if commands.len() == limits::CONSOLE_COMMANDS_MAX {
            return Err(syntax("too many commands in one query"));
        }
        commands.push(command(tokens)?);
    }
    Ok(commands)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// As written.
    Word(String),
    /// Quoted, without its quotes.
    Quoted(String),
    /// A string, without its quotes.
    Text(String),
    Punct(char),
}

fn syntax(message: impl Into<String>) -> Report {
    Report::error(Fault::Client, super::SYNTAX_ERROR, message)
        .hint("SHOW HELP lists what this console understands.")
}

fn command(tokens: &[Token]) -> Result<Command, Report> {
    let invalid = || syntax(format!("invalid command: {}", written(tokens)));
    let Some((Token::Word(verb), rest)) = tokens.split_first() else { return Err(invalid()) };
    let verb = verb.to_ascii_lowercase();
    let none = |command: Command| if rest.is_empty() { Ok(command) } else { Err(invalid()) };
    let optional = || match rest {
        [] => Ok(None),
        [one] => name(one).map(Some).ok_or_else(invalid),
        _ => Err(invalid()),
    };
    let database =
        || optional()?.ok_or_else(|| syntax(format!("{} needs a database", verb.to_uppercase())));
    match verb.as_str() {
        "show" => show(rest).ok_or_else(invalid),
        "select" => select(rest).ok_or_else(invalid),
        "set" => set(rest).ok_or_else(invalid),
        "pause" => Ok(Command::Pause(optional()?)),
        "resume" => Ok(Command::Resume(optional()?)),
        "disable" => Ok(Command::Disable(database()?)),
        "enable" => Ok(Command::Enable(database()?)),
        "reconnect" => Ok(Command::Reconnect(optional()?)),
        "kill" => Ok(Command::Kill(optional()?)),
        "wait_close" => Ok(Command::WaitClose(optional()?)),
        "kill_client" => match optional()?.and_then(|id| id.parse().ok()) {
            Some(id) => Ok(Command::KillClient(id)),
            None => Err(syntax("KILL_CLIENT needs an id as SHOW CLIENTS shows it")),
        },
        "shutdown" => match optional()?.map(|how| how.to_ascii_lowercase()).as_deref() {
            None => Ok(Command::Shutdown(Shutdown::Now)),
            Some("wait_for_servers") => Ok(Command::Shutdown(Shutdown::WaitForServers)),
            Some("wait_for_clients") => Ok(Command::Shutdown(Shutdown::WaitForClients)),
            Some(_) => Err(invalid()),
        },
        "suspend" => none(Command::Suspend),
        "reload" => none(Command::Reload),
        // Whatever stands behind these (isolation levels, ALL) changes nothing here.
        "begin" | "start" => Ok(Command::Begin),
        "commit" | "end" => Ok(Command::End("COMMIT")),
        "rollback" | "abort" => Ok(Command::End("ROLLBACK")),
        "discard" => Ok(Command::Nothing("DISCARD ALL")),
        "deallocate" => Ok(Command::Nothing("DEALLOCATE")),
        "reset" => Ok(Command::Nothing("RESET")),
        _ => Err(invalid()),
    }
}

fn name(token: &Token) -> Option<String> {
    match token {
        Token::Word(s) | Token::Quoted(s) => Some(s.clone()),
        Token::Text(_) | Token::Punct(_) => None,
    }
}

fn show(rest: &[Token]) -> Option<Command> {
    let what = match rest {
        [one] => name(one)?.to_ascii_lowercase(),
        // JDBC asks for it in SQL's words.
        [Token::Word(a), Token::Word(b), Token::Word(c)]
            if [a, b, c]
                .iter()
                .zip(["transaction", "isolation", "level"])
                .all(|(word, expect)| word.eq_ignore_ascii_case(expect)) =>
        {
            "transaction_isolation".to_owned()
        }
        _ => return None,
    };
    if let Some((_, show)) = SHOWS.iter().find(|(name, _)| *name == what) {
        return Some(Command::Show(*show));
    }
    let (name, value) = PARAMETERS.iter().find(|(name, _)| *name == what)?;
    Some(Command::Show(Show::Parameter(name, value)))
}

fn select(rest: &[Token]) -> Option<Command> {
    let (Token::Word(what), behind) = rest.split_first()? else { return None };
    let what = what.to_ascii_lowercase();
    let call = behind == [Token::Punct('('), Token::Punct(')')];
    let constant = match what.as_str() {
        "version" if call => Constant::Version,
        "current_database" if call => Constant::Database,
        "current_user" | "session_user" | "user" if behind.is_empty() => Constant::User,
        number if behind.is_empty() && number.starts_with(|c: char| c.is_ascii_digit()) => {
            Constant::Int(number.parse().ok()?)
        }
        // PgBouncer takes `SELECT stats` for `SHOW stats`.
        _ if behind.is_empty() => return show(rest),
        _ => return None,
    };
    Some(Command::Select(constant))
}

fn set(rest: &[Token]) -> Option<Command> {
    let rest = match rest {
        // SET SESSION CHARACTERISTICS and SET TRANSACTION speak of transactions, which change
        // nothing here.
        [Token::Word(word), _, ..]
            if word.eq_ignore_ascii_case("transaction")
                || rest.iter().any(|t| is_word(t, "characteristics")) =>
        {
            return Some(Command::Nothing("SET"));
        }
        [first, rest @ ..] if is_word(first, "session") || is_word(first, "local") => rest,
        rest => rest,
    };
    let (key, rest) = rest.split_first()?;
    let key = name(key)?.to_ascii_lowercase();
    if key == "time" && rest.first().is_some_and(|t| is_word(t, "zone")) {
        return Some(Command::Set { key: "timezone".into(), value: String::new() });
    }
    let (equals, value) = rest.split_first()?;
    if *equals != Token::Punct('=') && !is_word(equals, "to") {
        return None;
    }
    let value = match value {
        [Token::Word(v) | Token::Quoted(v) | Token::Text(v)] => v.clone(),
        // search_path takes a list; nobody reads it.
        list if list.len() > 1 && PARAMETERS.iter().any(|(name, _)| *name == key) => String::new(),
        _ => return None,
    };
    Some(Command::Set { key, value })
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.eq_ignore_ascii_case(word))
}

/// The command for an error message, shortened.
fn written(tokens: &[Token]) -> String {
    let mut out = String::new();
    for token in tokens {
        if !out.is_empty() {
            out.push(' ');
        }
        match token {
            Token::Word(s) => out.push_str(s),
            Token::Quoted(s) => out.push_str(&format!("{s:?}")),
            // A string may be a secret that was typed into the wrong window.
            Token::Text(_) => out.push_str("'…'"),
            Token::Punct(c) => out.push(*c),
        }
        if out.len() > 60 {
            return out.chars().take(60).chain(['…']).collect();
        }
    }
    out
}

fn tokens(sql: &str) -> Result<Vec<Token>, Report> {
    let mut tokens = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '-' if chars.peek() == Some(&'-') => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '/' if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                chars.next();
                if !chars.by_ref().any(|c| std::mem::replace(&mut last, c) == '*' && c == '/') {
                    return Err(syntax("unterminated comment"));
                }
            }
            '"' => tokens.push(Token::Quoted(quoted(&mut chars, '"')?)),
            '\'' => tokens.push(Token::Text(quoted(&mut chars, '\'')?)),
            c if is_word_char(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word_char(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => tokens.push(Token::Punct(c)),
        }
    }
    Ok(tokens)
}

/// Database names are often written with dots and dashes, and nothing here computes.
fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '*' | '@' | ':')
}

fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    quote: char,
) -> Result<String, Report> {
    let mut out = String::new();
    while let Some(c) = chars.next() {
        if c != quote {
            out.push(c);
        } else if chars.next_if_eq(&quote).is_some() {
            out.push(quote);
        } else {
            return Ok(out);
        }
    }
    Err(syntax("unterminated quoted text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expect: &[Command]) {
        assert_eq!(parse(sql).as_deref(), Ok(expect), "{sql}");
    }

    #[test]
    fn commands() {
        let db = || Some("my-db".to_owned());
        check("", &[]);
        check(" ; -- ping\n;/* still * nothing */", &[]);
        check("SHOW POOLS", &[Command::Show(Show::Pools)]);
        check(
            "show pools;Show \"stats\" ;",
            &[Command::Show(Show::Pools), Command::Show(Show::Stats)],
        );
        check("select lists", &[Command::Show(Show::Lists)]);
        check("SELECT 1", &[Command::Select(Constant::Int(1))]);
        check("select version ( )", &[Command::Select(Constant::Version)]);
        check("PAUSE", &[Command::Pause(None)]);
        check("pause my-db", &[Command::Pause(db())]);
        check("RESUME \"my-db\"", &[Command::Resume(db())]);
        check("KILL_CLIENT 17", &[Command::KillClient(17)]);
        check("shutdown WAIT_for_servers", &[Command::Shutdown(Shutdown::WaitForServers)]);
        let set = |k: &str, v: &str| Command::Set { key: k.into(), value: v.into() };
        check("SET extra_float_digits = 3", &[set("extra_float_digits", "3")]);
        check("SET log_level TO 'it''s'", &[set("log_level", "it's")]);
        check("set session datestyle to 'ISO'", &[set("datestyle", "ISO")]);
        check("SET TIME ZONE 'UTC'", &[set("timezone", "")]);
        check("SET search_path = a, b", &[set("search_path", "")]);
        check("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", &[Command::Nothing("SET")]);
        check("BEGIN READ ONLY; COMMIT", &[Command::Begin, Command::End("COMMIT")]);
        check("SHOW client_encoding", &[Command::Show(Show::Parameter("client_encoding", "UTF8"))]);
    }

    #[test]
    fn refusals_point_at_help() {
        for sql in [
            "SHOW",
            "SHOW everything",
            "SELECT * FROM pg_class",
            "DISABLE",
            "KILL_CLIENT x",
            "PAUSE 'a'",
            "RELOAD now",
            "SET x",
            "SHUTDOWN later",
            "'lonely'",
            "SHOW \"POOLS",
            "SHOW POOLS /* ",
        ] {
            let report = parse(sql).unwrap_err();
            assert_eq!(report.sqlstate, "42601", "{sql}");
            assert!(report.hint.unwrap().contains("SHOW HELP"), "{sql}");
        }
        assert!(!parse("FROB 'hunter2'").unwrap_err().message.contains("hunter2"));
        let many = "SHOW POOLS;".repeat(limits::CONSOLE_COMMANDS_MAX + 1);
        assert!(parse(&many).is_err());
    }
}
