//! Transactions, prepared statements, cursors, channels and what pins a server.

use super::*;

#[test]
fn queries() {
    check("SELECT abalance FROM pgbench_accounts WHERE aid = 1", "Select");
    check("(((select 1) union (select 2)))", "Select");
    check("(values (1))", "Values");
    check("((delete from t))", "Unknown");
    check("insert into t values (1) on conflict do nothing", "Insert");
    check("update t set a = 1", "Update");
    check("delete from t", "Delete");
    check("merge into t using s on true when matched then do nothing", "Merge");
    check("table t", "Table");
    check("with a as (select 1) select * from a", "With");
    check("\"select\" 1", "Unknown");
    check("selec 1", "Unknown");
    check("1", "Unknown");
    check("anextremelylongword", "Unknown");
    check("lock table t in share mode", "Lock");
    check("call p(1)", "Call");
    check("do $$ begin insert into t values (1); update t set a = 1; end $$", "Do");
    check("do $$ begin set local work_mem = '1GB'; end $$", "Do");
    check("do $$ begin perform pg_advisory_xact_lock(1); end $$", "Do");
    check("do $$ begin perform pg_advisory_lock(1); end $$", "Do: pin AdvisoryLock");
    check("do language plpgsql $x$ begin set enable_bitmapscan = 0; end $x$", "Do: computed");
    check("do 'begin if true then reset all; end if; end'", "Do: computed");
    check("do $$ begin execute 'set a.b = 1'; end $$", "Do: computed");
    check("do $$ begin perform set_config('a', 'b', true); end $$", "Do: computed");
    check("do $$ begin create temp table t (a int); end $$", "Do: pin TempTable");
    check("truncate t", "Ddl");
    check("vacuum full t", "Utility");
    check("alter system set work_mem = '1GB'", "Utility");
    check("alter table t add column a int", "Ddl");
    check("alter role x set work_mem = '1GB'", "Ddl");
    check("checkpoint", "Utility");
}

#[test]
fn transactions() {
    check("BEGIN", "Begin: begin");
    check("begin work", "Begin: begin");
    check("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", "Begin: begin");
    check("START TRANSACTION READ ONLY", "Begin: begin");
    check("START", "Unknown");
    check("COMMIT", "Commit: commit");
    check("commit and chain", "Commit: commit chain");
    check("COMMIT WORK AND NO CHAIN", "Commit: commit");
    check("END TRANSACTION AND CHAIN", "Commit: commit chain");
    check("commit prepared 'x'", "Utility");
    check("ROLLBACK", "Rollback: rollback");
    check("rollback transaction and chain", "Rollback: rollback chain");
    check("ABORT", "Rollback: rollback");
    check("abort work and chain", "Rollback: rollback chain");
    check("ROLLBACK PREPARED 'x'", "Utility");
    check("PREPARE TRANSACTION 'x'", "PrepareTransaction: prepare transaction");
    check("SAVEPOINT Sp1", "Savepoint: savepoint sp1");
    check("savepoint \"Sp 1\"", "Savepoint: savepoint Sp 1");
    check("SAVEPOINT", "Savepoint");
    check("RELEASE a", "Release: release a");
    check("RELEASE SAVEPOINT a", "Release: release a");
    check("release savepoint", "Release: release savepoint");
    check("ROLLBACK TO a", "RollbackTo: rollback to a");
    check("rollback work to savepoint a", "RollbackTo: rollback to a");
    check("rollback transaction to savepoint savepoint", "RollbackTo: rollback to savepoint");
    check("begin; insert into t values (1); commit", "Begin: begin; Insert; Commit: commit");
}

