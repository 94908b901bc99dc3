//! The list of points, by the steps of docs/reliability.md.

/// What code is at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointKind {
    /// The engine's.
    Engine,
    /// The engine's, in what an operator does while no server is there: it is never passed in one.
    Command,
    /// The directory bucket's, on a thread that may block.
    Disk,
}

/// Every named point, and what comes next there. Calls of the catalog are points by the names that their errors have, and not listed.
pub const POINTS: &[(&str, PointKind, &str)] = &[
    ("A1", PointKind::Engine, "an autosave is looked at"),
    ("A2", PointKind::Engine, "large content of an autosave gets an operation and goes to the bucket (W2 to W4)"),
    ("A4", PointKind::Engine, "the transaction of an autosave"),
    ("A5", PointKind::Engine, "the answer to an autosave"),
    ("C1", PointKind::Engine, "PREPARED: the attempt is recorded, its key reserved"),
    ("C2", PointKind::Engine, "the trees of a commit are built"),
    ("C3", PointKind::Engine, "the objects of a commit go to the bucket"),
    ("C4", PointKind::Engine, "STORED: the objects are registered; what is not pushed is done with it"),
    ("U1", PointKind::Engine, "PUSHING is recorded"),
    ("U2", PointKind::Engine, "the remote is looked at, since the outcome is not known"),
    ("U3", PointKind::Engine, "the pack is sent"),
    ("U4", PointKind::Engine, "the remote's report is acted on"),
    ("U5", PointKind::Engine, "FINALIZED: refs, pending work and the answer, in one transaction"),
    ("I1", PointKind::Engine, "a fetch opens its operation"),
    ("I2", PointKind::Engine, "the remote is asked for its refs"),
    ("I3", PointKind::Engine, "the pack is asked for"),
    ("I4", PointKind::Engine, "the pack is received and checked in quarantine"),
    ("I5", PointKind::Engine, "what was received is stored (W2 to W4)"),
    ("I6", PointKind::Engine, "what was fetched is published"),
    ("P1", PointKind::Engine, "the commands of a push into us are judged"),
    ("P2", PointKind::Engine, "its pack is received and checked in quarantine"),
    ("P3", PointKind::Engine, "its targets are judged"),
    ("P4", PointKind::Engine, "what was pushed is stored (W2 to W4)"),
    ("P6", PointKind::Engine, "the refs move"),
    ("P7", PointKind::Engine, "the report, after the refs moved"),
    ("W2", PointKind::Engine, "a pack's key is reserved (A2, P4, I5, N1)"),
    ("W3", PointKind::Engine, "a pack goes to the bucket (A3, P4, I5, N3)"),
    ("W4", PointKind::Engine, "a pack's objects are registered (A3, P5, I5)"),
    ("N1", PointKind::Engine, "repack opens its operation"),
    ("N2", PointKind::Engine, "repack reads the objects of a key"),
    ("N3", PointKind::Engine, "repack stores its pack (W2, W3)"),
    ("N4", PointKind::Engine, "the rows move to the new pack"),
    ("N5", PointKind::Engine, "the rows have moved; emptied keys are doomed"),
    ("G1", PointKind::Engine, "a collection begins an epoch"),
    ("G2", PointKind::Engine, "the horizon rises"),
    ("G3", PointKind::Engine, "roots are read and walked from"),
    ("G4", PointKind::Engine, "what was not reached is condemned"),
    ("G6", PointKind::Engine, "what has waited is given up, emptied keys are doomed"),
    ("G7", PointKind::Engine, "the bytes of a doomed key are gone; its row is told so"),
    ("B1", PointKind::Command, "a rebuild begins: the ledger is emptied"),
    ("B2", PointKind::Command, "what was read of a key is recorded"),
    ("B3", PointKind::Command, "a project comes back from the manifest"),
    ("B4", PointKind::Command, "a project's history is walked, and its reach recorded"),
    ("D1", PointKind::Disk, "a value is written to a file under way"),
    ("D2", PointKind::Disk, "that file is synced"),
    ("D3", PointKind::Disk, "that file gets its name"),
    ("D4", PointKind::Disk, "the directory with the name is synced"),
];

#[cfg(test)]
mod tests {
    use super::POINTS;

    #[test]
    fn names_are_given_once() {
        let mut names: Vec<_> = POINTS.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), POINTS.len());
    }
}
