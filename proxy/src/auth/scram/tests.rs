//! Against the RFC, against another implementation, against ourselves, and against garbage.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;

const END_POINT: &[u8] = &[42; 32];
const NONCE: &str = "clientNONCE0123456789";
const FEW: NonZeroU32 = NonZeroU32::new(16).unwrap();

fn memory() -> SaltedPasswords {
    SaltedPasswords::new([3; 32], 10)
}

fn verifier(password: &str) -> Verifier {
    memory().verifier("ann", password, b"0123456789abcdef", FEW)
}

fn password(password: &str) -> ClientSecret {
    ClientSecret::Password { user: "ann".into(), password: password.into() }
}

fn server(end_point: Option<&[u8]>) -> Server {
    Server::new(Account::real(verifier("pencil")), end_point)
}

/// Our client against our server; `tamper` may change each message on its way.
fn meet(
    server: Server,
    secret: ClientSecret,
    end_point: Option<&[u8]>,
    mut tamper: impl FnMut(usize, &mut Vec<u8>),
) -> Result<ScramKeys, ScramError> {
    let (client, ClientFirst { mechanism, mut message }) =
        Client::start(secret, end_point, server.mechanisms(), NONCE)?;
    tamper(1, &mut message);
    let (challenged, mut message) = server.first(mechanism.as_bytes(), &message, "serverNONCE")?;
    tamper(2, &mut message);
    let (challenge, mut message) = client.respond(&message, &memory())?;
    tamper(3, &mut message);
    let (keys, mut message) = challenged.finish(&message)?;
    tamper(4, &mut message);
    challenge.finish(&message)?;
    Ok(keys)
}

/// A client of another make against our server.
fn interoperate(password: &[u8], account: Account, plus: bool) -> Result<ScramKeys, ScramError> {
    let server = Server::new(account, plus.then_some(END_POINT));
    let (mechanism, binding) = match plus {
        true => (MECHANISM_PLUS, ChannelBinding::tls_server_end_point(END_POINT.to_vec())),
        false => (MECHANISM, ChannelBinding::unsupported()),
    };
    let mut client = ScramSha256::new(password, binding);
    let (challenged, message) =
        server.first(mechanism.as_bytes(), client.message(), &crate::auth::process::nonce())?;
    client.update(&message).unwrap();
    let (keys, message) = challenged.finish(client.message())?;
    client.finish(&message).unwrap();
    Ok(keys)
}

