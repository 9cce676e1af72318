"""Python drivers against PGHERD_DSN: psycopg (libpq), asyncpg and pg8000 (protocols of their own).

Each check is a function; every failure is reported, and the exit code is their number (at most 100).
"""

import asyncio
import datetime
import decimal
import os
import sys
import threading
import time
import traceback
from urllib.parse import urlsplit

import asyncpg
import pg8000.native
import psycopg

DSN = os.environ["PGHERD_DSN"]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def raises(kind, action):
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


# === psycopg


@check
def psycopg_queries():
    with psycopg.connect(DSN) as connection:
        row = connection.execute("SELECT %s::int + 1, %s::text, NULL", (41, "herd")).fetchone()
        assert row == (42, "herd", None), row
        day, number = datetime.date(2024, 2, 29), decimal.Decimal("1.50")
        row = connection.execute("SELECT %s::date, %s::numeric, %s::int[], %s::bytea",
                                 (day, number, [1, 2], b"\x00\xff")).fetchone()
        assert row == (day, number, [1, 2], b"\x00\xff"), row


@check
def psycopg_prepared_statements():
    with psycopg.connect(DSN, autocommit=True) as connection:
        # Prepared on the first execution, and deallocated once more than prepared_max are known.
        connection.prepare_threshold = 0
        connection.prepared_max = 5
        for n in range(40):
            assert connection.execute(f"SELECT %s::int + {n % 10}", (n,)).fetchone() == (n + n % 10,)


@check
def psycopg_transactions():
    with psycopg.connect(DSN) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS psycopg_t (a int)")
        connection.execute("TRUNCATE psycopg_t")
        connection.commit()
        connection.execute("INSERT INTO psycopg_t VALUES (1)")
        connection.rollback()
        with connection.transaction():
            connection.execute("INSERT INTO psycopg_t VALUES (2)")
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO psycopg_t VALUES (3)")
                    raise KeyError
            except KeyError:
                pass
        assert connection.execute("SELECT array_agg(a) FROM psycopg_t").fetchone() == ([2],)


@check
def psycopg_pipeline():
    with psycopg.connect(DSN, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(200)]
            assert [c.fetchone()[0] for c in cursors] == list(range(200))
        # An error skips what follows up to the next Sync, and no further.
        with connection.pipeline() as pipeline:
            before = connection.execute("SELECT 1")
            pipeline.sync()
            broken = connection.execute("SELECT 1/0")
            raises(psycopg.errors.DivisionByZero, pipeline.sync)
            assert before.fetchone() == (1,) and broken is not None
        assert connection.execute("SELECT 2").fetchone() == (2,)


@check
def psycopg_copy():
    with psycopg.connect(DSN) as connection:
        connection.execute("CREATE TEMP TABLE t (a int, b text)")
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for n in range(10_000):
                copy.write_row((n, f"value {n}"))
        with connection.cursor().copy("COPY (SELECT a FROM t ORDER BY a) TO STDOUT") as copy:
            assert [int(row[0]) for row in copy.rows()] == list(range(10_000))
        connection.rollback()


@check
def psycopg_listen_notify():
    with psycopg.connect(DSN, autocommit=True) as one, psycopg.connect(DSN, autocommit=True) as two:
        one.execute("LISTEN herd")
        two.execute("SELECT pg_notify('herd', 'hello')")
        got = list(one.notifies(timeout=30, stop_after=1))
        assert [(n.channel, n.payload) for n in got] == [("herd", "hello")], got
        one.execute("UNLISTEN *")


def cancel_when_asleep(sleeper):
    with psycopg.connect(DSN, autocommit=True) as observer:
        asleep = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'"
        while not observer.execute(asleep).fetchone():
            time.sleep(0.02)
    sleeper.cancel()


@check
def psycopg_cancel():
    with psycopg.connect(DSN, autocommit=True) as connection:
        canceller = threading.Thread(target=cancel_when_asleep, args=(connection,))
        canceller.start()
        raises(psycopg.errors.QueryCanceled, lambda: connection.execute("SELECT pg_sleep(600)"))
        canceller.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


@check
def psycopg_big_results():
    with psycopg.connect(DSN) as connection:
        rows = connection.execute("SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i").fetchall()
        assert len(rows) == 20_000 and rows[-1] == (20_000, "x" * 1000)
        with connection.cursor("named") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT i FROM generate_series(1, 1000) i")
            assert sum(row[0] for row in cursor) == 500_500


@check
def psycopg_errors():
    with psycopg.connect(DSN, autocommit=True) as connection:
        error = raises(psycopg.errors.UndefinedTable, lambda: connection.execute("SELECT * FROM absent"))
        assert error.sqlstate == "42P01"
        assert connection.execute("SELECT 1").fetchone() == (1,)


@check
def psycopg_settings_stay_with_their_client():
    with psycopg.connect(DSN, autocommit=True) as one, psycopg.connect(DSN, autocommit=True) as two:
        one.execute("SET statement_timeout = '11s'")
        two.execute("SET statement_timeout = '22s'")
        for _ in range(5):
            assert one.execute("SHOW statement_timeout").fetchone() == ("11s",)
            assert two.execute("SHOW statement_timeout").fetchone() == ("22s",)


