//! `treehold quickstart`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use crate::failure::Failure;
use crate::home::Home;
use crate::output;
use crate::quickstart::{Found, PROJECT, Stage, Tour};
use crate::serving::Serving;
use crate::settings::{Origin, Settings};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the temporary directory, to look around and go on (a --data-dir is always kept)
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where the quickstart works.
struct Place {
    data: PathBuf,
    work: PathBuf,
    /// Removed at the end.
    temporary: Option<tempfile::TempDir>,
}

/// Runs it in a fresh temporary directory, or in the (new or empty) one of `--data-dir`.
pub async fn run(args: Args, settings: &Settings) -> Result<(), Failure> {
    let began = Instant::now();
    let place = place(settings, args.keep)?;
    // The embedded default: what the environment says of a production database must not be touched.
    let embedded = embedded(&place)?;
    let mut stage = Stage::new(args.json);
    stage.print("Treehold's main job, on the embedded default: SQLite and a directory.")?;
    let start = Serving::start(&embedded);
    let serving = stage.step("start the server", "treehold serve --listen 127.0.0.1:0", start).await?;
    let tour = Tour::new(stage, serving.address(), serving.key().clone(), serving.opened(), place.work.clone());
    let found = tour.run().await;
    serving.stop().await?;
    let found = found?;
    let kept = place.temporary.is_none();
    if args.json {
        let answer = json!({
            "steps": found.stage.json(),
            "files": found.files,
            "pushes": found.pushes,
            "head": found.head,
            "data_dir": kept.then(|| place.data.clone()),
        });
        output::print(&output::pretty(&answer))?;
    } else {
        summary(&found, &place, kept, began)?;
    }
    Ok(())
}

fn place(settings: &Settings, keep: bool) -> Result<Place, Failure> {
    let given = settings.given.get("data_dir").is_some_and(|(_, origin)| matches!(origin, Origin::Flag(_)));
    let (data, work, temporary) = if given {
        let data = settings.data_dir.clone();
        if std::fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("{} is not empty: the quickstart needs a new or an empty directory", data.display());
            return Err(Failure::usage(text));
        }
        (data.clone(), data.join("quickstart"), None)
    } else {
        let directory = tempfile::Builder::new().prefix("treehold-quickstart-").tempdir();
        let directory =
            directory.map_err(|error| Failure::failed(format!("cannot make a temporary directory: {error}")))?;
        let path = directory.path().to_owned();
        let temporary = if keep {
            let _kept = directory.keep();
            None
        } else {
            Some(directory)
        };
        (path.join("data"), path.join("git"), temporary)
    };
    Home::open(&data)?;
    std::fs::create_dir_all(&work)
        .map_err(|error| Failure::failed(format!("cannot make the directory {}: {error}", work.display())))?;
    Ok(Place { data, work, temporary })
}

fn embedded(place: &Place) -> Result<Settings, Failure> {
    let text = |value: &str| (value.to_owned(), Origin::Default);
    let data = place.data.to_str().ok_or_else(|| Failure::usage("the directory's name must be UTF-8"))?;
    Settings::from_given(BTreeMap::from([("data_dir", text(data)), ("listen", text("127.0.0.1:0"))]))
}

fn summary(found: &Found, place: &Place, kept: bool, began: Instant) -> Result<(), Failure> {
    let took = |what: &str| found.stage.took(what).unwrap_or_else(|| "-".into());
    let mut text = format!(
        "\nDone in {:.1} s: every step was checked.\n  import of {} files {} · 100 files in one call {} · autosave {} · push of two commits {}\n",
        began.elapsed().as_secs_f64(),
        found.files,
        took("import it"),
        took("read them again"),
        took("and saves on top of that"),
        took("both leave in one push"),
    );
    let program = std::env::args().next().unwrap_or_else(|| "treehold".into());
    if kept {
        let data = place.data.display();
        text += &format!(
            "\nKept: {data}\n  store/objects is a git object database; api-key is the key; the remote and the export are in {}\n",
            place.work.display()
        );
        text += &format!(
            "\nGo on:\n  {program} --data-dir {data} serve\n  curl -H \"X-Internal-API-Key: $(cat {data}/api-key)\" http://127.0.0.1:3001/files/{PROJECT}\n"
        );
    } else {
        text += &format!(
            "\nEverything was in a temporary directory that is gone now; `{program} quickstart --keep` keeps it.\n"
        );
    }
    text += &format!(
        "  {program} import https://github.com/OWNER/REPOSITORY     a repository of yours\n  {program} serve                                           the HTTP API\n  {program} --help                                          everything else\n"
    );
    output::print(&text)
}
