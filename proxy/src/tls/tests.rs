//! Both handshakes against each other, with certificates made here.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519};
use rcgen::{PKCS_RSA_SHA256, PKCS_RSA_SHA512};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::testing::{Authority, Files};
use super::*;
use crate::config::{Tls, TlsClient, TlsServer};

fn client_side(files: &Files, mode: ClientTlsMode) -> TlsClient {
    let (cert_file, key_file) = (files.cert.clone(), files.key.clone());
    TlsClient { mode, cert_file, key_file, ..TlsClient::default() }
}

fn server_side(mode: ServerTlsMode, ca_file: &str) -> TlsServer {
    TlsServer { mode, ca_file: ca_file.to_owned(), ..TlsServer::default() }
}

fn load(client: TlsClient, server: TlsServer) -> Material {
    Material::load(&Tls { client, server }).unwrap()
}

/// What both ends found out: our end point as the other end sees it, and its certificate's names.
struct Met {
    end_point: Option<Vec<u8>>,
    names: Vec<String>,
}

/// `dialler` connects to `accepter` as to `host`; bytes must pass both ways.
async fn meet(accepter: &Material, dialler: &Material, host: &str) -> io::Result<Met> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let server = async {
        let mut stream = accepter.accept(Socket::Tcp(accepted), Opening::Direct).await?;
        let names = peer_names(&stream);
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        Ok::<_, io::Error>(names)
    };
    let client = async {
        let mut stream = dialler.connect(Socket::Tcp(dialled), host).await?;
        let end_point = end_point_of_peer(&stream);
        stream.read_exact(&mut [0; 4]).await?;
        Ok::<_, io::Error>(end_point)
    };
    let (names, end_point) = tokio::join!(server, client);
    // The dialler's reason says more: the accepter only gets an alert.
    let end_point = end_point?;
    Ok(Met { end_point, names: names? })
}

#[tokio::test]
async fn servers_are_trusted_as_far_as_the_mode_says() {
    let (ours, other) = (Authority::new(), Authority::new());
    let accepter =
        load(client_side(&ours.issue("server"), ClientTlsMode::Allow), TlsServer::default());
    let alone = ours.self_signed("alone", &PKCS_ECDSA_P256_SHA256);
    let self_signed = load(client_side(&alone, ClientTlsMode::Allow), TlsServer::default());
    let (ca, wrong) = (ours.ca_file(), other.ca_file());
    let own = alone.cert.clone();

    use ServerTlsMode::{Prefer, Require, VerifyCa, VerifyFull};
    for (accepter, mode, ca, host, expect) in [
        (&accepter, Prefer, "", "127.0.0.1", true),
        (&accepter, Require, "", "not_checked..", true),
        (&accepter, VerifyCa, ca.as_str(), "elsewhere.example", true),
        (&accepter, VerifyCa, wrong.as_str(), "localhost", false),
        (&accepter, VerifyCa, "", "localhost", false),
        (&accepter, VerifyFull, ca.as_str(), "localhost", true),
        (&accepter, VerifyFull, ca.as_str(), "127.0.0.1", true),
        (&accepter, VerifyFull, ca.as_str(), "127.0.0.2", false),
        (&accepter, VerifyFull, ca.as_str(), "elsewhere.example", false),
        (&accepter, VerifyFull, ca.as_str(), "not_a_name..", false),
        (&self_signed, VerifyFull, own.as_str(), "localhost", true),
        (&self_signed, VerifyFull, own.as_str(), "elsewhere.example", false),
        (&self_signed, VerifyCa, ca.as_str(), "localhost", false),
    ] {
        let dialler = load(TlsClient::default(), server_side(mode, ca));
        let met = meet(accepter, &dialler, host).await;
        assert_eq!(met.is_ok(), expect, "{mode:?} {host}: {:?}", met.err());
    }
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_read() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (alice, mallory) = (ours.issue("alice"), other.issue("mallory"));
    let server = ours.issue("server");
    let check = async |asked, client: Option<&Files>, expect: Option<&[&str]>| {
        let mut side = client_side(&server, ClientTlsMode::Require);
        side.client_certificate = asked;
        side.ca_file = ours.ca_file();
        let accepter = load(side, TlsServer::default());
        let mut side = server_side(ServerTlsMode::VerifyFull, &ours.ca_file());
        if let Some(files) = client {
            (side.cert_file, side.key_file) = (files.cert.clone(), files.key.clone());
        }
        let met = meet(&accepter, &load(TlsClient::default(), side), "localhost").await;
        let names = met.ok().map(|met| met.names);
        let expect = expect.map(|names| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>());
        assert_eq!(names, expect, "{asked:?} {client:?}");
    };
    use ClientCertificate::{None as Unasked, Optional, Require};
    let names: &[&str] = &["alice", "localhost", "someone@example.com"];
    check(Unasked, None, Some(&[])).await;
    check(Unasked, Some(&alice), Some(&[])).await;
    check(Optional, None, Some(&[])).await;
    check(Optional, Some(&alice), Some(names)).await;
    check(Optional, Some(&mallory), None).await;
    check(Require, None, None).await;
    check(Require, Some(&alice), Some(names)).await;
    check(Require, Some(&mallory), None).await;
}

