//! What can be seen on this machine.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use treehold_engine::Space;

use super::Finding;
use crate::home::API_KEY;
use crate::settings::Settings;

/// Keys with fewer characters may be guessed.
const KEY_LENGTH_MIN: usize = 32;
/// Less free space is worth a warning, and even less stops work soon, bytes.
const SPACE_LOW: u64 = 5 << 30;
const SPACE_MIN: u64 = 256 << 20;
/// Open files of a server besides its connections: packs, caches, spools, the log.
const FILES_BESIDES: u64 = 512;

/// Whether the API is locked, and well.
pub(super) fn keys(settings: &Settings) -> Finding {
    let check = "api keys";
    let host = settings.listen.rsplit_once(':').map_or(settings.listen.as_str(), |(host, _)| host);
    let loopback = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
    let short = settings.api_keys.iter().filter(|key| key.expose().len() < KEY_LENGTH_MIN).count();
    match settings.api_keys.len() {
        0 if loopback && settings.data_dir.join(API_KEY).is_file() => {
            let file = settings.data_dir.join(API_KEY);
            Finding::ok(check, format!("none is set; `serve` takes the one that it keeps in {}", file.display()))
        }
        0 if loopback => {
            Finding::ok(check, "none is set; on loopback `serve` makes one and keeps it in the data directory")
        }
        0 => Finding::fail(
            check,
            format!("none is set, and {} is not loopback", settings.listen),
            "`serve` will refuse to start: set TREEHOLD_API_KEY, for example to what `openssl rand -hex 32` prints",
        ),
        _ if short > 0 => Finding::warn(
            check,
            format!("{short} of them have fewer than {KEY_LENGTH_MIN} characters"),
            "they may be guessed: replace them by what `openssl rand -hex 32` prints",
        ),
        1 => Finding::ok(check, "one is set"),
        count => Finding::ok(check, format!("{count} are set, as during a rotation")),
    }
}

/// Where projects may have their remotes.
pub(super) fn remotes(settings: &Settings) -> Finding {
    let check = "remotes";
    let plain: Vec<&str> =
        settings.allow_remote.iter().map(String::as_str).filter(|prefix| prefix.starts_with("http://")).collect();
    match (settings.allow_remote.as_slice(), plain.as_slice()) {
        ([], _) => {
            Finding::warn(check, "none is allowed", "set TREEHOLD_ALLOW_REMOTE if projects are to sync and push")
        }
        (_, [first, ..]) => Finding::warn(
            check,
            format!("{first} is not encrypted"),
            "tokens and files can be read on the way: use https:// unless it never leaves this machine",
        ),
        (allowed, _) if settings.remote_token.is_some() && allowed.iter().all(|prefix| prefix == "https://") => {
            Finding::warn(
                check,
                "allowed: https://; a token is set, and goes to GitHub only",
                "name the hosts that it is for in TREEHOLD_ALLOW_REMOTE, too: what https:// permits may be anybody's",
            )
        }
        (allowed, _) => {
            let token =
                if settings.remote_token.is_some() { "a token is set" } else { "requests bring their own token" };
            Finding::ok(check, format!("allowed: {}; {token}", allowed.join(", ")))
        }
    }
}

/// Whether as many connections as are allowed can be open at once.
pub(super) fn open_files(settings: &Settings) -> Finding {
    let check = "open files";
    let connections = u64::try_from(settings.load.connections).unwrap_or(u64::MAX);
    let needed =
        connections.saturating_add(u64::from(settings.load.database_connections)).saturating_add(FILES_BESIDES);
    let limit = getrlimit(Resource::Nofile);
    match limit.current {
        Some(current) if current < needed => Finding::warn(
            check,
            format!(
                "{current} are allowed to a process started from here; {connections} connections can need {needed}"
            ),
            format!("raise it (`ulimit -n {needed}`, `LimitNOFILE=` of a unit), or lower --max-connections"),
        ),
        Some(current) => Finding::ok(check, format!("{current} are allowed, {needed} may be needed")),
        None => Finding::ok(check, "as many as are needed are allowed"),
    }
}

