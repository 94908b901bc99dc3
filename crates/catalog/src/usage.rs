//! What projects hold, counted anew.
//!
//! Every transaction that adds to what a project's refs reach, or to the contents of its pending work, counts that in the project's figure
//! ([`crate::Project::bytes`]), and those that take away count it out. The collector looks whether that is so: servers of before did not count.

use async_trait::async_trait;
use roaring::RoaringTreemap;
use treehold_object::ObjectId;
use uuid::Uuid;

use crate::error::CatalogError;

/// What a project holds, as one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Ledger numbers of the objects that its refs reach.
    pub reach: RoaringTreemap,
    /// Sizes of the contents of its pending work, present and past, logical bytes.
    pub pending_bytes: u64,
    /// Its figure, logical bytes. Below 0 where something was counted out that a server of before had not counted in.
    pub counted: i64,
}

/// As what an object counts in a project's figure. One that refs reach and pending work has, too, counts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// The project's refs reach it.
    Reached,
    /// It is a content of the project's pending work, present or past.
    Pending,
}

/// Figures of projects.
#[async_trait]
pub trait Usage {
    /// What a project holds; `None` = there is no such project.
    async fn held(&self, project: Uuid) -> Result<Option<Held>, CatalogError>;
    /// The sizes of these objects together, logical bytes; those that are not in the ledger have none.
    async fn sum_sizes(&self, objects: &RoaringTreemap) -> Result<u64, CatalogError>;
    /// Which of these objects the project's figure has already, in their order. Nothing else is told: what other projects have is as absent
    /// as what nobody has, and the same is read for both.
    async fn charged(&self, project: Uuid, charged: Charged, oids: &[ObjectId]) -> Result<Vec<bool>, CatalogError>;
    /// Corrects a project's figure by so many bytes. What is added meanwhile counts on top. `false`: there is no such project.
    async fn correct_usage(&self, project: Uuid, by: i64) -> Result<bool, CatalogError>;
}
