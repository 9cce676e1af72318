//! The routes and what they answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::OPENAPI;
use super::access::Access;
use crate::admin::{actions, view};
use crate::error::{Report, sqlstate};
use crate::hub::Hub;
use crate::limits;
use crate::metrics::expose::{self, Metrics};

const REQUEST_MAX: Duration = Duration::from_secs(limits::ADMIN_REQUEST_SECONDS_MAX);

type App = State<Arc<Hub>>;

/// Every route: method, path, handler. The description is held against this list.
pub(super) fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Arc<Hub>>)> {
    vec![
        ("get", "/healthz", get(healthz)),
        ("get", "/readyz", get(readyz)),
        ("get", "/metrics", get(metrics)),
        ("get", "/api/v1/openapi.json", get(openapi)),
        ("get", "/api/v1/status", get(async |State(hub): App| Json(view::status(&hub)))),
        (
            "get",
            "/api/v1/pools",
            get(async |State(hub): App| Json(view::pools(&hub.pools.snapshot()))),
        ),
        (
            "get",
            "/api/v1/clients",
            get(async |State(hub): App| Json(view::clients(&hub.sessions.snapshot()))),
        ),
        (
            "get",
            "/api/v1/servers",
            get(async |State(hub): App| Json(view::servers(&hub.pools.servers()))),
        ),
        (
            "get",
            "/api/v1/databases",
            get(async |State(hub): App| {
                let held = |name: &str| view::Held::of(&hub, name);
                let pools = hub.pools.snapshot();
                Json(view::databases(&hub.config.load(), &pools, held))
            }),
        ),
        (
            "get",
            "/api/v1/nodes",
            get(async |State(hub): App| {
                Json(view::nodes(&hub.config.load(), &hub.pools.snapshot()))
            }),
        ),
        (
            "get",
            "/api/v1/config",
            get(async |State(hub): App| Json(view::config(&hub.config.load()))),
        ),
        ("get", "/api/v1/stats", get(async |State(hub): App| Json(view::stats(&hub)))),
        ("post", "/api/v1/reload", post(reload)),
        ("post", "/api/v1/pause", post(pause)),
        ("post", "/api/v1/resume", post(resume)),
        ("post", "/api/v1/reconnect", post(reconnect)),
        ("post", "/api/v1/kill", post(kill)),
        ("post", "/api/v1/drain", post(drain)),
        ("post", "/api/v1/shutdown", post(shutdown)),
    ]
}

/// The service.
pub(super) fn router(hub: Arc<Hub>, access: Arc<Access>) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in routes() {
        router = router.route(path, handler);
    }
    router
        .fallback(async || fail(StatusCode::NOT_FOUND, "no such path", None, None))
        .layer(DefaultBodyLimit::max(limits::ADMIN_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(access, guard))
        .with_state(hub)
}

/// Access, time and headers of every request. Not cancel safe.
async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let passed = access.check(request.method(), request.uri().path(), request.headers());
    let mut response = match passed {
        Err(refused) => fail(refused.status, refused.message, None, None),
        Ok(()) => match tokio::time::timeout(REQUEST_MAX, next.run(request)).await {
            Ok(response) => response,
            Err(_) => fail(StatusCode::GATEWAY_TIMEOUT, "the request took too long", None, None),
        },
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(hub): App) -> Response {
    let state = view::state(&hub);
    let status = if state == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "state": state }))).into_response()
}

async fn metrics(State(hub): App) -> Response {
    match expose::text(Metrics::gather(&hub)) {
        Ok(text) => ([(CONTENT_TYPE, expose::CONTENT_TYPE)], text).into_response(),
        // Writing into a String fails only where the encoder itself is wrong.
        Err(_) => fail(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be encoded", None, None),
    }
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// The body of a POST; empty means all databases.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Target {
    database: Option<String>,
    /// `kill` only: one client instead of a database.
    client: Option<u64>,
}

/// A body, or why it is none.
fn target(body: &Bytes) -> Result<Target, Box<Response>> {
    if body.is_empty() {
        return Ok(Target::default());
    }
    serde_json::from_slice(body).map_err(|e| {
        let detail = Some(e.to_string());
        Box::new(fail(StatusCode::BAD_REQUEST, "the body is not what was expected", detail, None))
    })
}

/// Reads the file anew. Runs in a task of its own, because a reload must not stop halfway when its
/// caller goes away. Cancel safe.
async fn reload(State(hub): App) -> Response {
    match tokio::spawn(async move { actions::reload(&hub).await }).await {
        Ok(Ok(report)) => done(json!({
            "applied": report.applied,
            "needs_restart": report.needs_restart,
        })),
        Ok(Err(report)) => failed(report),
        Err(_) => fail(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off", None, None),
    }
}

/// Waits for busy servers as long as a request may take; the pause itself stays in any case.
/// Cancel safe.
async fn pause(State(hub): App, body: Bytes) -> Response {
    let target = match target(&body) {
        Ok(target) => target,
        Err(response) => return *response,
    };
    let wait = REQUEST_MAX - Duration::from_secs(5);
    match tokio::time::timeout(wait, actions::pause(&hub, target.database.as_deref())).await {
        Ok(Ok(())) => done(json!({ "servers_busy": false })),
        Ok(Err(report)) => failed(report),
        Err(_) => (StatusCode::ACCEPTED, done(json!({ "servers_busy": true }))).into_response(),
    }
}

async fn resume(State(hub): App, body: Bytes) -> Response {
    act(&body, |target| actions::resume(&hub, target.database.as_deref()))
}

async fn reconnect(State(hub): App, body: Bytes) -> Response {
    act(&body, |target| actions::reconnect(&hub, target.database.as_deref()))
}

async fn kill(State(hub): App, body: Bytes) -> Response {
    act(&body, |target| match target.client {
        Some(id) => actions::kill_client(&hub, id),
        None => actions::kill(&hub, target.database.as_deref()),
    })
}

async fn drain(State(hub): App) -> Response {
    actions::drain(&hub);
    done(json!({}))
}

/// Answers before the process ends: the server finishes open requests. Cancel safe.
async fn shutdown(State(hub): App) -> Response {
    actions::shutdown(&hub);
    done(json!({}))
}

fn act(body: &Bytes, action: impl FnOnce(&Target) -> Result<(), Report>) -> Response {
    match target(body) {
        Err(response) => *response,
        Ok(target) => match action(&target) {
            Ok(()) => done(json!({})),
            Err(report) => failed(report),
        },
    }
}

fn done(mut more: Value) -> Response {
    if let Some(object) = more.as_object_mut() {
        object.insert("done".into(), true.into());
    }
    Json(more).into_response()
}

fn failed(report: Report) -> Response {
    let status = match report.sqlstate {
        sqlstate::INVALID_CATALOG_NAME | "42704" => StatusCode::NOT_FOUND,
        sqlstate::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::CONFLICT,
    };
    fail(status, &report.message, report.detail, report.hint)
}

fn fail(
    status: StatusCode,
    message: &str,
    detail: Option<String>,
    hint: Option<String>,
) -> Response {
    let body = json!({ "error": message, "detail": detail, "hint": hint });
    (status, Json(body)).into_response()
}
