//! Hand-overs over real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::limits;

#[test]
fn sockets_arrive_with_their_names() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let name = format!("tcp:{address}");
    fds::send(&a, &[(name.clone(), listener.as_fd())]).unwrap();
    let mut received = fds::receive(&b).unwrap();
    drop(listener);
    let (received_name, fd) = received.pop().unwrap();
    assert_eq!(received_name, name);
    // The socket listens on, although the one that sent it is closed.
    let listener = TcpListener::from(fd);
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn as_many_sockets_as_allowed_arrive_and_more_are_refused() {
    let file = tempfile::tempfile().unwrap();
    let check = |count: usize, ok: bool| {
        let (a, b) = UnixStream::pair().unwrap();
        let sockets: Vec<_> = (0..count).map(|i| (i.to_string(), file.as_fd())).collect();
        assert_eq!(fds::send(&a, &sockets).is_ok(), ok, "{count}");
        if ok {
            let names: Vec<_> = fds::receive(&b).unwrap().into_iter().map(|(n, _)| n).collect();
            let expect: Vec<_> = (0..count).map(|i| i.to_string()).collect();
            assert_eq!(names, expect);
        }
    };
    check(0, true);
    check(limits::HANDOVER_SOCKETS_MAX, true);
    check(limits::HANDOVER_SOCKETS_MAX + 10, false);
}

#[test]
fn nonsense_is_refused() {
    let check = |bytes: &[u8]| {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(bytes).unwrap();
        drop(a);
        assert!(fds::receive(&b).is_err(), "{bytes:?}");
    };
    check(b"");
    check(b"\xff\xff\xff\xff");
    check(b"\0\0\0\x02{}");
    check(b"\0\0\0\x05[\"a\"]");
}

#[tokio::test]
async fn keys_travel_whole() {
    let (mut a, mut b) = tokio::net::UnixStream::pair().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let long = vec![7; limits::CANCEL_SECRET_BYTES_MAX];
    for key in [(1, vec![1, 2, 3, 4]), (u32::MAX, long.clone()), (5, Vec::new())] {
        sender.send(key).await.unwrap();
    }
    drop(sender);
    cancel::write(receiver, &mut a).await;
    drop(a);
    let mut keys = Vec::new();
    while let Some(key) = cancel::read(&mut b).await.unwrap() {
        keys.push(key);
    }
    assert_eq!(keys, [(1, vec![1, 2, 3, 4]), (u32::MAX, long), (5, Vec::new())]);
}

#[tokio::test]
async fn a_program_that_fails_is_reported() {
    let run = |program: &str, arguments: &[&str]| {
        let arguments = arguments.iter().map(Into::into).collect();
        let origin = Origin::new(program.into(), arguments);
        async move { hand_over(&origin, &[]).await.map(|s| s.pid).unwrap_err() }
    };
    assert!(
        matches!(run("/bin/sh", &["-c", "exit 3"]).await, HandoverError::Ended(s) if s.code() == Some(3))
    );
    assert!(matches!(run("/nonexistent", &[]).await, HandoverError::Start { .. }));
}

#[test]
fn without_a_predecessor_nothing_is_forwarded() {
    assert!(!forward_cancel(1, b"abcd"));
}