# === asyncpg


def asynchronous(function):
    def run():
        async def session():
            connection = await asyncpg.connect(DSN, timeout=30)
            try:
                await function(connection)
            finally:
                await connection.close()

        asyncio.run(session())

    run.__name__ = function.__name__
    return check(run)


@asynchronous
async def asyncpg_queries(connection):
    row = await connection.fetchrow("SELECT $1::int + 1, $2::text, NULL", 41, "herd")
    assert tuple(row) == (42, "herd", None), row
    now = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    row = await connection.fetchrow("SELECT $1::timestamptz, $2::jsonb, $3::int[]", now, '{"a": 1}', [1, 2])
    assert tuple(row) == (now, '{"a": 1}', [1, 2]), row


@asynchronous
async def asyncpg_prepared_statements(connection):
    statements = [await connection.prepare(f"SELECT $1::int + {n}") for n in range(10)]
    for _ in range(3):
        for n, statement in enumerate(statements):
            assert await statement.fetchval(1) == n + 1


@asynchronous
async def asyncpg_transactions(connection):
    await connection.execute("CREATE TABLE IF NOT EXISTS asyncpg_t (a int); TRUNCATE asyncpg_t")
    async with connection.transaction():
        await connection.executemany("INSERT INTO asyncpg_t VALUES ($1)", [(n,) for n in range(100)])
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1/0")
        except asyncpg.DivisionByZeroError:
            pass
    assert await connection.fetchval("SELECT count(*) FROM asyncpg_t") == 100
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("SELECT a FROM asyncpg_t", prefetch=7):
            total += row["a"]
        assert total == 4950


@asynchronous
async def asyncpg_copy(connection):
    async with connection.transaction():
        await connection.execute("CREATE TEMP TABLE t (a int, b text) ON COMMIT DROP")
        await connection.copy_records_to_table("t", records=[(n, str(n)) for n in range(5000)])
        assert await connection.fetchval("SELECT sum(a) FROM t") == 12_497_500


@asynchronous
async def asyncpg_listen_notify(connection):
    got = asyncio.get_running_loop().create_future()
    await connection.add_listener("asyncpg_herd", lambda *event: got.done() or got.set_result(event[3]))
    other = await asyncpg.connect(DSN)
    await other.execute("NOTIFY asyncpg_herd, 'hello'")
    assert await asyncio.wait_for(got, 30) == "hello"
    await other.close()


@asynchronous
async def asyncpg_cancel(connection):
    # asyncpg turns a timeout into a CancelRequest.
    try:
        await connection.execute("SELECT pg_sleep(600)", timeout=0.5)
        raise AssertionError("was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("SELECT 1") == 1


@asynchronous
async def asyncpg_errors(connection):
    try:
        await connection.fetch("SELECT * FROM absent")
        raise AssertionError("no error")
    except asyncpg.UndefinedTableError as error:
        assert error.sqlstate == "42P01"
    assert await connection.fetchval("SELECT 1") == 1


@check
def asyncpg_pool():
    async def work():
        async with asyncpg.create_pool(DSN, min_size=2, max_size=8) as pool:
            async def one(n):
                async with pool.acquire() as connection:
                    return await connection.fetchval("SELECT $1::int", n)

            assert await asyncio.gather(*(one(n) for n in range(200))) == list(range(200))

    asyncio.run(work())


# === pg8000


def pg8000_connection():
    parts = urlsplit(DSN)
    return pg8000.native.Connection(parts.username, host=parts.hostname, port=parts.port,
                                    database=parts.path.lstrip("/"), timeout=60)


@check
def pg8000_queries():
    connection = pg8000_connection()
    assert connection.run("SELECT CAST(:a AS int) + 1, CAST(:b AS text)", a=41, b="herd") == [[42, "herd"]]
    statement = connection.prepare("SELECT CAST(:n AS int) * 2")
    for n in range(20):
        assert statement.run(n=n) == [[n * 2]]
    statement.close()
    connection.run("BEGIN")
    connection.run("CREATE TEMP TABLE t (a int) ON COMMIT DROP")
    connection.run("COPY t FROM STDIN", stream=[f"{n}\n" for n in range(100)])
    assert connection.run("SELECT count(*) FROM t") == [[100]]
    connection.run("COMMIT")
    error = raises(pg8000.native.DatabaseError, lambda: connection.run("SELECT 1/0"))
    assert error.args[0]["C"] == "22012"
    assert connection.run("SELECT 1") == [[1]]
    connection.close()


def main():
    failed = 0
    for function in CHECKS:
        started = time.monotonic()
        try:
            function()
            print(f"ok      {function.__name__}  {time.monotonic() - started:.2f} s", flush=True)
        except BaseException:
            failed += 1
            print(f"FAILED  {function.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    sys.exit(min(failed, 100))


if __name__ == "__main__":
    main()
