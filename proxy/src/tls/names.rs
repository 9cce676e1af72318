//! What a certificate says: the hash that channel binding uses, and the names of its holder.
//!
//! Never judges a certificate; `verify` and rustls do.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

/// The tls-server-end-point data of `certificate` (RFC 5929, section 4.1): its hash by the hash
/// function of its signature algorithm. `None` where that is undefined, as for Ed25519.
/// PostgreSQL computes the same in `be_tls_get_certificate_hash` (be-secure-openssl.c).
#[must_use]
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = signature_hash(&parsed.signature_algorithm)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn signature_hash(signature: &AlgorithmIdentifier<'_>) -> Option<&'static digest::Algorithm> {
    match signature.algorithm.to_id_string().as_str() {
        // MD5 and SHA-1 signatures are hashed with SHA-256: RSA, DSA, ECDSA.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10040.4.3"
        | "1.2.840.10045.4.1" => Some(&digest::SHA256),
        // sha224, sha256, sha384 and sha512 WithRSAEncryption; ecdsa-with-SHA224 and so on.
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Some(&digest::SHA224),
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Some(&digest::SHA256),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&digest::SHA384),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&digest::SHA512),
        // RSASSA-PSS names its hash in its parameters.
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(signature.parameters.as_ref()?).ok()?;
            match parameters.hash_algorithm_oid().to_id_string().as_str() {
                "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(&digest::SHA256),
                "2.16.840.1.101.3.4.2.2" => Some(&digest::SHA384),
                "2.16.840.1.101.3.4.2.3" => Some(&digest::SHA512),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The names of the holder: CN, then DNS, e-mail and URI names.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok((_, parsed)) => collect(&parsed),
        Err(_) => Vec::new(),
    }
}

fn collect(certificate: &X509Certificate<'_>) -> Vec<String> {
    // Only the first CN counts, as in be-secure-openssl.c.
    let cn = certificate.subject().iter_common_name().next().and_then(|cn| cn.as_str().ok());
    let mut all: Vec<&str> = cn.into_iter().collect();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name)
                | GeneralName::RFC822Name(name)
                | GeneralName::URI(name) => all.push(name),
                _ => {}
            }
        }
    }
    // A zero byte inside a name is an attack on whoever compares C strings (CVE-2009-4034).
    all.into_iter()
        .filter(|name| !name.is_empty() && !name.contains('\0'))
        .map(str::to_owned)
        .collect()
}
