//! Both ends of an authentication, fed with anything: who has no key gets no further, and nothing
//! panics on the way there. The first byte chooses the end, a line feed separates messages.
#![no_main]

use std::num::NonZeroU32;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pgherd::auth::scram::{
    Account, Client, ClientSecret, SaltedPasswords, Server, Verifier, salted_password,
};
use pgherd::auth::{ClientAuth, ScramKeys, Secret, Step};
use pgherd::config::AuthMethod;

const NONCE: &str = "fuzzfuzzfuzz";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let once = NonZeroU32::MIN;
    Verifier::from_salted(&salted_password("secret", b"salt", once), b"salt", once)
});
static SALTED: LazyLock<SaltedPasswords> = LazyLock::new(|| SaltedPasswords::new([7; 32], 8));

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let mut messages = rest.split(|&byte| byte == b'\n');
    let (one, two) = (messages.next().unwrap_or(b""), messages.next().unwrap_or(b""));
    let end_point = (choice & 8 == 0).then_some(&[7; 32][..]);
    match choice % 4 {
        0 => server(one, two, end_point, choice & 16 == 0),
        1 => client(one, two, messages.next().unwrap_or(b""), end_point),
        2 => exchange([one, two], end_point, choice & 16 == 0),
        _ => verifier(rest),
    }
});

fn server(first: &[u8], last: &[u8], end_point: Option<&[u8]>, known: bool) {
    let account =
        if known { Account::real(VERIFIER.clone()) } else { Account::doomed([3; 16]) };
    let server = Server::new(account, end_point);
    let plus = first.starts_with(b"p=") && end_point.is_some();
    let mechanism: &[u8] = if plus { b"SCRAM-SHA-256-PLUS" } else { b"SCRAM-SHA-256" };
    if let Ok((challenged, message)) = server.first(mechanism, first, NONCE) {
        assert!(message.starts_with(b"r="));
        assert!(challenged.finish(last).is_err(), "a proof without a key");
    }
}

fn client(offered: &[u8], first: &[u8], last: &[u8], end_point: Option<&[u8]>) {
    let keys = ScramKeys { client_key: [1; 32], server_key: [2; 32] };
    let secret = ClientSecret::Keys(keys);
    let offered = [offered, b"\0SCRAM-SHA-256\0"].concat();
    let Ok((client, _)) = Client::start(secret, end_point, &offered, NONCE) else { return };
    if let Ok((challenge, answer)) = client.respond(first, &SALTED) {
        assert!(answer.starts_with(b"c="));
        assert!(challenge.finish(last).is_err(), "a signature without a key");
    }
}

/// Bodies of 'p' frames, as the handshake hands them over.
fn exchange(bodies: [&[u8]; 2], end_point: Option<&[u8]>, scram: bool) {
    let (method, secret) = match scram {
        true => (AuthMethod::ScramSha256, Secret::Scram(VERIFIER.clone())),
        false => (AuthMethod::Md5, Secret::Md5("0123456789abcdef0123456789abcdef".into())),
    };
    let (mut auth, mut step) = ClientAuth::start(method, "u", Some(&secret), end_point, false);
    for body in bodies {
        match step {
            Step::Continue(_) => step = auth.step(body),
            Step::Done { .. } => panic!("nobody proved anything"),
            Step::Failed(_) => return,
        }
    }
    assert!(!matches!(step, Step::Done { .. }), "nobody proved anything");
}

fn verifier(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Some(parsed) = Verifier::parse(text) {
        let again = Verifier::parse(&parsed.format()).map(|verifier| verifier.format());
        assert_eq!(again, Some(parsed.format()));
    }
}
