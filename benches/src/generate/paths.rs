//! Where the files of a made repository lie.

use rand::Rng as _;
use rand::rngs::StdRng;

const STEMS: [&str; 16] = [
    "parser", "index", "intro", "session", "readme", "cache", "schema", "router", "token", "layout", "worker",
    "client", "errors", "config", "model", "query",
];
const EXTENSIONS: [&str; 8] = ["rs", "md", "ts", "json", "py", "c", "txt", "css"];
/// Files in a directory, on average.
const FILES_PER_DIRECTORY: f64 = 12.0;
const DEPTH_MAX: usize = 9;

/// What names are put together from.
#[derive(Debug)]
pub struct Names {
    /// Of files and directories, without extension.
    pub stems: Vec<String>,
    /// Without the dot; as often as they occur.
    pub extensions: Vec<String>,
}

impl Names {
    /// Names that need no text to come from.
    pub fn invented() -> Self {
        Self { stems: STEMS.map(str::to_owned).into(), extensions: EXTENSIONS.map(str::to_owned).into() }
    }
}

/// Distinct paths in a tree of directories that grows as a project's does: most directories are small, some are deep.
pub fn paths(files: usize, random: &mut StdRng, names: &Names) -> Vec<String> {
    let mut directories = vec![(String::new(), 0)];
    let mut paths = Vec::with_capacity(files);
    for number in 0..files {
        if random.random_bool(1.0 / FILES_PER_DIRECTORY) {
            let (parent, depth) = directories[random.random_range(0..directories.len())].clone();
            if depth < DEPTH_MAX {
                let stem = &names.stems[random.random_range(0..names.stems.len())];
                directories.push((format!("{parent}{stem}{}/", directories.len()), depth + 1));
            }
        }
        // Files go to the directories made last more often, so that no directory keeps growing with the repository.
        let last = directories.len() - 1;
        let back = random.random_range(0.0f64..1.0).powi(3) * last as f64;
        let (directory, _) = &directories[last - back as usize];
        let stem = &names.stems[random.random_range(0..names.stems.len())];
        let extension = &names.extensions[random.random_range(0..names.extensions.len())];
        paths.push(format!("{directory}{stem}_{number}.{extension}"));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn paths_are_distinct_deep_and_spread() {
        let paths = paths(20_000, &mut StdRng::seed_from_u64(1), &Names::invented());
        let mut sorted = paths.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 20_000);
        let depth = |path: &String| path.matches('/').count();
        let depths = paths.iter().map(depth).sum::<usize>() as f64 / 20_000.0;
        assert!((3.0..7.0).contains(&depths), "the mean depth is {depths}");
        assert!(paths.iter().map(depth).max() <= Some(DEPTH_MAX));
        let mut counts = std::collections::HashMap::new();
        for path in &paths {
            *counts.entry(path.rsplit_once('/').map_or("", |(directory, _)| directory)).or_insert(0) += 1;
        }
        assert!(counts.values().max() < Some(&400), "one directory has {:?} files", counts.values().max());
    }
}
