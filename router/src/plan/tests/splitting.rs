//! Where statements end.

use super::*;

/// The texts of all statements.
fn split(sql: &str, expect: &[&str]) {
    let plans = statements(sql.as_bytes(), LexOptions::default());
    let texts: Vec<_> = plans.map(|plan| &sql[plan.span]).collect();
    assert_eq!(texts, expect, "{sql}");
}

#[test]
fn plain() {
    split("", &[]);
    split(" ; ;; -- x\n /* ; */ ;", &[]);
    split("select 1", &["select 1"]);
    split(" select 1 ; ", &["select 1"]);
    split("select 1;select 2;", &["select 1", "select 2"]);
    split("/* a */ select 1 /* b */ ; -- c", &["select 1"]);
    split("select 1 -- ;\n;select 2", &["select 1", "select 2"]);
    split(
        "select ';' ; select \";\" ; select $$;$$",
        &["select ';'", "select \";\"", "select $$;$$"],
    );
    split("select E'\\';' ; select 2", &["select E'\\';'", "select 2"]);
    split("select '\\' ; select 2", &["select '\\'", "select 2"]);
    split("select /* /* ; */ ; */ 1; select 2", &["select /* /* ; */ ; */ 1", "select 2"]);
    split("select $a$ ; $b$ ; $a$; select 2", &["select $a$ ; $b$ ; $a$", "select 2"]);
    split("select a$b$;select c$b$", &["select a$b$", "select c$b$"]);
    split("select 'a'\n';'; select 2", &["select 'a'\n';'", "select 2"]);
    split("(select 1);(select 2)", &["(select 1)", "(select 2)"]);
    split("select (1; 2); select 3", &["select (1; 2)", "select 3"]);
    split("select 1); select 2", &["select 1)", "select 2"]);
    split("select 1;garbage;select 2", &["select 1", "garbage", "select 2"]);
    split("select 'open; select 2", &["select 'open; select 2"]);
    split("begin; end; select 1", &["begin", "end", "select 1"]);
    split("begin atomic; select 1", &["begin atomic", "select 1"]);
    split(
        "select case when true then 1 end; select 2",
        &["select case when true then 1 end", "select 2"],
    );
}

#[test]
fn rules() {
    let rule = "create rule r as on insert to t do also (insert into a values (1); delete from b)";
    split(&format!("{rule};select 2"), &[rule, "select 2"]);
    let rule = "create or replace rule r as on update to t do instead nothing";
    split(&format!("{rule};select 2"), &[rule, "select 2"]);
}

#[test]
fn routine_bodies() {
    let whole = |body: &str| split(&format!("{body};select 2"), &[body, "select 2"]);
    whole("create function f() returns int language sql begin atomic select 1; select 2; end");
    whole("CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); END");
    whole("create function f() returns int begin atomic; end");
    whole(
        "create function f() returns int begin atomic select case when true then 1 else 2 end; select 3; end",
    );
    whole(
        "create function f() returns int begin atomic select case case 1 when 1 then 1 end when 1 then 2 end; end",
    );
    whole(
        "create function f() returns int begin atomic select (case when true then 1 end); select 2; end",
    );
    whole(
        "create function f() returns int begin atomic select 1 as end; select 2 as case; select 3; end",
    );
    whole("create function f() returns int begin atomic select t.end from t; select 3; end");
    whole("create function f() returns int begin atomic select 'end;'; select \"end\"; end");
    whole("create function f() returns int begin /* x */ atomic select 1; -- end\n end");
    whole("create function f() returns int as $$ begin; end; $$ language plpgsql");
    whole("create function f(a int default 1) returns int return a + 1");
    whole("create function \"begin\"() returns int return 1");
    whole("create function begin() returns int return 1");
    whole("create function f() returns int language sql as 'select 1; select 2'");
    // Neither starts a routine.
    split("create table function(a int);select 2", &["create table function(a int)", "select 2"]);
    split(
        "create view begin as select 1; end; select 2",
        &["create view begin as select 1", "end", "select 2"],
    );
    split("drop function f; select 2", &["drop function f", "select 2"]);
    split(
        "create function f() returns int begin atomic select 1; select 2",
        &["create function f() returns int begin atomic select 1; select 2"],
    );
}

#[test]
fn completeness() {
    let check = |sql: &str, expect: bool| {
        let mut plans = statements(sql.as_bytes(), LexOptions::default());
        let each = plans.by_ref().all(|plan| plan.complete);
        assert_eq!(each && plans.is_complete(), expect, "{sql}");
    };
    check("select 1; select 'a'", true);
    check("select 'a", false);
    check("select \"a", false);
    check("select $$a", false);
    check("select 1 /* x", false);
    check("select 1; /* x", false);
    check("select 1; -- x", true);
    check("select (1", true);
}

#[test]
fn a_backslash_inside_of_a_character() {
    let split = |options: LexOptions, sql: &[u8], expect: usize| {
        assert_eq!(statements(sql, options).count(), expect, "{sql:x?}");
    };
    let options = |encoding, standard_conforming_strings| LexOptions {
        standard_conforming_strings,
        encoding,
    };
    // With the wrong encoding the quote seems escaped, and what follows seems a string.
    let sql = b"select '\x95\x5c'; set role postgres; select ''";
    split(options(Encoding::Sjis, false), sql, 3);
    split(options(Encoding::AsciiSafe, false), sql, 1);
    split(options(Encoding::AsciiSafe, true), sql, 3);
    split(options(Encoding::Big5, false), b"select '\xa5\x5c'; select 2", 2);
    split(options(Encoding::Gbk, true), b"select E'\x81\x5c'; select 2", 2);
    check_with(options(Encoding::Sjis, true), b"select \x83\x5c from t", "Select");
    check_with(
        options(Encoding::Sjis, true),
        b"set x.y = E'\x95\x5c\\''",
        "Set: x.y=[\u{fffd}\\']",
    );
}
