//! SET in all its forms.

use super::*;

#[test]
fn literals() {
    check("SET x = 1", "Set: x=[1]");
    check("set statement_timeout to '5s'", "Set: statement_timeout=[5s]");
    check("SET SESSION Work_Mem = '64MB'", "Set: work_mem=[64MB]");
    check("SET enable_seqscan = off", "Set: enable_seqscan=[off]");
    check("SET enable_seqscan TO True", "Set: enable_seqscan=[true]");
    check("SET a = 'it''s'", "Set: a=[it's]");
    check("SET a = E'it\\'s'", "Set: a=[it's]");
    check("SET a = $$it's$$", "Set: a=[it's]");
    check("SET a = 'x'\n'y'", "Set: a=[xy]");
    check("SET a = ''", "Set: a=[]");
    check("SET a = \"MixedCase\"", "Set: a=[MixedCase]");
    check("SET a = MixedCase", "Set: a=[mixedcase]");
    check("SET a = -1", "Set: a=[-1]");
    check("SET a =-1", "Set: a=[-1]");
    check("SET a = + 1.50", "Set: a=[1.50]");
    check("SET a = 1e3", "Set: a=[1e3]");
    check("SET a = 007", "Set: a=raw");
    check("SET a = 1_000", "Set: a=raw");
    check("SET a = 0x1F", "Set: a=raw");
    check("SET a = U&'\\0061'", "Set: a=raw");
    check("SET a = E'\\101'", "Set: a=raw");
    check("SET a = \u{c9}T\u{c9}", "Set: a=raw");
    check("SET a TO DEFAULT", "Set: a=default");
    check("SET a = default", "Set: a=default");
    check("SET a = 'default'", "Set: a=[default]");
    check("SET a FROM CURRENT", "Set");
    check("SET datestyle = ISO, DMY", "Set: datestyle=raw");
    check("SET datestyle = 'ISO, DMY'", "Set: datestyle=[ISO, DMY]");
    check("SET a", "Set");
    check("SET", "Set");
    check("SET a =", "Set: a=raw");
    check("SET a = 'x", "Set!: a=raw");
    check("SET a = '1' /* c */ -- d", "Set: a=[1]");
}

#[test]
fn names() {
    check("SET \"TimeZone\" = 'UTC'", "Set: timezone=[UTC]");
    check("SET My.App_User = 'x'", "Set: my.app_user=[x]");
    check("SET my . \"Var\" . z = 'x'", "Set: my.var.z=[x]");
    check("SET session.user_id = 1", "Set: session.user_id=[1]");
    check("SET local.x TO 1", "Set: local.x=[1]");
    check("SET SESSION local.x TO 1", "Set: local.x=[1]");
    check("SET role = 'admin'", "Set: role=[admin]");
    check("SET session_authorization = bob", "Set: session_authorization=[bob]");
    check("SET U&\"\\0061\" = 1", "Set: computed");
    check("SET \"a\"\"b\" = 1", "Set: a\"b=[1]");
}

