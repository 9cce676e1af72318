//! Reading one whole frame's body: every read is bounded, and nothing may be left over.

use std::fmt;

/// A frame that does not say what its type promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// What was being read.
    pub what: &'static str,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: {}", self.what)
    }
}

impl std::error::Error for WireError {}

/// A cursor over one frame's body.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over `body`: the bytes behind the header.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Reader { rest: body }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Exactly `n` bytes.
    pub fn bytes(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(WireError { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        let (&head, rest) = self.rest.split_first().ok_or(WireError { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// Int16.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        let (&head, rest) = self.rest.split_first_chunk::<2>().ok_or(WireError { what })?;
        self.rest = rest;
        Ok(u16::from_be_bytes(head))
    }

    /// Int32.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        let (&head, rest) = self.rest.split_first_chunk::<4>().ok_or(WireError { what })?;
        self.rest = rest;
        Ok(u32::from_be_bytes(head))
    }

    /// A zero-terminated string, without its terminator.
    pub fn cstr(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        // Most names are empty.
        if let [0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(&[]);
        }
        let end = memchr::memchr(0, self.rest).ok_or(WireError { what })?;
        let (head, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(head)
    }

    /// Nothing may be left.
    pub fn end(self, what: &'static str) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError { what }) }
    }
}

/// The field `key` of an ErrorResponse or NoticeResponse body.
#[must_use]
pub fn error_field(body: &[u8], key: u8) -> Option<&[u8]> {
    let mut r = Reader::new(body);
    loop {
        match r.u8("error field").ok()? {
            0 => return None,
            k => {
                let value = r.cstr("error field").ok()?;
                if k == key {
                    return Some(value);
                }
            }
        }
    }
}

/// Name and value of a ParameterStatus body.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut r = Reader::new(body);
    let name = r.cstr("ParameterStatus")?;
    let value = r.cstr("ParameterStatus")?;
    r.end("ParameterStatus")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stay_inside_the_frame() {
        let mut r = Reader::new(b"ab\0\0\x01x");
        assert_eq!(r.cstr("s").unwrap(), b"ab");
        assert_eq!(r.u16("n").unwrap(), 1);
        assert!(r.u32("n").is_err());
        assert_eq!(r.u8("c").unwrap(), b'x');
        assert!(r.u8("c").is_err());
        assert!(r.end("e").is_ok());
        assert!(Reader::new(b"ab").cstr("unterminated").is_err());
        assert!(Reader::new(b"a").end("left over").is_err());
    }

    #[test]
    fn error_fields() {
        let body = b"SERROR\0C0A000\0Mmsg\0\0";
        assert_eq!(error_field(body, b'C'), Some(&b"0A000"[..]));
        assert_eq!(error_field(body, b'D'), None);
        assert_eq!(error_field(b"SERROR", b'S'), None);
    }
}