#[test]
fn prepared_statements() {
    check("PREPARE p AS SELECT 1", "Prepare: prepare <p> <AS SELECT 1> <SELECT 1>");
    check(
        "prepare \"P 1\" (int, numeric(1,2)) as select $1 ; select 2",
        "Prepare: prepare <\"P 1\"> <(int, numeric(1,2)) as select $1> <select $1>; Select",
    );
    check(
        "prepare transaction as select 1",
        "Prepare: prepare <transaction> <as select 1> <select 1>",
    );
    check(
        "prepare p as select set_config('a', 'x', false)",
        "Prepare: prepare <p> <as select set_config('a', 'x', false)> <select set_config('a', 'x', false)>",
    );
    check("prepare p", "Prepare");
    check("prepare p as", "Prepare");
    check("EXECUTE p", "Execute: execute <p>");
    check("execute \"P 1\"(1, 'x')", "Execute: execute <\"P 1\">");
    check("execute p(pg_advisory_lock(1))", "Execute: execute <p>, pin AdvisoryLock");
    check("DEALLOCATE p", "Deallocate: deallocate <p>");
    check("deallocate prepare \"P\"", "Deallocate: deallocate <\"P\">");
    check("deallocate prepare", "Deallocate: deallocate <prepare>");
    check("DEALLOCATE ALL", "Deallocate: deallocate all");
    check("deallocate prepare all", "Deallocate: deallocate all");
    check("deallocate \"all\"", "Deallocate: deallocate <\"all\">");
    check("explain execute p", "Explain: execute <p>");
    check("explain (analyze, costs off) execute p(1)", "Explain: execute <p>");
    check("create table t as execute p(1)", "Ddl: execute <p>");
    check(
        "create temp table if not exists t (a, b) on commit drop as execute p",
        "Ddl: pin TempTable, may unpin, execute <p>",
    );
    check("explain create table t as execute p", "Explain: execute <p>");
}

#[test]
fn explained() {
    check("explain select set_config('a', 'x', false)", "Explain");
    check("explain analyze select set_config('a', 'x', false)", "Explain: a=[x]");
    check("explain analyse verbose select pg_advisory_lock(1)", "Explain: pin AdvisoryLock");
    check("explain verbose select pg_advisory_lock(1)", "Explain");
    check("explain (analyze) select pg_advisory_lock(1)", "Explain: pin AdvisoryLock");
    check(
        "explain (format json, ANALYZE true) (select pg_advisory_lock(1))",
        "Explain: pin AdvisoryLock",
    );
    check("explain (analyze false) select pg_advisory_lock(1)", "Explain");
    check("explain (analyze off, buffers) select pg_advisory_lock(1)", "Explain");
    check("explain (select pg_advisory_lock(1))", "Explain");
    check("explain analyze create temp table t as select 1", "Explain: pin TempTable");
    check("explain create temp table t as select 1", "Explain");
    check("explain analyze select 1 into temp t", "Explain: pin TempTable");
    check(
        "explain analyze declare c cursor with hold for select pg_advisory_lock(1)",
        "Explain: pin AdvisoryLock",
    );
    check("explain explain select 1", "Explain");
    check("explain", "Explain");
}

#[test]
fn cursors_and_channels() {
    check("DECLARE c CURSOR FOR SELECT 1", "Declare");
    check("declare c scroll cursor with hold for select 1", "Declare: pin HoldCursor");
    check("declare c binary no scroll cursor without hold for select 1", "Declare");
    check("declare cursor cursor with hold for select 1", "Declare: pin HoldCursor");
    check("declare c cursor for select pg_advisory_lock(1)", "Declare: pin AdvisoryLock");
    check("fetch all in c", "Fetch");
    check("move c", "Move");
    check("close c", "Close: may unpin");
    check("LISTEN Jobs", "Listen: listen jobs");
    check("listen \"Jobs\"", "Listen: listen Jobs");
    check("listen", "Listen");
    check("UNLISTEN jobs", "Unlisten: unlisten jobs");
    check("unlisten *", "Unlisten: unlisten all");
    check("NOTIFY jobs, 'x'", "Notify: notify");
    check("DISCARD ALL", "Discard: discard All, may unpin");
    check("discard plans", "Discard: discard Plans");
    check("discard sequences", "Discard: discard Sequences");
    check("discard temporary", "Discard: discard Temp, may unpin");
    check("discard", "Discard");
}

#[test]
fn copies() {
    check("COPY t FROM STDIN", "Copy: copy in");
    check("copy t (a, \"from\") from stdin with (format csv)", "Copy: copy in");
    check("copy binary t from stdin", "Copy: copy in");
    check("COPY t TO STDOUT", "Copy: copy out");
    check("copy t to stdin", "Copy: copy out");
    check("copy (select * from a where b in ('to')) to stdout csv header", "Copy: copy out");
    check("copy (select pg_advisory_lock(1)) to stdout", "Copy: copy out, pin AdvisoryLock");
    check("copy t from '/tmp/stdin'", "Copy");
    check("copy t to program 'cat > stdout'", "Copy");
    check("copy \"from\" to stdout", "Copy: copy out");
    check("copy t from stdin where a > 1", "Copy: copy in");
}