#[test]
fn special_forms() {
    check("SET TIME ZONE 'Europe/Berlin'", "Set: timezone=[Europe/Berlin]");
    check("set session time zone utc", "Set: timezone=[utc]");
    check("SET TIME ZONE -7", "Set: timezone=[-7]");
    check("SET TIME ZONE LOCAL", "Set: timezone=default");
    check("SET TIME ZONE DEFAULT", "Set: timezone=default");
    check("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "Set: timezone=raw");
    check("SET NAMES 'UTF8'", "Set: client_encoding=[UTF8]");
    check("SET NAMES", "Set: client_encoding=default");
    check("SET NAMES DEFAULT", "Set: client_encoding=default");
    check("SET ROLE admin", "Set: role=[admin]");
    check("SET ROLE \"Admin\"", "Set: role=[Admin]");
    check("SET ROLE 'x y'", "Set: role=[x y]");
    check("SET ROLE NONE", "Set: role=[none]");
    check("SET SESSION ROLE admin", "Set: role=[admin]");
    check("SET SESSION AUTHORIZATION bob", "Set: session_authorization=[bob]");
    check("SET SESSION SESSION AUTHORIZATION 'bob'", "Set: session_authorization=[bob]");
    check("SET SESSION AUTHORIZATION DEFAULT", "Set: session_authorization=default");
    check("SET XML OPTION DOCUMENT", "Set: xmloption=[document]");
    check("SET SCHEMA 'Tenant'", "Set: search_path=[\"Tenant\"]");
    check("SET SCHEMA 'tenant'", "Set: search_path=[tenant]");
    check("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "Set: local");
    check("SET TRANSACTION SNAPSHOT '00000003-1'", "Set: local");
    check("SET CONSTRAINTS ALL DEFERRED", "Set");
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "Set: default_transaction_isolation=[repeatable read], default_transaction_read_only=[on]",
    );
    check(
        "set session characteristics as transaction read write not deferrable isolation level serializable",
        "Set: default_transaction_read_only=[off], default_transaction_deferrable=[off], \
         default_transaction_isolation=[serializable]",
    );
    check(
        "SET SESSION CHARACTERISTICS AS TRANSACTION DEFERRABLE",
        "Set: default_transaction_deferrable=[on]",
    );
    check("SET transaction_isolation = 'serializable'", "Set: local");
    check("SET transaction_read_only TO on", "Set: local");
    check("SET seed TO 0.5", "Set: pin RandomSeed");
}

#[test]
fn search_path() {
    check("SET search_path = public", "Set: search_path=[public]");
    check("SET search_path TO a, \"B\", 'c d'", "Set: search_path=[a, \"B\", \"c d\"]");
    check("SET search_path = \"$user\", public", "Set: search_path=[\"$user\", public]");
    check("SET search_path = 'a, b'", "Set: search_path=[\"a, b\"]");
    check("SET search_path = ''", "Set: search_path=[\"\"]");
    check("SET search_path = DEFAULT", "Set: search_path=default");
    check("SET search_path = 1", "Set: search_path=raw");
    check("SET search_path = a,", "Set: search_path=raw");
    check("SET search_path = public, pg_temp", "Set: search_path=[public, pg_temp]");
    check(
        "SET search_path = pg_temp, public",
        "Set: search_path=[pg_temp, public], pin TempSchema",
    );
    check(
        "SELECT set_config('search_path', 'pg_temp', false)",
        "Select: search_path=[pg_temp], pin TempSchema",
    );
    check("SET temp_tablespaces = 'Fast'", "Set: temp_tablespaces=[\"Fast\"]");
}

#[test]
fn local() {
    check("SET LOCAL a = 1", "Set: local");
    check("SET LOCAL ROLE admin", "Set: local");
    check("SET LOCAL TIME ZONE 'UTC'", "Set: local");
    check("SET LOCAL SESSION AUTHORIZATION bob", "Set: local");
    check("SET LOCAL search_path = pg_temp", "Set: local");
}

#[test]
fn reset() {
    check("RESET Work_Mem", "Reset: reset work_mem");
    check("RESET my.var", "Reset: reset my.var");
    check("RESET ALL", "Reset: reset all");
    check("RESET TIME ZONE", "Reset: reset timezone");
    check("RESET ROLE", "Reset: reset role");
    check("RESET SESSION AUTHORIZATION", "Reset: reset session_authorization");
    check("RESET TRANSACTION ISOLATION LEVEL", "Reset");
    check("RESET transaction_isolation", "Reset");
    check("RESET session.x", "Reset: reset session.x");
    check("SHOW work_mem", "Show");
}

#[test]
fn set_config() {
    check("SELECT set_config('A.b', 'x', false)", "Select: a.b=[x]");
    check("select pg_catalog.SET_CONFIG('search_path', '', false);", "Select: search_path=[]");
    check("select set_config('search_path', 'a, b', false)", "Select: search_path=[a, b]");
    check(
        "select 1, set_config('a', '1', false) as x, set_config('b', '2', 'f')",
        "Select: a=[1], b=[2]",
    );
    check("select set_config('a'::text, 'x'::varchar, false::bool)", "Select: a=[x]");
    check("select set_config('a', NULL, false)", "Select: a=default");
    check("select set_config('a', 'x', NULL)", "Select: a=[x]");
    check("select \"set_config\"('a', 'x', false)", "Select: a=[x]");
    check("select set_config('a', 'x', true)", "Select");
    check("select set_config('a', $1, true)", "Select");
    check("select set_config('a', current_setting('b') || f(1, 2), true)", "Select");
    check("select set_config('a', 'x', 't')", "Select");
    check("select set_config('a', $1, false)", "Select: computed");
    check("select set_config($1, 'x', false)", "Select: computed");
    check("select set_config('a', 'x', $1)", "Select: computed");
    check("select set_config('a', 'x' || 'y', false)", "Select: computed");
    check("select set_config('a', ('x'), false)", "Select: computed");
    check("select set_config('a', 'x', is_local => false)", "Select: computed");
    check("select set_config('a', 'x')", "Select: computed");
    check("select set_config('a', $1, false), set_config('b', $2, false)", "Select: computed");
    check("select set_config('a', 'x', false) where false", "Select: computed");
    check("select set_config('a', 'x', false) from t", "Select: computed");
    check("select case when f() then set_config('a', 'x', false) end", "Select: computed");
    check("select coalesce(set_config('a', 'x', false), 'y')", "Select: computed");
    check("(select set_config('a', 'x', false))", "Select: computed");
    check("with x as (select set_config('a', 'x', false)) select 1", "With: computed");
    check("insert into t select set_config('a', 'x', false)", "Insert: computed");
    check("values (set_config('a', 'x', false))", "Values: computed");
    check("select 'set_config(''a'', ''x'', false)'", "Select");
    check("select 1 -- set_config('a', 'x', false)", "Select");
    check("select set_config from t", "Select");
    check("select \"SET_CONFIG\"('a', 'x', false)", "Select");
    check("select my_set_config('a', 'x', false)", "Select");
    check("select set_config('seed', '0.5', false)", "Select: pin RandomSeed");
    check("select set_config('a', 'x', false), set_config('b'", "Select: a=[x], computed");
}

#[test]
fn updating_the_view_of_settings() {
    check("UPDATE pg_settings SET setting = 'x' WHERE name = 'a'", "Update: computed");
    check("update only pg_catalog.\"pg_settings\" set setting = 'x'", "Update: computed");
    check(
        "with x as (update pg_settings set setting = '1' returning 1) select 1",
        "With: computed",
    );
    check("update t set a = (select setting from pg_settings)", "Update");
    check("with x as (select * from pg_settings) select 1", "With");
    check("select * from pg_settings", "Select");
}
