// Node drivers against PGHERD_DSN: pg (node-postgres) and postgres (postgres.js).
// Each check is a function; every failure is reported, and the exit code is their number (at most 100).

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'

import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import postgres from 'postgres'

const DSN = process.env.PGHERD_DSN
const checks = []

// A check of pg gets a connected client.
function withPg(name, body) {
  checks.push([`pg ${name}`, async () => {
    const client = new pg.Client(DSN)
    await client.connect()
    try {
      await body(client)
    } finally {
      await client.end()
    }
  }])
}

// A check of postgres.js gets a pool of three connections.
function withPostgres(name, body) {
  checks.push([`postgres ${name}`, async () => {
    const sql = postgres(DSN, { max: 3, onnotice: () => {} })
    try {
      await body(sql)
    } finally {
      await sql.end({ timeout: 5 })
    }
  }])
}

withPg('queries', async (client) => {
  const { rows } = await client.query('SELECT $1::int + 1 AS a, $2::text AS b, NULL AS c', [41, 'herd'])
  assert.deepEqual(rows, [{ a: 42, b: 'herd', c: null }])
  const several = await client.query('SELECT 1 AS a; SELECT 2 AS b')
  assert.deepEqual(several.map((r) => r.rows[0]), [{ a: 1 }, { b: 2 }])
  const types = await client.query("SELECT now() AS a, '{\"x\": 1}'::jsonb AS b, ARRAY[1, 2] AS c, $1::bytea AS d",
    [Buffer.from([0, 255])])
  assert.ok(types.rows[0].a instanceof Date)
  assert.deepEqual([types.rows[0].b, types.rows[0].c, [...types.rows[0].d]], [{ x: 1 }, [1, 2], [0, 255]])
})

withPg('prepared statements', async (client) => {
  for (let n = 0; n < 30; n++) {
    const { rows } = await client.query({ name: `add${n % 3}`, text: `SELECT $1::int + ${n % 3} AS a`, values: [n] })
    assert.equal(rows[0].a, n + (n % 3))
  }
})

withPg('transactions', async (client) => {
  await client.query('CREATE TABLE IF NOT EXISTS pg_t (a int)')
  await client.query('TRUNCATE pg_t')
  await client.query('BEGIN')
  await client.query('INSERT INTO pg_t VALUES ($1)', [1])
  await client.query('ROLLBACK')
  await client.query('BEGIN')
  await client.query('INSERT INTO pg_t VALUES ($1)', [2])
  await client.query('COMMIT')
  const { rows } = await client.query('SELECT a FROM pg_t')
  assert.deepEqual(rows, [{ a: 2 }])
})

withPg('copy', async (client) => {
  await client.query('BEGIN')
  await client.query('CREATE TEMP TABLE t (a int, b text) ON COMMIT DROP')
  const lines = Array.from({ length: 5000 }, (_, n) => `${n}\tvalue ${n}\n`)
  await pipeline(Readable.from(lines), client.query(copyFrom('COPY t FROM STDIN')))
  let text = ''
  for await (const chunk of client.query(copyTo('COPY t TO STDOUT'))) text += chunk
  assert.equal(text, lines.join(''))
  await client.query('COMMIT')
})

withPg('listen and notify', async (client) => {
  await client.query('LISTEN pg_herd')
  const heard = once(client, 'notification')
  await client.query("NOTIFY pg_herd, 'hello'")
  const [message] = await heard
  assert.deepEqual([message.channel, message.payload], ['pg_herd', 'hello'])
})

withPg('errors', async (client) => {
  await assert.rejects(client.query('SELECT * FROM absent'), { code: '42P01' })
  await assert.rejects(client.query('SELECT $1::int / 0', [1]), { code: '22012' })
  const { rows } = await client.query('SELECT 1 AS a')
  assert.equal(rows[0].a, 1)
})

withPg('big results', async (client) => {
  const { rows } = await client.query("SELECT i, repeat('x', 1000) AS x FROM generate_series(1, 20000) i")
  assert.equal(rows.length, 20000)
  assert.equal(rows[19999].x.length, 1000)
})

checks.push(['pg pool', async () => {
  const pool = new pg.Pool({ connectionString: DSN, max: 8 })
  const numbers = Array.from({ length: 200 }, (_, n) => n)
  const results = await Promise.all(numbers.map((n) => pool.query('SELECT $1::int AS a', [n])))
  assert.deepEqual(results.map((r) => r.rows[0].a), numbers)
  await pool.end()
}])

// postgres.js prepares every statement and pipelines what is asked at once.
withPostgres('queries in a pipeline', async (sql) => {
  const numbers = Array.from({ length: 200 }, (_, n) => n)
  const results = await Promise.all(numbers.map((n) => sql`SELECT ${n}::int AS a, ${'herd'}::text AS b`))
  assert.deepEqual(results.map((r) => r[0].a), numbers)
  const [row] = await sql`SELECT ${sql.json({ x: 1 })}::jsonb AS a, ${sql.array([1, 2])}::int[] AS b, NULL AS c`
  assert.deepEqual([row.a, row.b, row.c], [{ x: 1 }, [1, 2], null])
})

withPostgres('transactions', async (sql) => {
  await sql`CREATE TABLE IF NOT EXISTS postgres_t (a int)`
  await sql`TRUNCATE postgres_t`
  await assert.rejects(sql.begin(async (inner) => {
    await inner`INSERT INTO postgres_t VALUES (1)`
    throw new Error('no')
  }), /no/)
  await sql.begin(async (inner) => {
    await inner`INSERT INTO postgres_t VALUES (2)`
    await inner.savepoint((deeper) => deeper`SELECT 1/0`).catch(() => {})
  })
  assert.deepEqual([...await sql`SELECT a FROM postgres_t`], [{ a: 2 }])
})

withPostgres('cursor', async (sql) => {
  let total = 0
  await sql`SELECT i FROM generate_series(1, 1000) i`.cursor(100, (rows) => {
    for (const row of rows) total += row.i
  })
  assert.equal(total, 500500)
})

withPostgres('listen and notify', async (sql) => {
  let heard
  const message = new Promise((resolve) => { heard = resolve })
  await sql.listen('postgres_herd', heard)
  await sql.notify('postgres_herd', 'hello')
  assert.equal(await message, 'hello')
})

withPostgres('cancel', async (sql) => {
  const query = sql`SELECT pg_sleep(600)`
  const cancelled = assert.rejects(query.execute(), { code: '57014' })
  const asleep = () => sql`SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(600)'`
  while ((await asleep()).length === 0) await sleep(20)
  query.cancel()
  await cancelled
  assert.deepEqual([...await sql`SELECT 1 AS a`], [{ a: 1 }])
})

withPostgres('errors', async (sql) => {
  await assert.rejects(sql`SELECT * FROM absent`, { code: '42P01' })
  assert.deepEqual([...await sql`SELECT 1 AS a`], [{ a: 1 }])
})

// A check that hangs is a failure of its own, not of all.
const CHECK_SECONDS_MAX = 60
let failed = 0
for (const [name, body] of checks) {
  const hanging = new AbortController()
  try {
    await Promise.race([body(), sleep(CHECK_SECONDS_MAX * 1000, null, { signal: hanging.signal })
      .then(() => { throw new Error(`no end after ${CHECK_SECONDS_MAX} s`) })])
    console.log(`ok      ${name}`)
  } catch (error) {
    failed += 1
    console.log(`FAILED  ${name}\n${error.stack}`)
  } finally {
    hanging.abort()
  }
}
console.log(`${checks.length - failed} of ${checks.length} checks passed`)
process.exit(Math.min(failed, 100))
