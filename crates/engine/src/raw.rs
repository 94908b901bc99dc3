//! Raw objects by id: only what the project's refs or pending work reach; everything else does not exist.

use treehold_catalog::Project;
use treehold_object::{Kind, ObjectId};

use crate::api::RawObject;
use crate::{Engine, EngineError, Result};

impl Engine {
    /// An object of `kind` that refs or pending work reach. Absent, foreign and of another kind are the same answer, after the same
    /// work.
    pub async fn raw_object(&self, project: &str, kind: Kind, oid: ObjectId) -> Result<RawObject> {
        let project = self.find_project(project).await?;
        let readable = self.catalog.may_read(project.id, &[oid]).await?[0];
        self.raw_if(readable, &project, kind, oid).await
    }

    /// The same of what refs reach alone: for whoever may not see everybody's pending work.
    pub async fn raw_committed(&self, project: &str, kind: Kind, oid: ObjectId) -> Result<RawObject> {
        let project = self.find_project(project).await?;
        let reach = self.catalog.reach(project.id).await?;
        let numbers = self.catalog.numbers(&[oid]).await?;
        let readable = matches!(numbers[..], [Some((number, _))] if reach.contains(number));
        self.raw_if(readable, &project, kind, oid).await
    }

    async fn raw_if(&self, readable: bool, project: &Project, kind: Kind, oid: ObjectId) -> Result<RawObject> {
        let located = self.catalog.locate(&[oid]).await?.pop().flatten();
        let inline = self.catalog.pending_contents(project.id, &[oid]).await?.pop().flatten();
        let absent = || EngineError::not_found("not_found", "The project has no such object.");
        if !readable {
            return Err(absent());
        }
        if let Some(located) = located.filter(|located| located.kind == kind) {
            self.room.take(located.size)?;
            let object = self.read_located(std::slice::from_ref(&located)).await?.pop().transpose()?;
            let content = object.ok_or_else(absent)?.content;
            return Ok(RawObject { oid, kind, content });
        }
        match inline.filter(|_| kind == Kind::Blob) {
            Some(content) => Ok(RawObject { oid, kind, content }),
            None => Err(absent()),
        }
    }
}
