//! Every limit of the proxy, with its unit in the name and its reason.
//!
//! What an operator may change stands in the configuration; what stands here bounds memory and time
//! whatever a peer sends.

/// A startup packet; PostgreSQL's own `MAX_STARTUP_PACKET_LENGTH` (pqcomm.h).
pub const STARTUP_PACKET_BYTES_MAX: usize = 10_000;

/// An authentication message of a client; PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH` is 65535 for GSS,
/// passwords and SCRAM messages need far less.
pub const AUTH_MESSAGE_BYTES_MAX: usize = 4_096;

/// SSLRequest, GSSENCRequest and startup packets before a client counts as hostile.
pub const STARTUP_PACKETS_MAX: usize = 4;

/// What follows the fixed part of a PROXY header: addresses need at most 216 bytes, extensions
/// (TLS details, identifiers) some hundred more.
pub const PROXY_HEADER_BYTES_MAX: usize = 4_096;

/// Connections above `max_client_connections` that may be open at once only to be told so (or to
/// deliver a cancel request); while there are more, the others wait in the backlog.
pub const LOGINS_OVER_LIMIT_MAX: usize = 256;

/// Pause before the next accept when descriptors, memory or room ran out.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// Time that a connection in its handshake has left when the process begins to drain.
pub const HANDSHAKE_DRAIN_MS_MAX: u64 = 1_000;

/// Time that a refused client has to read why, before the connection is closed under it.
pub const FAREWELL_MS_MAX: u64 = 500;

/// Bytes of a refused client that are read and thrown away meanwhile: closing a socket with unread
/// bytes would reset the connection, and the client would never see the reason.
pub const FAREWELL_BYTES_MAX: usize = 64 * 1024;

/// The same for a client whose session ends: a statement too long for it may be on its way.
pub const LAST_WORDS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages of a client within one authentication exchange; SCRAM needs 2.
pub const AUTH_MESSAGES_MAX: usize = 8;

/// A name of a user or database; PostgreSQL truncates longer ones (`NAMEDATALEN` - 1).
pub const NAME_BYTES_MAX: usize = 63;

/// A frame of a type that PostgreSQL lets be large: Query, Parse, Bind, FunctionCall, CopyData
/// (`PQ_LARGE_MESSAGE_LIMIT`, libpq.h: 1 GiB - 1).
pub const FRAME_LARGE_BYTES_MAX: usize = 0x3fff_ffff;

/// A frame of any other type (`PQ_SMALL_MESSAGE_LIMIT`, libpq.h).
pub const FRAME_SMALL_BYTES_MAX: usize = 10_000;

/// A frame from a server; rows may be as large as PostgreSQL's largest allocation.
pub const SERVER_FRAME_BYTES_MAX: usize = 0x7fff_fffb;

/// Bytes read from a socket at once, into a buffer that belongs to the thread.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Bytes of one request that are collected before a server is taken and streaming begins.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Text of one statement that is read whole so that its effect on the session is known.
/// A longer one is streamed, and pins its server.
pub const STATEMENT_INSPECTED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A frame from a server that is looked into (ErrorResponse, ParameterStatus, …).
pub const SERVER_FRAME_INSPECTED_BYTES_MAX: usize = 1024 * 1024;

/// What is looked at of an ErrorResponse longer than that: severity and SQLSTATE stand in front.
pub const ERROR_HEAD_BYTES: usize = 128;

/// A message of a server while it logs us in.
pub const LOGIN_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Prepared statements that one client may name.
pub const CLIENT_STATEMENTS_MAX: usize = 100_000;

/// Settings (SET) that are tracked for one client; more pin its server.
pub const CLIENT_SETTINGS_MAX: usize = 256;

/// Channels that one client may listen on through the shared listener.
pub const CLIENT_CHANNELS_MAX: usize = 1_000;

/// Notifications that wait for one client that does not read; more close it, as PostgreSQL's full
/// queue would stop everyone.
pub const CLIENT_NOTIFICATIONS_MAX: usize = 10_000;

/// Startup settings whose effect on the server's reported parameters is remembered, for each pool.
pub const WELCOMES_MAX: usize = 256;

/// Cancel requests on their way to servers at once.
pub const CANCELS_IN_FLIGHT_MAX: usize = 256;

/// Time for one cancel request to reach its server.
pub const CANCEL_SECONDS_MAX: u64 = 5;

/// Pause before a statement that nobody waits for is cancelled once more.
pub const CANCEL_RETRY_MS: u64 = 200;

/// Time for cleaning a server whose client vanished, before it is closed instead.
pub const CLEAN_SECONDS_MAX: u64 = 5;

/// Answers of the authentication query that are remembered.
pub const AUTH_ANSWERS_MAX: usize = 10_000;

/// A Query, Parse or Bind on the admin console; its commands fit in a line.
pub const CONSOLE_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Commands in one Query on the admin console.
pub const CONSOLE_COMMANDS_MAX: usize = 100;

/// Prepared statements, and as many portals, that one console session may name.
pub const CONSOLE_NAMES_MAX: usize = 1_000;

/// Rows that an Execute on the console may ask for before "all" is meant: room for so many is
/// reserved at once.
pub const CONSOLE_FETCH_ROWS_MAX: i32 = 100_000;

/// Bytes of a request's body on the admin HTTP; bodies are one small JSON object.
pub const ADMIN_BODY_BYTES_MAX: usize = 16 * 1024;

