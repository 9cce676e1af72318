//! Tables of configurations and what is wrong with each.

use super::super::Config;

/// What is wrong with `text`, one line each.
fn check(text: &str, expect: &[&str]) {
    let found = match Config::parse(text, "p.toml") {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found.lines().collect::<Vec<_>>(), expect, "for:\n{text}");
}

#[test]
fn keys_and_types() {
    check("", &[]);
    check(
        "[pool]\nsize_mim = 3\n",
        &[concat!(
            "p.toml:2:1: unknown key \"size_mim\"; did you mean \"size_min\"? expected one of mode, ",
            "size_min, size_default, reserve_size, reserve_timeout, max_database_connections, ",
            "max_user_connections, max_database_client_connections, max_user_client_connections, ",
            "wait_timeout, max_waiting, server_lifetime, server_idle_timeout, ",
            "server_connect_timeout, server_login_retry, server_reset_query, ",
            "prepared_statements_max"
        )],
    );
    check(
        "pools = 1\n",
        &[concat!(
            "p.toml:1:1: unknown key \"pools\"; did you mean \"pool\"? expected one of ",
            "proxy, tls, auth, pool, admin, log, nodes, databases, users"
        )],
    );
    check(
        "[pool]\nwait_timeout = 30\nmode = \"transacton\"\n",
        &[
            concat!(
                "p.toml:2:16: a duration needs a unit; expected \"30s\" for 30 seconds, ",
                "\"30ms\" for 30 milliseconds"
            ),
            concat!(
                "p.toml:3:8: unknown value \"transacton\"; did you mean \"transaction\"? ",
                "expected one of session, transaction, statement"
            ),
        ],
    );
    check(
        "[pool]\nwait_timeout = \"soon\"\n[databases.a]\nnodes = [\"n\"]\nwait_timeout = true\n",
        &[
            concat!(
                "p.toml:2:16: \"soon\" is no duration; expected a number with a unit, such as ",
                "\"30s\", \"500ms\" or \"1h 30m\" (\"0s\" is off)"
            ),
            concat!(
                "p.toml:5:16: expected a duration with a unit, such as \"30s\", \"5m\" or ",
                "\"1h 30m\", found true"
            ),
        ],
    );
    check(
        "[proxy]\nworkers = -1\nlisten = \"x\"\nlisten_backlog = \"many\"\n",
        &[
            "p.toml:2:11: expected a whole number, 0 or more, found integer -1",
            "p.toml:3:10: expected an array, found a string",
            "p.toml:4:18: expected a whole number from 0 to 4294967295, found a string",
        ],
    );
    check(
        "[nodes.a]\nport = 99999\n",
        &[
            "p.toml:1:1: the key \"host\" is missing here",
            "p.toml:2:8: expected a whole number from 0 to 65535, found integer 99999",
        ],
    );
    check("proxy = 1\n", &["p.toml:1:9: expected a table, found integer 1"]);
}

#[test]
fn syntax() {
    check(
        "[proxy\nlisten = 1\n\n[log]\nlevel = \n",
        &[
            "p.toml:1:7: unclosed table, expected \"]\"",
            "p.toml:5:9: string values must be quoted, expected literal string",
        ],
    );
    check("[log]\nlevel = \"a\"\nlevel = \"b\"\n", &["p.toml:3:1: duplicate key"]);
}

#[test]
fn every_mistake_is_told_in_one_run() {
    check(
        concat!(
            "[proxy]\nlisten = [\"127.0.0.1:6432\", \"nowhere\"]\nworker = 2\n",
            "[log]\nlevel = \"pgherd=loud\"\n",
            "[[auth.rules]]\nuser = [\"x\"]\n[[auth.rules]]\nmethod = \"magic\"\n",
            "[nodes.a]\nhost = \"h\"\nport = \"x\"\n",
            "[databases.d]\nnodes = [\"b\"]\n",
        ),
        &[
            concat!(
                "p.toml:3:1: unknown key \"worker\"; did you mean \"workers\"? expected one of ",
                "listen, unix_socket_dir, unix_socket_mode, listen_backlog, proxy_protocol, ",
                "proxy_protocol_from, workers, max_client_connections, client_login_timeout, ",
                "client_idle_timeout, idle_transaction_timeout, query_timeout, drain_timeout, ",
                "tcp_keepalive, tcp_user_timeout, pid_file"
            ),
            concat!(
                "p.toml:5:9: \"pgherd=loud\" is no log level; expected error, warn, info, debug ",
                "or trace, or a filter such as \"info,pgherd::pool=debug\""
            ),
            concat!(
                "p.toml:7:1: unknown key \"user\"; did you mean \"users\"? expected one of ",
                "connection, databases, users, addresses, method, map"
            ),
            concat!(
                "p.toml:9:10: unknown value \"magic\"; expected one of trust, reject, ",
                "scram-sha-256, md5, cert"
            ),
            "p.toml:12:8: expected a whole number from 0 to 65535, found a string",
        ],
    );
}