#[test]
fn temporary_objects() {
    check("CREATE TEMP TABLE t (a int)", "Ddl: pin TempTable");
    check("create temporary table t (a int) on commit drop", "Ddl: pin TempTable, may unpin");
    check("create temp table t on commit drop as select 1", "Ddl: pin TempTable, may unpin");
    check("create temp table t (a int) on commit delete rows", "Ddl: pin TempTable");
    check("create global temporary table t (a int)", "Ddl: pin TempTable");
    check("create local temp sequence s", "Ddl: pin TempTable");
    check("create or replace temp view v as select 1", "Ddl: pin TempTable");
    check("create temp recursive view v (a) as select 1", "Ddl: pin TempTable");
    check("create unlogged table t (a int)", "Ddl");
    check("create table pg_temp.t (a int)", "Ddl: pin TempTable");
    check("create table if not exists \"pg_temp\" . t (a int)", "Ddl: pin TempTable");
    check("create view v as select * from pg_temp_3.t", "Ddl: pin TempTable");
    check("create function pg_temp.f() returns int return 1", "Ddl: pin TempTable");
    check("create function f() returns int set search_path = a, pg_temp return 1", "Ddl");
    check(
        "create or replace function f() returns int as $$ select pg_temp.f() $$ language sql",
        "Ddl",
    );
    check("create type pg_temp.e as enum ('a')", "Ddl: pin TempTable");
    check("create table temp (a int)", "Ddl");
    check("create table t (temp int)", "Ddl");
    check("create table t as select pg_advisory_lock(1)", "Ddl: pin AdvisoryLock");
    check("create view v as select pg_advisory_lock(1)", "Ddl");
    check("create table t (a text default set_config('a', 'x', false))", "Ddl");
    check("create materialized view v as select set_config('a', 'x', false)", "Ddl: computed");
    check("select * into temp t from s", "Select: pin TempTable");
    check("select 1 as a into local temporary table t", "Select: pin TempTable");
    check("select * into table pg_temp.t from s", "Select: pin TempTable");
    check("select * into t from s", "Select");
    check(
        "with a as (insert into temp values (1) returning 1) select * into temp x from a",
        "With: pin TempTable",
    );
    check("insert into temp values (1)", "Insert");
    check("insert into pg_temp.t values (1)", "Insert");
    check("drop table t", "Ddl: may unpin");
    check("drop view if exists v", "Ddl: may unpin");
}

#[test]
fn pins() {
    check("LOAD 'auto_explain'", "Utility: pin Load");
    check("select pg_advisory_lock(1)", "Select: pin AdvisoryLock");
    check("SELECT PG_CATALOG.PG_TRY_ADVISORY_LOCK (1, 2)", "Select: pin AdvisoryLock");
    check(
        "select pg_advisory_lock_shared(1), pg_try_advisory_lock_shared(2)",
        "Select: pin AdvisoryLock",
    );
    check("select pg_advisory_xact_lock(1)", "Select");
    check("select pg_try_advisory_xact_lock_shared(1)", "Select");
    check("select pg_advisory_unlock(1)", "Select: may unpin");
    check("select pg_advisory_unlock_shared(1)", "Select: may unpin");
    check("select pg_advisory_unlock_all()", "Select: may unpin");
    check(
        "select pg_advisory_unlock(1), pg_advisory_lock(2)",
        "Select: may unpin, pin AdvisoryLock",
    );
    check("update t set a = 1 where pg_try_advisory_lock(id)", "Update: pin AdvisoryLock");
    check("delete from t where (pg_try_advisory_lock/* x */(id))", "Delete: pin AdvisoryLock");
    check("select 'pg_advisory_lock(1)', \"pg_advisory_lock\" from t", "Select");
    check("select * from pg_advisory_lock", "Select");
    check("select setseed(0.5)", "Select: pin RandomSeed");
    check("select dblink_connect('c', 'x')", "Select: pin Dblink");
    check("select dblink_disconnect('c')", "Select: may unpin");
    check("select pg_replication_origin_session_setup('x')", "Select: pin ReplicationOrigin");
    check("select pg_replication_origin_session_reset()", "Select: may unpin");
    check("call p(pg_advisory_lock(1))", "Call: pin AdvisoryLock");
    check("select lo_open(1, 2)", "Select");
}

#[test]
fn plain_statements_allocate_no_effects() {
    for sql in
        ["select count(a) from t", "insert into t values (1)", "update t set a = 1", "show a"]
    {
        for plan in statements(sql.as_bytes(), LexOptions::default()) {
            assert_eq!(plan.effects.capacity(), 0, "{sql}");
        }
    }
}