/// Connections to the admin HTTP at once; more wait in the listen backlog.
pub const ADMIN_CONNECTIONS_MAX: usize = 128;

/// A connection to the admin HTTP on which nothing moves for so long is closed.
pub const ADMIN_IDLE_SECONDS_MAX: u64 = 90;

/// Time for one request on the admin HTTP; a pause that takes longer goes on behind its answer.
pub const ADMIN_REQUEST_SECONDS_MAX: u64 = 30;

/// Bearer token of the admin HTTP; a longer file is surely the wrong one.
pub const ADMIN_TOKEN_BYTES_MAX: usize = 4_096;

/// Pools with series of their own in the metrics: each is about 70 series.
pub const METRICS_POOLS_MAX: usize = 500;

/// Time for PostgreSQL or pgherd to become ready when `local` starts it; recovery after a crash of a
/// small instance needs a fraction of it.
pub const LOCAL_START_SECONDS_MAX: u64 = 60;

/// Time for a process of `local` to end before it is killed.
pub const LOCAL_STOP_SECONDS_MAX: u64 = 30;

/// Starts with another port after one was taken between choosing and binding it.
pub const LOCAL_PORT_TRIES_MAX: usize = 5;

/// Longest path of a unix-domain socket that `local` makes: `sockaddr_un.sun_path` has 108 bytes,
/// and PostgreSQL appends `.lock` to the name for its lock file.
pub const LOCAL_SOCKET_PATH_BYTES_MAX: usize = 100;

/// End of a log file that an error message quotes.
pub const LOCAL_LOG_TAIL_BYTES_MAX: usize = 2_000;

/// "No such user" is believed at most so long, so that a new user need not wait for it.
pub const AUTH_ABSENCE_SECONDS_MAX: u64 = 5;

/// A failed authentication query is not asked again for so long: those who waited for it must not
/// each run into the same broken server.
pub const AUTH_FAILURE_SECONDS: u64 = 1;

/// Authentication queries at once, and so connections of `auth.query_user`.
pub const AUTH_QUERIES_MAX: usize = 4;

/// A user's name; PostgreSQL's `NAMEDATALEN` - 1. No longer name is looked up or remembered.
pub const USER_NAME_BYTES_MAX: usize = 63;

/// `auth.users_file`.
pub const USERS_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Plain passwords of the users file that are salted when it is read (about a millisecond each), so
/// that a first login takes no longer than that of a user who does not exist.
pub const USERS_SALTED_MAX: usize = 500;

/// Salted passwords that are remembered; 64 bytes and their place in two collections each.
pub const SALTED_PASSWORDS_MAX: usize = 10_000;

/// PBKDF2 rounds that a server may ask of pgherd: a second or so of one core.
pub const SCRAM_ITERATIONS_MAX: u32 = 4_000_000;

/// Addresses of one node's host name that are tried.
pub const NODE_ADDRESSES_MAX: usize = 16;

/// Time for one of several addresses to answer, so that the next gets its turn.
pub const ADDRESS_SECONDS_MAX: u64 = 5;

/// Messages of a server between startup and ReadyForQuery; PostgreSQL sends about twenty.
pub const LOGIN_FRAMES_MAX: usize = 1_000;

/// Rows of a statement of pgherd's own (`pool::ask`).
pub const ASK_ROWS_MAX: usize = 10_000;

/// Bytes of all frames that answer a statement of pgherd's own.
pub const ASK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a server may say behind a CancelRequest before it closes; PostgreSQL says nothing.
pub const CANCEL_ANSWER_BYTES_MAX: u64 = 4_096;

/// A configuration file; a larger one is surely another file.
pub const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Mistakes of one configuration file that are told at once.
pub const CONFIG_PROBLEMS_MAX: usize = 100;

/// So long must a changed configuration file stay the same before it is read: editors and
/// orchestrators write in several steps.
pub const CONFIG_SETTLE_MS: u64 = 250;

/// Time for the new process of a hand-over to say that it is ready.
pub const HANDOVER_SECONDS_MAX: u64 = 60;

/// Sockets that are handed over at once; the kernel's SCM_MAX_FD is 253.
pub const HANDOVER_SOCKETS_MAX: usize = 250;

/// Names of the sockets that are handed over, as one message.
pub const HANDOVER_NAMES_BYTES_MAX: usize = 64 * 1024;

/// Secret of a cancel key: at most 256 bytes (PostgreSQL manual, BackendKeyData).
pub const CANCEL_SECRET_BYTES_MAX: usize = 256;

/// After a drain or a fast stop, time for the last tasks to end before the process does.
pub const STOP_SECONDS_MAX: u64 = 5;

/// Threads that serve clients; more than any machine has cores.
pub const WORKERS_MAX: usize = 1_024;

/// After a hand-over, time for the old process to let go of the admin HTTP's address.
pub const HANDOVER_ADMIN_SECONDS_MAX: u64 = 10;

/// Pause between two tries to get that address.
pub const HANDOVER_ADMIN_RETRY_MS: u64 = 20;

/// Shortest pause between two failed logins to a server, whatever `server_login_retry` says.
pub const LOGIN_RETRY_MS_MIN: u64 = 20;

/// The admin HTTP finishes the answers it began, when the process ends.
pub const ADMIN_FAREWELL_SECONDS_MAX: u64 = 2;

/// After a hand-over a client is sent away once it has been idle for so long: one that logged in while the
/// listeners changed hands gets to ask what it came for.
pub const HANDOVER_REST_MS_MIN: u64 = 2_000;
