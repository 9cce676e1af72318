//! The bearer token of the admin HTTP, read from its file by both ends.

use std::fs;
use std::io;
use std::path::Path;

use secrecy::SecretString;

use crate::limits;

/// The token in `file`, without the line's end; errors name the file.
pub(super) fn read(file: &Path) -> io::Result<SecretString> {
    token(file).map_err(|e| io::Error::new(e.kind(), format!("token file {}: {e}", file.display())))
}

fn token(file: &Path) -> io::Result<SecretString> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    if fs::metadata(file)?.len() > limits::ADMIN_TOKEN_BYTES_MAX as u64 {
        return Err(invalid("is too long for a token"));
    }
    let text = fs::read_to_string(file)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(invalid("is empty"));
    }
    if token.contains(char::is_whitespace) || !token.is_ascii() {
        return Err(invalid("must hold one word of ASCII"));
    }
    Ok(token.to_owned().into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn tokens_are_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, expect) in
            [("abc\n", Some("abc")), ("", None), ("\n", None), ("a b", None), ("ä", None)]
        {
            fs::write(&file, text).unwrap();
            let found = read(&file).ok().map(|t| t.expose_secret().to_owned());
            assert_eq!(found.as_deref(), expect, "{text:?}");
        }
        fs::write(&file, "x".repeat(limits::ADMIN_TOKEN_BYTES_MAX + 1)).unwrap();
        assert!(read(&file).is_err());
        assert!(read(Path::new("/nonexistent")).unwrap_err().to_string().contains("/nonexistent"));
    }
}