/// Permissions and room.
pub(super) fn data_directory(settings: &Settings) -> Vec<Finding> {
    let check = "data directory";
    let dir = &settings.data_dir;
    let shown = dir.display();
    let metadata = match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return vec![Finding::fail(check, format!("{shown} is no directory"), "name another with --data-dir")],
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return vec![absent(check, dir, "--data-dir")];
        }
        Err(error) => {
            return vec![Finding::fail(
                check,
                format!("{shown} cannot be read: {error}"),
                "run as the user that owns it",
            )];
        }
    };
    let mode = metadata.permissions().mode() & 0o7777;
    let access = match writable(dir) {
        Err(error) => Finding::fail(
            check,
            format!("nothing can be written to {shown}: {error}"),
            "run as the user that owns it, or give it to this one",
        ),
        Ok(()) if mode & 0o077 != 0 => Finding::warn(
            check,
            format!("others can look into {shown} (mode {mode:o})"),
            format!("`chmod 700 {shown}` keeps them out"),
        ),
        Ok(()) => Finding::ok(check, format!("{shown} can be written, by its owner alone")),
    };
    vec![access, space(dir)]
}

/// What is found of a directory that is not there: whether a start can make it.
pub(super) fn absent(check: &'static str, dir: &Path, option: &str) -> Finding {
    let shown = dir.display();
    let above = dir.ancestors().skip(1).find(|above| above.exists()).unwrap_or(Path::new("."));
    match writable(above) {
        Ok(()) => Finding::warn(
            check,
            format!("{shown} is not there yet"),
            format!("the first start makes it; check {option} if it should be"),
        ),
        Err(error) => Finding::fail(
            check,
            format!("{shown} is not there and cannot be made: in {} nothing can be written: {error}", above.display()),
            format!("name another with {option}, or make it for the user that runs the server"),
        ),
    }
}

/// Makes a file and removes it.
pub(super) fn writable(dir: &Path) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = tempfile::Builder::new().prefix(".treehold-doctor-").tempfile_in(dir)?;
    file.write_all(b"treehold").and_then(|()| file.as_file().sync_all())
}

fn space(dir: &Path) -> Finding {
    let check = "free space";
    let shown = dir.display();
    match Space::at(dir) {
        Err(error) => Finding::warn(check, format!("it cannot be found out for {shown}: {error}"), "look with `df`"),
        Ok(Space { free, .. }) => {
            let found = format!("{} MiB are free at {shown}", free >> 20);
            match free {
                free if free < SPACE_MIN => Finding::fail(check, found, "packs cannot be received: make room"),
                free if free < SPACE_LOW => {
                    Finding::warn(check, found, "a large push or clone is spooled here: make room")
                }
                _ => Finding::ok(check, found),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Level;
    use super::*;
    use crate::settings::Origin;

    #[test]
    fn a_token_that_goes_nowhere_is_told() {
        let found = |allowed: &str, token: Option<&str>| {
            let given = [("allow_remote", Some(allowed)), ("remote_token", token)];
            let given = given.into_iter().filter_map(|(name, text)| Some((name, (text?.to_owned(), Origin::Default))));
            remotes(&Settings::from_given(given.collect::<BTreeMap<_, _>>()).unwrap())
        };
        let nowhere = found("https://", Some("ghp_0000"));
        assert_eq!(nowhere.level, Level::Warn);
        assert!(nowhere.found.contains("GitHub only"), "{}", nowhere.found);
        for (allowed, token) in
            [("https://", None), ("https://,https://git.example/", Some("t")), ("https://git.example/", Some("t"))]
        {
            assert_eq!(found(allowed, token).level, Level::Ok, "{allowed}");
        }
    }
}
