//! The command line against a proxy that answers by rote.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;

use super::*;

/// Answers one request with `status` and `body`; returns what was asked.
fn serve_once(
    status: &'static str,
    body: &'static str,
) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0);
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1);
        let length = length.map_or(0, |l| l.split("\r\n").next().unwrap().parse().unwrap());
        let mut sent = vec![0; length];
        reader.read_exact(&mut sent).unwrap();
        write!(
            socket,
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        head + &String::from_utf8(sent).unwrap()
    });
    (url, server)
}

fn go(url: &str, args: &[&str]) -> ExitCode {
    let args = [&["ctl", "--url", url], args].concat();
    run(Args::try_parse_from(args).unwrap()).unwrap()
}

#[test]
fn a_command_becomes_a_request() {
    let check = |args: &[&str], status, body, asks: &[&str], expect: u8| {
        let (url, server) = serve_once(status, body);
        let code = go(&url, args);
        let asked = server.join().unwrap();
        for ask in asks {
            assert!(asked.contains(ask), "{args:?}: {asked}");
        }
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(expect)), "{args:?}");
    };
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret\n").unwrap();
    let token = token.path().to_str().unwrap();
    check(&["pools"], "200 OK", "[]", &["GET /api/v1/pools HTTP/1.1"], 0);
    check(&["pools", "--token-file", token], "200 OK", "[]", &["authorization: Bearer s3cret"], 0);
    check(
        &["pause", "shop"],
        "200 OK",
        "{}",
        &["POST /api/v1/pause", "application/json", r#"{"database":"shop"}"#],
        0,
    );
    check(&["kill", "--client", "7"], "200 OK", "{}", &[r#"{"client":7}"#], 0);
    check(&["reload"], "409 Conflict", r#"{"error":"line 3"}"#, &["POST /api/v1/reload"], 1);
    check(&["status"], "200 OK", "<html>", &[], 2);
}

#[test]
fn silence_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let Answer::Silence(why) = Api::new(&url, None).unwrap().ask("status", None) else {
        panic!("somebody answered");
    };
    assert!(why.contains("nothing listens") && why.contains(&url), "{why}");
    assert_eq!(format!("{:?}", go(&url, &["status"])), format!("{:?}", ExitCode::from(2)));
    assert!(Api::new("https://example.org", None).is_err());
}

#[test]
fn kill_needs_to_know_whom() {
    let check = |args: &[&str], ok| {
        let args = [&["ctl"], args].concat();
        assert_eq!(Args::try_parse_from(&args).is_ok(), ok, "{args:?}");
    };
    check(&["kill"], false);
    check(&["kill", "shop"], true);
    check(&["kill", "--all"], true);
    check(&["kill", "--client", "1"], true);
    check(&["kill", "shop", "--all"], false);
    check(&["status", "--watch", "0"], false);
}
