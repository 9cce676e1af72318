//! The API over a socket, and its description.

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;

use super::*;
use crate::config::Config;

fn hub(config: Config) -> Arc<Hub> {
    let hub = crate::admin::samples::hub(config);
    hub.ready.store(true, std::sync::atomic::Ordering::Relaxed);
    hub
}

/// A server on a free port, and where it is.
async fn start(hub: &Arc<Hub>, token: Option<&str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let access = Access::new(token.map(|t| SecretString::from(t.to_owned())));
    tokio::spawn(serve_on(Arc::clone(hub), listener, access));
    url
}

/// Status and body.
async fn ask(request: ureq::http::request::Builder, body: &'static str) -> (u16, String) {
    tokio::task::spawn_blocking(move || {
        let agent: Agent =
            Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let mut response = agent.run(request.body(body).unwrap()).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    })
    .await
    .unwrap()
}

fn post(uri: String) -> ureq::http::request::Builder {
    Request::post(uri).header("content-type", "application/json")
}

#[test]
fn every_route_is_described_and_the_other_way_round() {
    let description: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let served: BTreeSet<(String, String)> =
        api::routes().into_iter().map(|(m, p, _)| (m.to_owned(), p.to_owned())).collect();
    assert_eq!(described, served);
}

/// The fields of what is answered are those of the description.
#[test]
fn answers_are_as_described() {
    use crate::admin::{samples, view};
    let description: Value = serde_json::from_str(OPENAPI).unwrap();
    let check = |schema: &str, answer: &Value| {
        let described = &description["components"]["schemas"][schema]["properties"];
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(answer), keys(described), "{schema}");
    };
    let mut config = Config::default();
    config.nodes.insert("n1".into(), toml::from_str("host = 'h'").unwrap());
    config.databases.insert("shop".into(), toml::from_str("nodes = ['n1']").unwrap());
    let pool = view::pools(&[samples::pool("shop", "app", "n1")]);
    check("Pool", &pool[0]);
    check("Totals", &pool[0]["totals"]);
    check("Latency", &pool[0]["query_latency"]);
    check("Client", &view::clients(&[samples::client("shop", "app")])[0]);
    check("Server", &view::servers(&[samples::server("shop", "app", "n1")])[0]);
    check("Database", &view::databases(&config, &[], |_| view::Held::default())[0]);
    check("Node", &view::nodes(&config, &[])[0]);
    check("Setting", &view::config(&config)[0]);
    check("Status", &view::status(&hub(config)));
}

#[tokio::test]
async fn every_get_answers() {
    let hub = hub(Config::default());
    let url = start(&hub, None).await;
    for (method, path, _) in api::routes() {
        if method == "get" {
            let (status, body) = ask(Request::get(format!("{url}{path}")), "").await;
            assert_eq!(status, 200, "{path}: {body}");
        }
    }
    assert_eq!(ask(Request::get(format!("{url}/nothing")), "").await.0, 404);
    hub.draining.cancel();
    let (status, body) = ask(Request::get(format!("{url}/readyz")), "").await;
    assert_eq!((status, body.as_str()), (503, r#"{"state":"draining"}"#));
    assert_eq!(ask(Request::get(format!("{url}/healthz")), "").await.0, 200);
    hub.stopping.cancel();
}

#[tokio::test]
async fn posts_are_checked() {
    let hub = hub(Config::default());
    let url = start(&hub, None).await;
    let uri = |path: &str| format!("{url}/api/v1/{path}");
    let check = async |request, body, expect| {
        let (status, answer) = ask(request, body).await;
        assert_eq!(status, expect, "{body}: {answer}");
    };
    check(Request::post(uri("drain")).header("content-type", "text/plain"), "{}", 415).await;
    check(post(uri("drain")).header("origin", "http://evil.example"), "{}", 403).await;
    check(post(uri("drain")).header("host", "evil.example"), "{}", 403).await;
    check(post(uri("kill")), r#"{"database":"nowhere"}"#, 404).await;
    check(post(uri("kill")), r#"{"client":77}"#, 404).await;
    check(post(uri("kill")), r#"{"databse":"x"}"#, 400).await;
    check(post(uri("resume")), "", 409).await;
    check(post(uri("resume")), "[", 400).await;
    check(Request::get(uri("drain")), "", 405).await;
    let big: &'static str = Box::leak(" ".repeat(crate::limits::ADMIN_BODY_BYTES_MAX + 1).into());
    check(post(uri("kill")), big, 413).await;
    assert!(!hub.draining.is_cancelled());
    check(post(uri("drain")), "{}", 200).await;
    assert!(hub.draining.is_cancelled());
    check(post(uri("shutdown")), "", 200).await;
    assert!(hub.stopping.is_cancelled());
}

#[tokio::test]
async fn a_token_is_wanted_everywhere_but_at_the_probes() {
    let hub = hub(Config::default());
    let url = start(&hub, Some("s3cret")).await;
    for (method, path, _) in api::routes() {
        let bare = Request::builder().method(method.to_uppercase().as_str());
        let (status, body) = ask(bare.uri(format!("{url}{path}")), "").await;
        let expect = if matches!(path, "/healthz" | "/readyz") { 200 } else { 401 };
        assert_eq!(status, expect, "{path}");
        assert!(!body.contains("s3cret"));
    }
    let with = Request::get(format!("{url}/metrics")).header("authorization", "Bearer s3cret");
    assert_eq!(ask(with, "").await.0, 200);
    hub.stopping.cancel();
}

#[tokio::test]
async fn beyond_loopback_only_with_a_token() {
    let mut config = Config::default();
    config.admin.listen = "0.0.0.0:0".into();
    let refused = serve(hub(config.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("admin.token_file"), "{refused}");
    config.admin.listen = String::new();
    serve(hub(config)).await.unwrap();
}
