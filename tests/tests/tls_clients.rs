//! TLS towards clients: what libpq's words meet, certificates of clients, direct TLS, reload.
#![allow(clippy::unwrap_used)] // how a test fails

use std::sync::Arc;

use pgherd::wire::{self, build};
use pgherd_tests::{Authority, DATABASE, Fixture, Pair, RawClient, USER};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ADMIN: &str = "[admin]\nusers = [\"postgres\"]\n";

fn tls_client(mode: &str, pair: &Pair, more: &str) -> String {
    let (cert, key) = (pair.cert.display(), pair.key.display());
    format!("[tls.client]\nmode = \"{mode}\"\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n{more}")
}

/// Whether psql came over TLS, by its own word; or its complaint.
fn encrypted(fixture: &Fixture, more: &str) -> Result<bool, String> {
    let said = fixture.psql(USER, DATABASE, more, "\\conninfo")?;
    Ok(said.contains("SSL connection"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_libpqs_sslmodes_meet() -> Outcome {
    let authority = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["localhost", "127.0.0.1"])?;
    let fixture = Fixture::builder()
        .config(&format!("{ADMIN}{}", tls_client("allow", &pair, "")))
        .start()
        .await;
    let other = Authority::new()?;
    let ca = format!("sslrootcert={}", authority.ca_file().display());
    let wrong_ca = format!("sslrootcert={}", other.ca_file().display());
    // sslmode, what disable, allow (and prefer) and require answer.
    let table = [
        ("sslmode=disable", "plain", "plain", "refused"),
        ("sslmode=allow", "plain", "plain", "tls"),
        ("sslmode=prefer", "plain", "tls", "tls"),
        ("sslmode=require", "refused", "tls", "tls"),
        (&format!("sslmode=verify-ca {ca}"), "refused", "tls", "tls"),
        (&format!("sslmode=verify-full {ca}"), "refused", "tls", "tls"),
        (&format!("sslmode=verify-ca {wrong_ca}"), "refused", "refused", "refused"),
        (&format!("sslmode=verify-full {wrong_ca}"), "refused", "refused", "refused"),
    ];
    for mode in ["disable", "allow", "prefer", "require"] {
        // RELOAD comes with sslmode=prefer, psql's default: that gets in whatever the mode is.
        fixture.reconfigure(&format!("[tls.client]\nmode = \"{mode}\"\n"));
        for (words, off, on, required) in table {
            let expect = match mode {
                "disable" => off,
                "require" => required,
                _ => on,
            };
            let got = match encrypted(&fixture, words) {
                Ok(true) => "tls",
                Ok(false) => "plain",
                Err(_) => "refused",
            };
            assert_eq!(got, expect, "{words} meets {mode}: {:?}", encrypted(&fixture, words));
        }
    }
    let refusal = fixture.psql(USER, DATABASE, "sslmode=disable", "SELECT 1").unwrap_err();
    assert!(refusal.contains("only encrypted connections"), "{refusal}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_full_wants_the_name_of_the_host() -> Outcome {
    let authority = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["elsewhere.example"])?;
    let fixture = Fixture::builder().config(&tls_client("require", &pair, "")).start().await;
    let ca = format!("sslrootcert={}", authority.ca_file().display());
    let select =
        |mode: &str| fixture.psql(USER, DATABASE, &format!("sslmode={mode} {ca}"), "SELECT 1");
    assert_eq!(select("verify-ca").as_deref(), Ok("1"));
    assert!(select("verify-full").unwrap_err().contains("does not match host name"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_name_users() -> Outcome {
    let authority = Authority::new()?;
    let stranger = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["127.0.0.1"])?;
    let ann = authority.issue("ann", "ann", &["ann.example"])?;
    let mapped = authority.issue("mapped", "Ann of Accounting", &[])?;
    let forged = stranger.issue("forged", "ann", &[])?;
    let ca = authority.ca_file();
    let config = tls_client(
        "require",
        &pair,
        &format!("ca_file = \"{}\"\nclient_certificate = \"require\"\n", ca.display()),
    );
    let rules = r#"
        [[auth.rules]]
        databases = ["mapped"]
        method = "cert"
        map = "people"
        [[auth.rules]]
        databases = ["app"]
        method = "cert"
        [[auth.rules]]
        method = "trust"
        [auth.certificate_maps.people]
        "Ann of Accounting" = ["ann", "bob"]
        [databases.mapped]
        nodes = ["primary"]
        dbname = "app"
    "#;
    let fixture = Fixture::builder()
        .setup("CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE \"ann.example\" LOGIN")
        .config(&format!("{ADMIN}{config}{rules}"))
        .start()
        .await;
    let check = |user: &str, database: &str, pair: Option<&Pair>, expect: Result<&str, &str>| {
        let more = pair.map_or(String::new(), |p| {
            format!("sslcert={} sslkey={}", p.cert.display(), p.key.display())
        });
        let got =
            fixture.psql(user, database, &format!("sslmode=require {more}"), "SELECT current_user");
        let fits = match (&got, expect) {
            (Ok(got), Ok(expect)) => got == expect,
            (Err(got), Err(expect)) => got.contains(expect),
            _ => false,
        };
        assert!(fits, "{user} {database} {pair:?}: {got:?}\n{}", fixture.pgherd.log());
    };
    let failed = "certificate authentication failed";
    let check_all = |without: &str| {
        check("ann", "app", Some(&ann), Ok("ann"));
        check("ann.example", "app", Some(&ann), Ok("ann.example"));
        check("bob", "app", Some(&ann), Err(failed));
        check("ann", "app", Some(&mapped), Err(failed));
        check("ann", "mapped", Some(&mapped), Ok("ann"));
        check("bob", "mapped", Some(&mapped), Ok("bob"));
        check("postgres", "mapped", Some(&mapped), Err(failed));
        check("ann", "mapped", Some(&ann), Err(failed));
        check("ann", "app", Some(&forged), Err(""));
        check("ann", "app", None, Err(without));
    };
    check_all("certificate required");
    fixture.write_config("[tls.client]\nclient_certificate = \"optional\"\n");
    let admin =
        format!("sslmode=require sslcert={} sslkey={}", ann.cert.display(), ann.key.display());
    fixture.psql(USER, "pgherd", &admin, "RELOAD")?;
    check_all(failed);
    Ok(())
}

async fn direct(
    fixture: &Fixture,
    authority: &Authority,
    alpn: &[&[u8]],
) -> std::io::Result<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.ca_file()).map_err(std::io::Error::other)?;
    roots.add(ca).map_err(std::io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(fixture.pgherd.address()).await?;
    let name = ServerName::try_from("127.0.0.1").map_err(std::io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let mut startup = Vec::new();
    build::untyped(&mut startup, |body| {
        body.extend(wire::version(3, 0).to_be_bytes());
        body.extend(b"user\0postgres\0database\0app\0\0");
    });
    build::query(&mut startup, b"SELECT 'direct'");
    stream.write_all(&startup).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let end = b"SELECT 1\0Z\0\0\0\x05I";
    while !answer.ends_with(end) && stream.read_buf(&mut answer).await? > 0 {}
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_tls_needs_its_protocol_name() -> Outcome {
    let authority = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["127.0.0.1"])?;
    let fixture = Fixture::builder().config(&tls_client("require", &pair, "")).start().await;
    let answer = direct(&fixture, &authority, &[b"postgresql"]).await?;
    let found = answer.windows(6).any(|window| window == b"direct");
    assert!(found, "{}", String::from_utf8_lossy(&answer));
    for alpn in [&[] as &[&[u8]], &[b"http/1.1"]] {
        let answer = direct(&fixture, &authority, alpn).await;
        assert!(answer.as_ref().map_or(true, Vec::is_empty), "{alpn:?}: {answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_stuffed_behind_an_ssl_request_is_refused() -> Outcome {
    let authority = Authority::new()?;
    let pair = authority.issue("server", "pgherd", &["127.0.0.1"])?;
    let fixture = Fixture::builder().config(&tls_client("allow", &pair, "")).start().await;
    for (request, what) in [
        (wire::SSL_REQUEST, "received unencrypted data after SSL request"),
        (wire::GSSENC_REQUEST, "received unencrypted data after GSSAPI encryption request"),
    ] {
        let mut client = RawClient::connect(fixture.pgherd.address()).await?;
        let mut bytes = Vec::new();
        build::untyped(&mut bytes, |body| body.extend(request.to_be_bytes()));
        build::untyped(&mut bytes, |body| {
            body.extend(wire::version(3, 0).to_be_bytes());
            body.extend(b"user\0postgres\0database\0app\0\0");
        });
        client.send(&bytes).await?;
        let error = client.frame().await?;
        assert_eq!((error.kind, error.field(b'M').as_str()), (b'E', what));
        client.closed().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_to_new_clients_and_the_old_go_on() -> Outcome {
    let (old, new) = (Authority::new()?, Authority::new()?);
    let pair = old.issue("server", "pgherd", &["127.0.0.1"])?;
    let fixture = Fixture::builder()
        .config(&format!("{ADMIN}{}", tls_client("allow", &pair, "")))
        .start()
        .await;
    let trusts = |authority: &Authority| {
        let ca = format!("sslmode=verify-full sslrootcert={}", authority.ca_file().display());
        fixture.psql(USER, DATABASE, &ca, "SELECT 1").is_ok()
    };
    assert!(trusts(&old) && !trusts(&new));
    let ca = format!("sslmode=verify-full sslrootcert={}", old.ca_file().display());
    // Sleeps in psql, not on the server: it is idle while the certificate changes.
    let waits = format!("until [ -e {}.done ]; do sleep 0.1; done", pair.cert.display());
    let mut client = fixture.binaries().client("psql");
    client.args(["-XAtq", "-d", &format!("{} {ca}", fixture.dsn(USER, DATABASE))]);
    client.args(["-c", "SELECT 'before'", "-c", &format!("\\! {waits}"), "-c", "SELECT 'after'"]);
    let mut client = client.stdout(std::process::Stdio::piped()).spawn()?;
    fixture.wait_until("SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ 'before' AND pid <> pg_backend_pid()");

    let fresh = new.issue("server", "pgherd", &["127.0.0.1"])?;
    // A certificate that is half replaced changes nothing.
    std::fs::copy(&fresh.cert, &pair.cert)?;
    let error = fixture.psql(USER, "pgherd", "", "RELOAD").unwrap_err();
    assert!(error.contains("does not match the certificate"), "{error}");
    assert!(trusts(&old) && !trusts(&new));
    std::fs::copy(&fresh.key, &pair.key)?;
    fixture.reconfigure("");
    assert!(!trusts(&old) && trusts(&new));

    std::fs::write(format!("{}.done", pair.cert.display()), "")?;
    let mut out = String::new();
    std::io::Read::read_to_string(&mut client.stdout.take().unwrap(), &mut out)?;
    assert!(client.wait()?.success() && out == "before\nafter\n", "{out}");
    Ok(())
}
