//! What a status points at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How many kinds a status remembers; beyond, the oldest are forgotten.
pub const MOST_PART_KINDS: usize = 32;

/// An object in the management cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// `group/version`.
    #[schemars(schema_with = "schema::word")]
    pub api_version: String,
    /// Kind.
    #[schemars(schema_with = "schema::word")]
    pub kind: String,
    /// Name.
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub namespace: Option<String>,
    /// Uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub uid: Option<String>,
}

/// A Node in the workload cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRef {
    /// `v1`.
    #[schemars(schema_with = "schema::word")]
    pub api_version: String,
    /// `Node`.
    #[schemars(schema_with = "schema::word")]
    pub kind: String,
    /// Name.
    #[schemars(schema_with = "schema::word")]
    pub name: String,
    /// Uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub uid: Option<String>,
}

/// What a kind is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PartRole {
    /// `bootstrapSpec`.
    Bootstrap,
    /// `infrastructureSpec`.
    Infrastructure,
}

/// A kind of which an object may exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartKind {
    /// What it is used as.
    pub role: PartRole,
    /// `group/version`.
    #[schemars(schema_with = "schema::word")]
    pub api_version: String,
    /// Kind.
    #[schemars(schema_with = "schema::word")]
    pub kind: String,
}
