//! What can go wrong inside a transaction, and when the whole of it is run again.

use std::time::Duration;

use rand::Rng;
use sqlx::postgres::PgDatabaseError;

use crate::error::CatalogError;

/// How often a transaction is run again after a serialization failure or a deadlock.
pub(crate) const RETRIES_MAX: u32 = 10;

/// The inside of a [`CatalogError`]: the database's own errors have not been judged yet.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An answer for the caller.
    Catalog(CatalogError),
    /// An error of the database or its driver.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<CatalogError> for Fault {
    fn from(error: CatalogError) -> Self {
        Fault::Catalog(error)
    }
}

/// What a database error means to us.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    /// The transaction lost against another one and can simply be run again.
    Conflict,
    /// It may pass.
    Passing,
    /// It will not.
    Lasting,
}

/// SQLSTATE classes: PostgreSQL documentation, appendix A.
fn postgres_class(code: &str) -> Class {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Class::Conflict,
        // query_canceled (statement_timeout), lock_not_available, read_only_sql_transaction (a standby after a fail-over)
        "57014" | "55P03" | "25006" | "25P03" => Class::Passing,
        // connection exceptions, insufficient resources, operator intervention, system errors
        _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Class::Passing,
        _ => Class::Lasting,
    }
}

/// Result codes: https://www.sqlite.org/rescode.html (the low byte is the primary code).
fn sqlite_class(code: &str) -> Class {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const IOERR: u32 = 10;
    const FULL: u32 = 13;
    // As where there are no more descriptors.
    const CANTOPEN: u32 = 14;
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(BUSY | LOCKED | IOERR | FULL | CANTOPEN) => Class::Passing,
        _ => Class::Lasting,
    }
}

fn class(error: &sqlx::Error) -> Class {
    use sqlx::Error::{BeginFailed, Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        Database(database) => {
            let code = database.code().unwrap_or_default();
            match database.try_downcast_ref::<PgDatabaseError>() {
                Some(_) => postgres_class(&code),
                None => sqlite_class(&code),
            }
        }
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed | BeginFailed => Class::Passing,
        _ => Class::Lasting,
    }
}

impl Fault {
    /// Whether the transaction was rolled back only because another one was in its way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Fault::Sql(error) if class(error) == Class::Conflict)
    }

    /// Whether a unique index refused the row.
    pub(crate) fn is_unique_violation(&self) -> bool {
        matches!(self, Fault::Sql(sqlx::Error::Database(error)) if error.is_unique_violation())
    }

    /// The error for the caller; `action` says what was attempted.
    pub(crate) fn into_error(self, action: &'static str) -> CatalogError {
        match self {
            Fault::Catalog(error) => error,
            // All foreign keys lead to a project, at last.
            Fault::Sql(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => CatalogError::NoProject,
            Fault::Sql(error) => match class(&error) {
                Class::Conflict | Class::Passing => CatalogError::Unavailable { action, source: Box::new(error) },
                Class::Lasting => CatalogError::Failed { action, source: Box::new(error) },
            },
        }
    }
}

/// Waits before the `attempt`th repetition: full jitter, at most 2 ms doubled with each, at most half a second.
pub(crate) async fn pause(attempt: u32) {
    let longest_ms = (2_u64 << attempt.min(8)).min(500);
    let wait_ms = rand::rng().random_range(0..=longest_ms);
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
}

/// Runs a call that makes one whole transaction or one statement, again if it lost against another transaction, and
/// names `action` in its errors. It is counted and traced by that name. To tests it is a fault point of that name: done or not, its
/// answer may be lost.
macro_rules! run {
    ($action:literal, $call:expr) => {{
        static CALL: treehold_calls::Call = treehold_calls::Call::new(treehold_calls::Kind::Catalog, $action);
        let done = async {
            let mut attempt = 0;
            loop {
                match $call.await {
                    Err(fault) if $crate::fault::Fault::is_conflict(&fault) && attempt < $crate::fault::RETRIES_MAX => {
                        attempt += 1;
                        CALL.again();
                        $crate::fault::pause(attempt).await;
                    }
                    outcome => break outcome.map_err(|fault| fault.into_error($action)),
                }
            }
        };
        let done = treehold_fault::call($action, done, |lost| $crate::fault::lost($action, lost));
        CALL.watch(treehold_calls::span::catalog(SYSTEM, $action), done, $crate::fault::failure).await
    }};
}
pub(crate) use run;

/// The kind of a failure of the database. That something is not there, or was overtaken, is an answer.
pub(crate) fn failure<T>(answer: &Result<T, CatalogError>) -> Option<&'static str> {
    match answer {
        Ok(_)
        | Err(
            CatalogError::OpLost
            | CatalogError::NoProject
            | CatalogError::Collision(_)
            | CatalogError::TooManyRefs { .. }
            | CatalogError::RefConflict { .. },
        ) => None,
        Err(CatalogError::Unavailable { .. }) => Some("unavailable"),
        Err(CatalogError::Failed { .. }) => Some("failed"),
        Err(CatalogError::Invalid { .. }) => Some("invalid"),
    }
}

/// What a caller sees of a fault that was injected: as when the connection breaks.
pub(crate) fn lost(action: &'static str, lost: treehold_fault::Injected) -> CatalogError {
    CatalogError::Unavailable { action, source: Box::new(lost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_judged_by_what_a_caller_can_do() {
        for (code, class) in [
            ("40001", Class::Conflict),
            ("40P01", Class::Conflict),
            ("57P01", Class::Passing),
            ("53300", Class::Passing),
            ("08006", Class::Passing),
            ("23505", Class::Lasting),
            ("42P01", Class::Lasting),
        ] {
            assert_eq!(postgres_class(code), class, "{code}");
        }
        // SQLITE_BUSY_SNAPSHOT, SQLITE_IOERR_FSYNC, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_CONSTRAINT_UNIQUE, SQLITE_CORRUPT
        for (code, class) in [
            ("517", Class::Passing),
            ("1034", Class::Passing),
            ("13", Class::Passing),
            ("14", Class::Passing),
            ("2067", Class::Lasting),
            ("11", Class::Lasting),
        ] {
            assert_eq!(sqlite_class(code), class, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_unavailable_and_a_bad_statement_has_failed() {
        let lost = Fault::from(sqlx::Error::PoolTimedOut).into_error("read");
        assert!(matches!(lost, CatalogError::Unavailable { action: "read", .. }), "{lost:?}");
        let bad = Fault::from(sqlx::Error::RowNotFound).into_error("read");
        assert!(matches!(bad, CatalogError::Failed { .. }), "{bad:?}");
    }
}