#[test]
fn listeners() {
    let bad = |text: &str| {
        format!("\"{text}\" is not host:port; expected for example \"127.0.0.1:6432\"")
    };
    for good in ["127.0.0.1:0", "[::1]:6432", "*:6432", "localhost:6432", "db-1.example:1"] {
        check(&format!("[proxy]\nlisten = [\"{good}\"]"), &[]);
    }
    for text in ["6432", ":6432", "127.0.0.1", "127.0.0.1:x", "::1:6432", "1.2.3:5", "h:70000"] {
        let expect = format!("p.toml:2:11: {}", bad(text));
        check(&format!("[proxy]\nlisten = [\"{text}\"]"), &[&expect]);
    }
    check("[proxy]\nlisten = [\"h:1\", \"h:1\"]", &["p.toml:2:18: \"h:1\" is listed twice"]);
    check(
        "[proxy]\nlisten = []",
        &[concat!(
            "p.toml:2:10: nothing to listen on; name an address here or set ",
            "proxy.unix_socket_dir"
        )],
    );
    check(
        "[proxy]\nunix_socket_mode = \"0888\"\nunix_socket_dir = \"run\"\n",
        &[
            "p.toml:2:20: \"0888\" is not an octal file mode; expected for example \"0770\"",
            "p.toml:3:19: \"run\" is not an absolute path",
        ],
    );
    check(
        "[proxy]\nproxy_protocol_from = [\"10.0.0.1\", \"10.0.0.0/33\"]\nclient_login_timeout = \"0s\"",
        &[
            concat!(
                "p.toml:2:36: \"10.0.0.0/33\" is not a network; expected for example ",
                "\"10.0.0.0/8\" or \"::1/128\""
            ),
            "p.toml:3:24: proxy.client_login_timeout must be longer than \"0s\"",
        ],
    );
}

#[test]
fn tls_and_admin() {
    check(
        "[tls.client]\nmode = \"require\"\nmin_version = \"1.1\"\ncert_file = \"c\"\n",
        &[
            "p.toml:1:1: tls.client.key_file is not set, but tls.client.mode asks for it",
            "p.toml:3:15: \"1.1\" is unknown; expected \"1.2\" or \"1.3\"",
        ],
    );
    check(
        "[tls]\nclient = { client_certificate = \"optional\" }\nserver.key_file = \"k\"\n",
        &[
            "p.toml:2:33: client certificates can't be checked without tls.client.ca_file",
            concat!(
                "p.toml:2:33: client certificates need TLS; set tls.client.mode to require, ",
                "prefer or allow"
            ),
            "p.toml:3:19: tls.server.key_file is of no use without tls.server.cert_file",
        ],
    );
    check("[admin]\nlisten = \"localhost:6433\"", &[]);
    check("[admin]\nlisten = \"\"", &[]);
    check("[admin]\nlisten = \"0.0.0.0:6433\"\ntoken_file = \"t\"", &[]);
    check(
        "[admin]\nlisten = \"0.0.0.0:6433\"",
        &[concat!(
            "p.toml:2:10: \"0.0.0.0:6433\" is not a loopback address, so admin.token_file must ",
            "be set; otherwise anyone could stop this proxy"
        )],
    );
}

