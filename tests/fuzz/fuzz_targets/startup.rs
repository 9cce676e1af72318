//! What anybody may send before a proof: startup packets with their options, cancel keys, PROXY
//! headers. The first byte chooses which.
#![no_main]

use futures::FutureExt;
use libfuzzer_sys::fuzz_target;
use pgherd::fuzzing;
use pgherd::listener::proxy_protocol;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    match choice % 4 {
        0 => startup(bytes),
        // Only the options are arbitrary.
        1 => startup(&[b"\0\x03\0\x02user\0u\0options\0", bytes, b"\0\0"].concat()),
        2 => {
            if let Some((_, secret)) = fuzzing::cancel_key(bytes) {
                assert!((4..=256).contains(&secret.len()));
            }
        }
        _ => proxy_header(bytes),
    }
});

fn startup(packet: &[u8]) {
    match fuzzing::startup(packet) {
        Ok((startup, negotiation)) => {
            for name in [&startup.user, &startup.database] {
                assert!((1..=63).contains(&name.len()), "{name:?} is no name");
                assert!(!name.contains('\0'));
            }
            for (name, value) in &startup.settings {
                let odd = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !"_.$".contains(c);
                assert!(!name.is_empty() && !name.contains(odd), "{name:?} is no setting");
                assert!(!value.contains('\0'));
                let same = startup.settings.iter().filter(|(other, _)| other == name);
                assert_eq!(same.count(), 1, "{name} twice");
            }
            if let Some((header, _)) = negotiation.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
                assert_eq!((header[0], length as usize + 1), (b'v', negotiation.len()));
            }
        }
        Err(report) => assert_eq!(report.sqlstate.len(), 5),
    }
}

/// A header is read exactly: what is behind it belongs to the client.
fn proxy_header(bytes: &[u8]) {
    let mut rest = bytes;
    // A slice is always ready.
    let Some(result) = proxy_protocol::read(&mut rest).now_or_never() else {
        panic!("reading a slice waits")
    };
    if result.is_ok() {
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        assert_eq!(bytes.len() - rest.len(), 16 + length);
    }
}
