//! How much is done at once. Defaults grow with the cores of the machine.

use treehold_server::{AdmissionConfig, Bounds, RateLimits, ServerConfig};

use super::Values;
use crate::failure::Failure;

/// More connections to one database help nobody.
const DATABASE_CONNECTIONS_MAX: usize = 64;
/// What one project must be able to get, bytes: enough for an archive and for files of a usual size.
const PROJECT_MEMORY_MIN: u64 = 64 << 20;

/// How much is done at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Requests and their memory.
    pub admission: AdmissionConfig,
    /// Requests a minute.
    pub rates: RateLimits,
    /// HTTP connections.
    pub connections: usize,
    /// Connections to Postgres.
    pub database_connections: u32,
    /// Largest JSON body, bytes.
    pub json_bytes: u64,
}

pub(super) fn load(values: &mut Values) -> Result<Load, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let default = AdmissionConfig::for_cores(cores);
    let database = (4 * cores).clamp(16, DATABASE_CONNECTIONS_MAX);
    let mut number = |name, default, max| values.number(name, default, max);
    let mut places = |name, default: Bounds| {
        let places = number(name, default.places as u64, 1_000_000)?;
        Ok::<_, Failure>(Bounds::places(usize::try_from(places).unwrap_or(default.places)))
    };
    let (light, commit) = (places("max_in_flight", default.light)?, places("max_commits", default.commit)?);
    let batch = places("max_batch_reads", default.batch)?;
    let (clone, bulk) = (places("max_clones", default.clone)?, places("max_exports", default.bulk)?);
    let watch = Bounds::without_queue(places("max_watchers", default.watch)?.places);
    let json_bytes = number("limit_json_bytes", ServerConfig::default().json_bytes, 2 << 30)?;
    let memory_bytes = number("max_memory_bytes", default.memory_bytes, 1 << 50)?;
    let project_share = number("project_share", u64::from(default.project_share), 100)?;
    let connections = number("max_connections", 8_192, 1_000_000)?;
    let database_connections = number("database_connections", database as u64, 10_000)?;
    if memory_bytes.saturating_mul(project_share) / 100 < PROJECT_MEMORY_MIN {
        // Whichever was given is what to change.
        let memory_given = values.is_given("max_memory_bytes");
        let (name, other, value) = match values.is_given("project_share") {
            true if !memory_given => ("project_share", "max_memory_bytes", memory_bytes),
            _ => ("max_memory_bytes", "project_share", project_share),
        };
        let why =
            format!("must leave at least {PROJECT_MEMORY_MIN} bytes of memory for one project (`{other}` is {value})");
        return Err(values.wrong(name, &why));
    }
    let project_share = u8::try_from(project_share).unwrap_or(default.project_share);
    Ok(Load {
        rates: rates(values)?,
        admission: AdmissionConfig { light, batch, commit, clone, watch, bulk, project_share, memory_bytes, ..default },
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        database_connections: u32::try_from(database_connections).unwrap_or(u32::MAX),
        json_bytes,
    })
}

/// Off, or the given figures, 0 of which is none.
fn rates(values: &mut Values) -> Result<RateLimits, Failure> {
    let on = match values.text("rate_limits", || "off".to_owned()).as_str() {
        "on" => true,
        "off" => false,
        other => return Err(values.wrong("rate_limits", &format!("must be `on` or `off`, not `{other}`"))),
    };
    let mut rate = |name, default: u32| {
        let given = values.number_or_zero(name, u64::from(default), 1_000_000)?;
        Ok::<_, Failure>(u32::try_from(given).unwrap_or(default))
    };
    let RateLimits { reads, writes, syncs } = RateLimits::ON;
    let limits = RateLimits {
        reads: rate("rate_reads", reads)?,
        writes: rate("rate_writes", writes)?,
        syncs: rate("rate_syncs", syncs)?,
    };
    Ok(if on { limits } else { RateLimits::OFF })
}
