//! A merge commit of our branch and the remote's, where both have commits that the other lacks.

use treehold_catalog::{OpKind, Project, RefState, RefUpdate};
use treehold_object::commit::CommitSpec;
use treehold_object::ident::Signature;
use treehold_object::{Kind, ObjectId};

use crate::view::{Head, branch_ref};
use crate::writer::NewBytes;
use crate::{Engine, EngineError, Result};

impl Engine {
    /// Merges the remote's `tip` into our branch, not pushed; refuses with the paths that do not merge. The second part is what a dry run
    /// made and did not store.
    pub(crate) async fn merge_remote(
        &self,
        project: &Project,
        ours: &Head,
        tip: ObjectId,
        dry_run: bool,
        seen: RefState,
    ) -> Result<(Head, Vec<NewBytes>)> {
        let head = ours.commit.ok_or_else(|| EngineError::internal("an unborn branch cannot diverge"))?;
        let theirs = self.head_of(tip, ours.branch.clone()).await?;
        let base = match self.compare(project.id, &[head], &[tip]).await?.base {
            Some(base) => Some(self.commit_row(base).await?.tree),
            None => None,
        };
        let merged = self.merge_trees(base, ours.tree, theirs.tree).await?;
        if !merged.conflicts.is_empty() {
            return Err(EngineError::Diverged(merged.conflicts));
        }
        let mut objects: Vec<NewBytes> =
            merged.blobs.into_iter().map(|(oid, content)| NewBytes { oid, kind: Kind::Blob, content }).collect();
        // An import carries what is wrong there; what is made here is ours.
        self.check_git_files(&merged.edits, &objects).await?;
        let edited = self.edit_tree(theirs.tree, &merged.edits).await?;
        let branch = ours.branch.clone().unwrap_or_else(|| project.default_branch.clone());
        let (name, email) = &self.config.author;
        let time = self.commit_row(tip).await?.time.max(self.commit_row(head).await?.time);
        let time = time.max(self.ambient.now_ms().div_euclid(1000));
        let author = Signature::new(name, email, time, 0).map_err(EngineError::internal)?;
        let spec = CommitSpec {
            tree: edited.root,
            parents: vec![head, tip],
            author: author.clone(),
            committer: author,
            message: format!("Merge remote branch '{branch}'").into(),
        };
        let raw = self.encode_commit(spec)?;
        let commit = NewBytes::of(Kind::Commit, raw.into())?;
        let to = Head { commit: Some(commit.oid), tree: Some(edited.root), branch: Some(branch.clone()), row: None };
        let trees = edited.trees.into_iter();
        objects.extend(trees.map(|(oid, content)| NewBytes { oid, kind: Kind::Tree, content }));
        objects.push(commit);
        if dry_run {
            return Ok((to, objects));
        }
        let mut op = self.begin_op(Some(project.id), OpKind::Commit).await?;
        let id = op.id;
        let stored = async {
            self.store_objects(&mut op, objects.clone()).await?;
            self.record_objects(&objects).await
        };
        if let Err(error) = self.kept_alive(id, stored).await {
            self.end(id).await;
            return Err(error);
        }
        let update = RefUpdate { name: branch_ref(&branch), expected: Some(head), new: to.commit };
        self.publish_kept(&self.publication(project.id, &op, vec![update], "merge"), seen).await?;
        Ok((to, Vec::new()))
    }
}
