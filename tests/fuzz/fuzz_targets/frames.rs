//! Any stream of bytes: frames tile it, nobody reads behind a frame's end, and what has not arrived
//! yet changes nothing about what has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgherd::wire::{Cut, HEADER_BYTES, Reader, cut, frame, read};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, stream)) = data.split_first() else { return };
    let max = if choice & 1 == 0 { frame::client_max } else { frame::server_max };

    let mut rest = stream;
    loop {
        let found = cut(rest, max);
        // Only the header counts: a frame is known before its body is there.
        let header = rest.get(..HEADER_BYTES).unwrap_or(rest);
        assert_eq!(cut(header, max), found, "the body changed the frame");
        let Cut::Frame { kind, total } = found else { break };
        assert!(total >= HEADER_BYTES, "a frame has a header");
        assert!(total - HEADER_BYTES <= max(kind), "the limit holds");
        let Some(whole) = rest.get(..total) else { break };
        views(&whole[HEADER_BYTES..], choice);
        rest = &rest[total..];
    }
});

/// Every kind of read, and the views on top of them.
fn views(body: &[u8], choice: u8) {
    let mut reader = Reader::new(body);
    let mut read_bytes = 0;
    loop {
        let before = reader.rest().len();
        let ok = match choice >> 1 & 3 {
            0 => reader.cstr("text").map(|text| assert!(!text.contains(&0))).is_ok(),
            1 => reader.u32("number").is_ok(),
            2 => {
                let length = reader.u16("length").map(usize::from);
                length.and_then(|length| reader.bytes(length, "bytes")).is_ok()
            }
            _ => reader.u8("byte").is_ok(),
        };
        let after = reader.rest().len();
        assert!(after <= before, "a read gives nothing back");
        read_bytes += before - after;
        if !ok {
            break;
        }
    }
    assert_eq!(read_bytes + reader.rest().len(), body.len(), "reads tile the body");
    assert_eq!(reader.end("end").is_ok(), reader.rest().is_empty());
    for key in [b'S', b'C', b'M', 0] {
        if let Some(value) = read::error_field(body, key) {
            assert!(value.len() < body.len());
        }
    }
    if let Ok((name, value)) = read::parameter_status(body) {
        assert_eq!(name.len() + value.len() + 2, body.len(), "nothing is left over");
    }
}