#[tokio::test]
async fn both_ends_compute_the_same_end_point() {
    let authority = Authority::new();
    for (name, algorithm, bytes) in [
        ("rsa256", &PKCS_RSA_SHA256, Some(32)),
        ("rsa512", &PKCS_RSA_SHA512, Some(64)),
        ("p256", &PKCS_ECDSA_P256_SHA256, Some(32)),
        ("p384", &PKCS_ECDSA_P384_SHA384, Some(48)),
        ("p521", &PKCS_ECDSA_P521_SHA512, Some(64)),
        ("ed25519", &PKCS_ED25519, None),
    ] {
        let files = authority.self_signed(name, algorithm);
        let accepter = load(client_side(&files, ClientTlsMode::Allow), TlsServer::default());
        let dialler = load(TlsClient::default(), server_side(ServerTlsMode::Require, ""));
        let met = meet(&accepter, &dialler, "localhost").await.unwrap();
        assert_eq!(met.end_point.as_deref(), accepter.end_point(), "{name}");
        assert_eq!(met.end_point.map(|hash| hash.len()), bytes, "{name}");
    }
}

#[tokio::test]
async fn the_lowest_version_is_kept() {
    let authority = Authority::new();
    let mut side = client_side(&authority.issue("server"), ClientTlsMode::Allow);
    let check = |side: &TlsClient, expect| {
        let tls = Tls { client: side.clone(), server: TlsServer::default() };
        assert_eq!(Material::load(&tls).is_ok(), expect, "{}", side.min_version);
    };
    for (version, expect) in [("1.2", true), ("1.3", true), ("1.1", false), ("", false)] {
        side.min_version = version.into();
        check(&side, expect);
    }
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let authority = Authority::new();
    let (one, two) = (authority.issue("one"), authority.issue("two"));
    let empty = authority.path("empty.pem").to_string_lossy().into_owned();
    std::fs::write(&empty, "nothing here").unwrap();
    let check = |cert: &str, key: &str, ca: Option<&str>, expect: &str| {
        let mut side = TlsClient { mode: ClientTlsMode::Prefer, ..TlsClient::default() };
        (side.cert_file, side.key_file) = (cert.into(), key.into());
        if let Some(ca) = ca {
            side.client_certificate = ClientCertificate::Optional;
            side.ca_file = ca.into();
        }
        let tls = Tls { client: side, server: TlsServer::default() };
        let error = Material::load(&tls).unwrap_err().to_string();
        assert!(error.contains(expect), "{error} / {expect}");
    };
    check("", "", None, "tls.client.cert_file is not set, but tls.client.mode");
    check(&one.cert, "", None, "tls.client.key_file is not set, but its counterpart is");
    check("/nonexistent.crt", &one.key, None, "cannot read /nonexistent.crt");
    check(&empty, &one.key, None, "empty.pem: holds no PEM certificate");
    check(&one.cert, &empty, None, "empty.pem: holds no unencrypted PEM private key");
    check(&one.cert, &two.key, None, "two.key does not match the certificate in");
    check(&one.cert, &one.key, Some(""), "tls.client.ca_file is not set");
    check(&one.cert, &one.key, Some(&empty), "empty.pem: holds no PEM certificate");
    let default = Material::load(&Tls::default()).unwrap();
    assert!(!default.accepts_tls() && !default.requires_tls() && default.end_point().is_none());
    assert_eq!(default.server_mode(), ServerTlsMode::Prefer);
    assert_eq!(Material::default().server_mode(), ServerTlsMode::Disable);
}
