//! Log lines on stderr: text for people, JSON for machines; the filter can change while running.
//!
//! A session's lines carry its id, because they are written inside its span. Under journald lines
//! have no colours and no time of their own: the journal has both.

use std::io::{IsTerminal, stderr};
use std::sync::OnceLock;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// There is one subscriber in a process (tracing's rule), so its handle is static too.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Why logging is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The text is no filter.
    #[error("\"{0}\" is neither a level nor a filter such as info,pgherd::pool=debug")]
    Filter(String),
    /// Something in this process logs already.
    #[error("logging was set up before, so its filter can't be changed here")]
    Fixed,
}

/// Starts logging as `log` says. Once in a process.
pub fn init(log: &Log) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(parse(&log.level)?);
    let lines: Box<dyn Layer<_> + Send + Sync> = match log.format {
        LogFormat::Json => Box::new(fmt::layer().json().flatten_event(true).with_writer(stderr)),
        LogFormat::Text => {
            let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
            // systemd.exec(5): set where stderr is the journal.
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                Box::new(lines.without_time())
            } else {
                Box::new(lines.with_timer(SystemTime))
            }
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(|_| LogError::Fixed)?;
    // The only subscriber, so the only handle.
    let _ = FILTER.set(handle);
    Ok(())
}

/// Changes the filter of the running process.
pub fn set_filter(text: &str) -> Result<(), LogError> {
    let filter = parse(text)?;
    if replace(filter) { Ok(()) } else { Err(LogError::Fixed) }
}

/// False: logging was not started by [`init`].
fn replace(filter: EnvFilter) -> bool {
    FILTER.get().is_some_and(|handle| handle.reload(filter).is_ok())
}

fn parse(text: &str) -> Result<EnvFilter, LogError> {
    let parsed = EnvFilter::builder().parse(text);
    parsed.map_err(|_| LogError::Filter(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_set() {
        assert_eq!(set_filter("pgherd=loud"), Err(LogError::Filter("pgherd=loud".into())));
        assert_eq!(set_filter("debug"), Err(LogError::Fixed));
    }
}
