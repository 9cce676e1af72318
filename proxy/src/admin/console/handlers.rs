//! Both query protocols of the console on pgwire's server traits.
//!
//! What pgwire leaves unbounded or unchecked is bounded here: names of statements and portals, rows
//! reserved for one Execute, and the number of result formats.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{Sink, SinkExt, stream};
use parking_lot::Mutex;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, Type};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Execute, Parse, ParseComplete,
    TARGET_TYPE_BYTE_PORTAL,
};

use super::command::{self, Command};
use super::execute::{self, Reply};
use super::{Rights, SYNTAX_ERROR, table};
use crate::error::{Fault, Report, Severity, sqlstate};
use crate::hub::Hub;
use crate::limits;

/// One console session.
#[derive(Debug)]
pub(super) struct Console {
    hub: Arc<Hub>,
    user: String,
    rights: Rights,
    names: Mutex<Names>,
}

/// Names in pgwire's store, which does not count them.
#[derive(Debug, Default)]
struct Names {
    statements: BTreeSet<String>,
    portals: BTreeSet<String>,
}

impl Console {
    pub(super) fn new(hub: Arc<Hub>, user: String, rights: Rights) -> Console {
        Console { hub, user, rights, names: Mutex::default() }
    }

    /// Executes one command; results come in `format`. Not cancel safe.
    async fn answer<C>(
        &self,
        client: &mut C,
        command: &Command,
        format: Option<&Format>,
    ) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match execute::run(&self.hub, &self.user, self.rights, command).await.map_err(error)? {
            Reply::Rows(rows) => {
                let fields = Arc::new(table::describe(rows.columns, format).map_err(error)?);
                let encoded: Vec<_> = rows
                    .rows
                    .iter()
                    .map(|row| Ok(table::encode(row, rows.columns, &fields)))
                    .collect();
                let mut response = QueryResponse::new(fields, stream::iter(encoded));
                response.set_command_tag("SHOW");
                Ok(Response::Query(response))
            }
            Reply::Done(tag) => Ok(Response::Execution(Tag::new(tag))),
            Reply::Notice { message, detail, tag } => {
                let mut notice = ErrorInfo::new("NOTICE".into(), "00000".into(), message.into());
                notice.detail = detail;
                client.feed(PgWireBackendMessage::NoticeResponse(notice.into())).await?;
                Ok(Response::Execution(Tag::new(tag)))
            }
            Reply::Begin => Ok(Response::TransactionStart(Tag::new("BEGIN"))),
            Reply::End(tag) => Ok(Response::TransactionEnd(Tag::new(tag))),
        }
    }

    fn remember(names: &mut BTreeSet<String>, name: Option<&String>) -> PgWireResult<()> {
        let Some(name) = name else { return Ok(()) };
        if names.len() >= limits::CONSOLE_NAMES_MAX && !names.contains(name) {
            return Err(error(Report::error(
                Fault::Client,
                sqlstate::PROGRAM_LIMIT,
                "too many prepared statements or portals on the console",
            )));
        }
        names.insert(name.clone());
        Ok(())
    }
}

/// A report as pgwire sends it.
pub(super) fn error(report: Report) -> PgWireError {
    let severity = match report.severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let mut info = ErrorInfo::new(severity.to_owned(), report.sqlstate.to_owned(), report.message);
    info.severity_nonlocalized = Some(severity.to_owned());
    info.detail = report.detail;
    info.hint = report.hint;
    PgWireError::UserError(Box::new(info))
}

#[async_trait]
impl SimpleQueryHandler for Console {
    /// Commands run one after the other until one fails, as in PostgreSQL. Not cancel safe.
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let commands = command::parse(query).map_err(error)?;
        if commands.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut responses = Vec::with_capacity(commands.len());
        for command in &commands {
            match self.answer(client, command, None).await {
                Ok(response) => responses.push(response),
                Err(PgWireError::UserError(info)) => {
                    responses.push(Response::Error(info));
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(responses)
    }
}

/// Text to command, and what Describe says about it.
#[derive(Debug)]
pub(super) struct Parser;

#[async_trait]
impl QueryParser for Parser {
    type Statement = Command;

    /// Cancel safe.
    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        _types: &[Option<Type>],
    ) -> PgWireResult<Option<Command>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut commands = command::parse(sql).map_err(error)?;
        if commands.len() > 1 {
            // The words of postgres.c, `exec_parse_message`.
            return Err(error(Report::error(
                Fault::Client,
                SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            )));
        }
        Ok(commands.pop())
    }

    fn get_parameter_types(&self, _stmt: &Command) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    fn get_result_schema(
        &self,
        stmt: &Command,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        table::describe(execute::columns(stmt), format).map_err(error)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Console {
    type Statement = Command;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser)
    }

    /// Not cancel safe.
    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Console::remember(&mut self.names.lock().statements, message.name.as_ref())?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        match StoredStatement::parse(client, &message, self.query_parser()).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(name),
        }
        // Fed, not sent: the answers of a pipeline go out together at Sync or Flush.
        client.feed(PgWireBackendMessage::ParseComplete(ParseComplete::new())).await?;
        Ok(())
    }

    /// Not cancel safe.
    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statement = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
        let Some(found) = client.portal_store().get_statement(statement) else {
            return Err(PgWireError::StatementNotFound(statement.to_owned()));
        };
        if !message.parameters.is_empty() {
            // The words of postgres.c, `exec_bind_message`.
            return Err(error(Report::error(
                Fault::Client,
                sqlstate::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{statement}\" \
                     requires 0",
                    message.parameters.len()
                ),
            )));
        }
        Console::remember(&mut self.names.lock().portals, message.portal_name.as_ref())?;
        match found.value() {
            Some(found) => {
                let bound = Portal::try_new(&message, Arc::clone(found))?;
                client.portal_store().put_portal(Arc::new(bound));
            }
            None => client.portal_store().put_empty_portal(portal),
        }
        client.feed(PgWireBackendMessage::BindComplete(BindComplete::new())).await?;
        Ok(())
    }

    /// pgwire reserves room for as many rows as the client names. Not cancel safe.
    async fn on_execute<C>(&self, client: &mut C, mut message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !(0..=limits::CONSOLE_FETCH_ROWS_MAX).contains(&message.max_rows) {
            // 0 is "all", as every number below it (postgres.c, `exec_execute_message`).
            message.max_rows = 0;
        }
        self._on_execute(client, message).await
    }

    /// Not cancel safe.
    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_PORTAL {
            self.names.lock().portals.remove(name);
            client.portal_store().rm_portal(name);
        } else {
            self.names.lock().statements.remove(name);
            client.portal_store().rm_statement(name);
        }
        let closed = CloseComplete::new();
        client.feed(PgWireBackendMessage::CloseComplete(closed)).await?;
        Ok(())
    }

    /// Not cancel safe.
    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Command>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let format = Some(&portal.result_column_format);
        self.answer(client, &portal.statement.statement, format).await
    }
}
