//! `treehold mcp`

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use treehold_engine::Engine;
use treehold_engine::api::Origin;
use treehold_mcp::{Access, Binding, author, plain};
use treehold_server::{App, mcp_over};
use uuid::Uuid;

use crate::control::{client, server::Control};
use crate::failure::Failure;
use crate::home::Home;
use crate::open::{self, Opened, Reached, Schema};
use crate::serving;
use crate::settings::Settings;
use crate::stdio;

/// The longest session or device, bytes.
const NAME_BYTES_MAX: usize = 100;

/// What the connection is bound to. Also what the running server is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The only project that is seen: its id or name
    #[arg(long)]
    pub project: String,
    /// Whose view is read, and whose pending work is written
    #[arg(long, value_name = "UUID", value_parser = super::user_id)]
    pub user: Uuid,
    /// The branch that is worked on [default: the project's]
    #[arg(long)]
    pub branch: Option<String>,
    /// Author of commits that name none: `Name <name@example.org>` [default: the configured one]
    #[arg(long = "commit-author", value_name = "NAME <EMAIL>")]
    pub commit_author: Option<String>,
    /// The session that edits are said to belong to
    #[arg(long)]
    pub session: Option<String>,
    /// The device that edits are said to come from
    #[arg(long)]
    pub device: Option<String>,
    /// Offer no tool that changes anything
    #[arg(long)]
    pub read_only: bool,
}

impl Args {
    /// What the flags mean, if they mean something.
    pub fn binding(&self) -> Result<Binding, Failure> {
        let named = self.commit_author.as_deref().map(|text| {
            let wrong = || Failure::usage("--commit-author must look like `Name <name@example.org>`");
            author(text).ok_or_else(wrong)
        });
        for (flag, value) in [("--session", &self.session), ("--device", &self.device)] {
            let fits = |text: &String| (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(plain);
            if value.as_ref().is_some_and(|text| !fits(text)) {
                return Err(Failure::usage(format!("{flag} must be 1 to {NAME_BYTES_MAX} bytes of printable text")));
            }
        }
        Ok(Binding {
            branch: self.branch.clone(),
            access: if self.read_only { Access::Read } else { Access::Write },
            origin: Origin { device: self.device.clone(), actor: None, session: self.session.clone() },
            author: named.transpose()?,
            ..Binding::new(self.project.clone(), self.user)
        })
    }
}

/// Whether what the connection is bound to is there: a client shows the command's last words, but not what a tool would say.
pub async fn check(engine: &Engine, binding: &Binding) -> Result<(), Failure> {
    engine.show_project(&binding.project).await?;
    Ok(())
}

/// Serves one client on stdin and stdout until it hangs up: through the running server if there is one, else by itself.
pub async fn run(args: Args, settings: &Settings) -> Result<(), Failure> {
    let binding = args.binding()?;
    let home = Home::open(&settings.data_dir)?;
    match open::reach(settings, &home, Schema::MigrateOwn).await? {
        Reached::Server(stream) => client::mcp(stream, &args).await,
        Reached::Here(opened) => here(opened, binding, &home, settings).await,
    }
}

/// Meanwhile other commands, and other clients, go through this process, as they would through a server.
async fn here(opened: Box<Opened>, binding: Binding, home: &Home, settings: &Settings) -> Result<(), Failure> {
    check(&opened.engine, &binding).await?;
    if binding.access == Access::Write {
        opened.check_store().await?;
    }
    let app = App::new(opened.engine.clone(), serving::configured(settings, Vec::new()));
    let opened = Arc::<Opened>::from(opened);
    let stop = CancellationToken::new();
    let control = match settings.embedded() {
        true => Some(tokio::spawn(Control::bind(home)?.serve(opened.clone(), app.clone(), stop.clone()))),
        false => None,
    };
    let no_stdio = |error| Failure::failed("cannot use stdin and stdout").because(error);
    let (read, write) = (stdio::input().map_err(no_stdio)?, stdio::output().map_err(no_stdio)?);
    let served = mcp_over(&app, binding, read, write, stop.clone()).await;
    stop.cancel();
    if let Some(control) = control {
        let _ended = control.await;
    }
    // What had begun to write is durable before this process ends, and what was stored twice is given up.
    app.drained().await;
    if let Err(error) = opened.engine.sweep().await {
        tracing::warn!(code = error.code(), cause = ?error, "a server will have to remove what was stored twice: {error}");
    }
    served.map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args {
            project: "docs".to_owned(),
            user: Uuid::nil(),
            branch: None,
            commit_author: None,
            session: None,
            device: None,
            read_only: false,
        }
    }

    #[test]
    fn flags_that_mean_nothing_are_wrong_usage() {
        assert_eq!(args().binding().unwrap().access, Access::Write);
        assert_eq!(Args { read_only: true, ..args() }.binding().unwrap().access, Access::Read);
        let author = |text: &str| Args { commit_author: Some(text.to_owned()), ..args() }.binding();
        assert_eq!(author("Ann <a@b>").unwrap().author.unwrap().name, "Ann");
        assert_eq!(author("Ann").unwrap_err().status, 2);
        for bad in ["", "a\nb", &"x".repeat(101)] {
            assert_eq!(Args { session: Some(bad.to_owned()), ..args() }.binding().unwrap_err().status, 2, "{bad:?}");
        }
    }
}