#[test]
fn the_example_of_rfc_7677() {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = memory().verifier("user", "pencil", &salt, ITERATIONS_DEFAULT);
    let server = Server::new(Account::real(verifier), None);
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let (challenged, message) =
        server.first(MECHANISM.as_bytes(), first, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let expect = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    assert_eq!(message, expect.as_bytes());
    let last = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let (_, message) = challenged.finish(last.as_bytes()).unwrap();
    assert_eq!(message, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn verifiers_are_read_strictly() {
    let text = verifier("pencil").format();
    assert_eq!(Verifier::parse(&text).unwrap(), verifier("pencil"));
    let check = |text: &str| assert!(Verifier::parse(text).is_none(), "{text}");
    for cut in 0..text.len() {
        check(&text[..cut]);
    }
    check(&format!("{text}A"));
    check(&text.replace("$16:", "$0:"));
    check(&text.replace("$16:", "$+16:"));
    check(&text.replace("$16:", "$4294967296:"));
    check(&text.replace("SHA-256", "SHA-1"));
}

#[test]
fn our_client_and_our_server_agree() {
    let keys = meet(server(None), password("pencil"), None, |_, _| {}).unwrap();
    let again = ClientSecret::Keys(keys.clone());
    for (ours, theirs) in
        [(None, None), (Some(END_POINT), Some(END_POINT)), (Some(END_POINT), None)]
    {
        let won = meet(server(ours), again.clone(), theirs, |_, _| {}).unwrap();
        assert_eq!(won.client_key, keys.client_key, "{ours:?} {theirs:?}");
        assert_eq!(won.server_key, keys.server_key, "{ours:?} {theirs:?}");
    }
    // A client on TLS and a server that can't bind: "y" is fine where PLUS was not offered.
    assert!(meet(server(None), password("pencil"), Some(END_POINT), |_, _| {}).is_ok());
}

#[test]
fn failures_have_their_names() {
    let check = |result: Result<ScramKeys, ScramError>, expect| {
        assert_eq!(result.map(|_| ()), Err(expect));
    };
    check(meet(server(None), password("pencil "), None, |_, _| {}), ScramError::Proof);
    let doomed = || Server::new(Account::doomed([1; SALT_BYTES]), Some(END_POINT));
    check(meet(doomed(), password("pencil"), Some(END_POINT), |_, _| {}), ScramError::Proof);
    let other: &[u8] = &[43; 32];
    check(
        meet(server(Some(END_POINT)), password("pencil"), Some(other), |_, _| {}),
        ScramError::BindingMismatch,
    );
    let keys = ScramKeys { client_key: [1; 32], server_key: [2; 32] };
    check(meet(server(None), ClientSecret::Keys(keys), None, |_, _| {}), ScramError::Proof);
    // The right ClientKey, but a server that does not know the ServerKey is an impostor.
    let mut keys = meet(server(None), password("pencil"), None, |_, _| {}).unwrap();
    keys.server_key = [2; 32];
    check(
        meet(server(None), ClientSecret::Keys(keys), None, |_, _| {}),
        ScramError::ServerSignature,
    );
}

#[test]
fn removing_plus_from_the_offer_is_noticed() {
    // What a man in the middle does: the client never sees PLUS and says "y".
    let (_, first) =
        Client::start(password("pencil"), Some(END_POINT), b"SCRAM-SHA-256\0\0", NONCE).unwrap();
    assert_eq!(first.mechanism, MECHANISM);
    let refused = server(Some(END_POINT)).first(MECHANISM.as_bytes(), &first.message, "x");
    assert_eq!(refused.unwrap_err(), ScramError::Downgrade);
    // And what he may try next: turn the flag into "n". The signature covers it.
    let tampered = |at, message: &mut Vec<u8>| {
        if at == 1 {
            message[0] = b'n';
        }
    };
    let refused = meet(server(None), password("pencil"), Some(END_POINT), tampered);
    assert!(matches!(refused, Err(ScramError::Malformed(_))));
}

#[test]
fn mechanism_and_flag_must_fit() {
    let check = |plus: bool, mechanism: &str, message: &str, expect: &str| {
        let server = server(plus.then_some(END_POINT));
        let result = server.first(mechanism.as_bytes(), message.as_bytes(), "x");
        let said = match result {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.report("ann").sqlstate.to_owned(),
        };
        assert_eq!(said, expect, "{plus} {mechanism} {message}");
    };
    check(true, MECHANISM, "n,,n=,r=abc", "ok");
    check(true, MECHANISM_PLUS, "p=tls-server-end-point,,n=,r=abc", "ok");
    check(false, MECHANISM, "y,,n=,r=abc", "ok");
    check(false, MECHANISM, "n,,n=ann,r=abc,x=y,z=", "ok");
    check(true, MECHANISM, "y,,n=,r=abc", "28000");
    check(true, MECHANISM, "p=tls-server-end-point,,n=,r=abc", "08P01");
    check(true, MECHANISM_PLUS, "n,,n=,r=abc", "08P01");
    check(true, MECHANISM_PLUS, "y,,n=,r=abc", "08P01");
    check(true, MECHANISM_PLUS, "p=tls-unique,,n=,r=abc", "08P01");
    check(false, MECHANISM_PLUS, "p=tls-server-end-point,,n=,r=abc", "08P01");
    check(false, "SCRAM-SHA-1", "n,,n=,r=abc", "08P01");
    check(false, MECHANISM, "n,a=eve,n=,r=abc", "0A000");
    check(false, MECHANISM, "n,,m=x,n=,r=abc", "0A000");
    check(false, MECHANISM, "n,,n=,r=", "08P01");
    check(false, MECHANISM, "n,,n=,r=a\u{7f}", "08P01");
    check(false, MECHANISM, "n,,r=abc", "08P01");
    check(false, MECHANISM, "n,,n=,r=abc,=", "08P01");
    check(false, MECHANISM, "n,,n=,r=abc\0", "08P01");
    check(false, MECHANISM, &format!("n,,n=,r={}", "a".repeat(5_000)), "08P01");
}

#[test]
fn the_client_distrusts_servers() {
    let check = |message: &str, expect: &str| {
        let (client, _) =
            Client::start(password("pencil"), None, b"SCRAM-SHA-256\0\0", "abc").unwrap();
        let said = match client.respond(message.as_bytes(), &memory()) {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        assert!(said.starts_with(expect), "{message}: {said}");
    };
    check("r=abcd,s=c2FsdA==,i=1", "ok");
    check("r=abc,s=c2FsdA==,i=1", "Nonce");
    check("r=xabcd,s=c2FsdA==,i=1", "Nonce");
    check("r=abcd,s=c2FsdA==,i=0", "Malformed");
    check("r=abcd,s=c2FsdA==,i=-1", "Malformed");
    check("r=abcd,s=c2FsdA==,i=4294967295", "TooDear");
    check("r=abcd,s=,i=1", "Malformed");
    check("r=abcd,s=?,i=1", "Malformed");
    check("r=abcd,s=c2FsdA==,i=1,x=y", "Malformed");
    check("", "Malformed");
    let offered = |list: &[u8], end_point| {
        Client::start(password("pencil"), end_point, list, "abc").map(|(_, first)| first.mechanism)
    };
    assert_eq!(offered(b"OAUTHBEARER\0\0", None), Err(ScramError::NoMechanism));
    assert_eq!(offered(b"SCRAM-SHA-256-PLUS\0\0", None), Err(ScramError::NoMechanism));
    let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    assert_eq!(offered(both, None), Ok(MECHANISM));
    assert_eq!(offered(both, Some(END_POINT)), Ok(MECHANISM_PLUS));
    let says = |tampered: &'static [u8]| {
        meet(server(None), password("pencil"), None, move |at, message| {
            if at == 4 {
                *message = tampered.to_vec();
            }
        })
        .map(|_| ())
    };
    assert_eq!(says(b"e=other-error"), Err(ScramError::ServerSays("other-error".into())));
    assert!(says(b"v=").is_err());
}

#[test]
fn passwords_are_prepared_as_postgresql_does() {
    let check = |password: &str, expect: &str| assert_eq!(prepare(password), expect);
    check("IX", "IX");
    check("I\u{ad}X", "IX");
    check("\u{2168}", "IX");
    check("a\u{a0}b", "a b");
    // Prohibited or empty: as it is.
    check("\u{7}", "\u{7}");
    check("\u{627}1", "\u{627}1");
    check("\u{ad}", "\u{ad}");
}

#[test]
fn a_changed_password_is_not_answered_with_the_old_one() {
    let memory = SaltedPasswords::new([0; 32], 2);
    let get = |password| memory.get("ann", password, b"salt", FEW);
    assert_ne!(get("a"), get("b"));
    assert_eq!(get("a"), salted_password("a", b"salt", FEW));
    // The third entry pushes the first out; it is computed again and is the same.
    assert_ne!(get("c"), get("a"));
    assert_eq!(get("a"), salted_password("a", b"salt", FEW));
    assert_eq!(format!("{memory:?}"), "SaltedPasswords(2 entries)");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn other_clients_are_understood(
        text in "\\PC{1,20}",
        salt in proptest::collection::vec(any::<u8>(), 1..40),
        plus: bool,
    ) {
        let memory = memory();
        let account = |password: &str| {
            Account::real(memory.verifier("ann", password, &salt, FEW))
        };
        let keys = interoperate(text.as_bytes(), account(&text), plus).unwrap();
        // The keys that were won log in again.
        let server = Server::new(account(&text), None);
        let again = meet(server, ClientSecret::Keys(keys), None, |_, _| {});
        prop_assert!(again.is_ok());
        let wrong = interoperate(b"pencil", account(&format!("{text}x")), plus);
        prop_assert_eq!(wrong.map(|_| ()), Err(ScramError::Proof));
        let unknown = interoperate(text.as_bytes(), Account::doomed([9; SALT_BYTES]), plus);
        prop_assert_eq!(unknown.map(|_| ()), Err(ScramError::Proof));
    }

    #[test]
    fn no_changed_message_is_accepted(
        which in 1_usize..=4,
        place: prop::sample::Index,
        change in 1_u8..=255,
        plus: bool,
    ) {
        let end_point = plus.then_some(END_POINT);
        let mut same = false;
        let result = meet(server(end_point), password("pencil"), end_point, |at, message| {
            if at == which {
                let before = message.clone();
                let place = place.index(message.len());
                message[place] ^= change;
                // The last bits of a base64 text may say nothing; strict decoders refuse them.
                same = before == *message;
            }
        });
        prop_assert!(result.is_err() || same);
    }

    #[test]
    fn cut_and_random_messages_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
        text in "[npyracmievs=,A-Z0-9+/]{0,60}",
        cut: prop::sample::Index,
    ) {
        for message in [&bytes[..], text.as_bytes()] {
            let _ = messages::client_first(message);
            let _ = messages::client_final(message);
            let _ = messages::server_first(message);
            let _ = messages::server_final(message);
            for mechanism in [MECHANISM, MECHANISM_PLUS] {
                let _ = server(Some(END_POINT)).first(mechanism.as_bytes(), message, "x");
            }
        }
        for which in 1..=4 {
            let result = meet(server(None), password("pencil"), None, |at, message| {
                if at == which {
                    message.truncate(cut.index(message.len()));
                }
            });
            prop_assert!(result.is_err());
        }
    }
}