#[test]
fn access() {
    check(
        "[[auth.rules]]\naddresses = [\"all\", \"10.0.0.0\", \"10.0.0/8\"]\nusers = []\n",
        &[
            concat!(
                "p.toml:2:33: \"10.0.0/8\" is not a network; expected for example ",
                "\"10.0.0.0/8\" or \"::1/128\""
            ),
            "p.toml:3:9: an empty list fits nobody; expected names or \"all\" in users",
        ],
    );
    check(
        "[[auth.rules]]\nmethod = \"cert\"\nmap = \"m\"\n[auth.certificate_maps.n]\na = [\"b\"]\n",
        &[
            "p.toml:2:10: certificates come with TLS only, but tls.client.mode is \"disable\"",
            "p.toml:3:7: unknown certificate map \"m\"; expected one of n",
        ],
    );
    check(
        "[auth]\nquery = \"SELECT 1\"\nquery_database = \"nix\"\n",
        &[
            concat!(
                "p.toml:2:9: auth.query must take the user's name as $1, for example ",
                "\"SELECT usename, passwd FROM pg_shadow WHERE usename = $1\""
            ),
            concat!(
                "p.toml:2:9: auth.query needs auth.query_user, the user of auth.users_file ",
                "that asks it"
            ),
            "p.toml:3:18: unknown database \"nix\"; there is none",
        ],
    );
}

#[test]
fn sizes() {
    check(
        "[pool]\nsize_min = 30\n",
        &["p.toml:2:12: pool.size_min is 30, more than pool.size_default (20)"],
    );
    check(
        "[users.u]\nsize = 0\n[nodes.n]\nhost = \"h\"\n[databases.d]\nnodes = [\"n\"]\nsize_min = 21\n",
        &[
            "p.toml:2:8: users.u.size must be at least 1",
            "p.toml:7:12: the database \"d\" keeps at least 21 servers, but may have only 20",
        ],
    );
}

#[test]
fn herd() {
    let nodes = concat!(
        "[nodes.pg1]\nhost = \"a\"\n[nodes.pg2]\nhost = \"b\"\nrole = \"replica\"\n",
        "[nodes.pg3]\nhost = \"c\"\n",
    );
    let with = |database: &str, expect: &[&str]| check(&format!("{nodes}{database}"), expect);
    with("[databases.d]\nnodes = [\"pg1\", \"pg2\"]\n", &[]);
    with("[databases.d]\nnodes = [\"pg1\", \"pg2\"]\nrole = \"replica\"\n", &[]);
    with(
        "[databases.d]\nnodes = [\"pg1\", \"pg22\"]\n",
        &[
            "p.toml:9:17: unknown node \"pg22\"; did you mean \"pg2\"? expected one of pg1, pg2, pg3",
        ],
    );
    with(
        "[databases.d]\nnodes = [\"pg1\", \"pg3\"]\n",
        &[concat!(
            "p.toml:9:9: pg1 and pg3 are both primaries, but the database \"d\" can have only ",
            "one; give the others role = \"replica\""
        )],
    );
    with(
        "[databases.d]\nnodes = [\"pg2\"]\n",
        &[concat!(
            "p.toml:9:9: none of these nodes is a primary; the database \"d\" needs one, or ",
            "role = \"replica\" for reads only"
        )],
    );
    with(
        "[databases.d]\nnodes = [\"pg1\"]\nrole = \"replica\"\n",
        &[concat!(
            "p.toml:9:9: none of these nodes is a replica, but the database \"d\" has ",
            "role = \"replica\""
        )],
    );
    with(
        "[databases.pgherd]\nnodes = [\"pg1\"]\n[databases.e]\nnodes = []\n[nodes.z]\nhost = \"c\"\n",
        &[
            "p.toml:8:1: \"pgherd\" is the admin console's name; choose another one",
            "p.toml:11:9: the database \"e\" is on no node; expected names of [nodes]",
            "p.toml:13:8: \"z\" is at the same host and port as \"pg3\"; list a server once",
        ],
    );
    with(
        "[databases.d]\nnodes = [\"pg1\"]\npassword = \"hidden\"\npassword_file = \"f\"\n",
        &[
            "p.toml:10:12: both password and password_file are set; keep password_file",
            "p.toml:10:12: password needs user beside it: whose password is it?",
        ],
    );
}

#[test]
fn a_password_in_the_wrong_shape_is_not_told() {
    let error = Config::parse("[databases.d]\nnodes = \"hunter2\"\npassword = 5\n", "p.toml");
    let text = error.unwrap_err().to_string();
    assert!(!text.contains("hunter2"), "{text}");
}
