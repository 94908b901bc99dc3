//! Values that occur everywhere: oids, paths, file modes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use treehold_object::{BString, ObjectId};

/// An object id that reads and writes as 40 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(pub ObjectId);

impl std::fmt::Display for Oid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Oid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 40 {
            return Err("an oid is 40 hex digits");
        }
        ObjectId::from_hex(text.as_bytes()).map(Oid).map_err(|_| "an oid is 40 hex digits")
    }
}

impl From<ObjectId> for Oid {
    fn from(id: ObjectId) -> Self {
        Oid(id)
    }
}

impl Serialize for Oid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Oid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Oid {
    fn schema_name() -> Cow<'static, str> {
        "Oid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9a-fA-F]{40}$",
            "description": "The id of a git object; in answers always in lower case.",
            "examples": ["210a26421a8b0e6f3e6a4b7d3f5f0f4a2f9b7f0e"],
        })
    }
}

/// A path in an answer: `path` as text, and `path_b64` beside it where the bytes are not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(pub BString);

impl Serialize for Path {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        match std::str::from_utf8(&self.0) {
            Ok(text) => map.serialize_entry("path", text)?,
            Err(_) => {
                map.serialize_entry("path", &String::from_utf8_lossy(&self.0))?;
                map.serialize_entry("path_b64", &base64::prelude::BASE64_STANDARD.encode(&self.0))?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        #[derive(Deserialize)]
        struct Shape {
            path: String,
            path_b64: Option<String>,
        }
        let shape = Shape::deserialize(deserializer)?;
        match shape.path_b64 {
            None => Ok(Path(shape.path.into())),
            Some(text) => {
                base64::prelude::BASE64_STANDARD.decode(text).map(|p| Path(p.into())).map_err(serde::de::Error::custom)
            }
        }
    }
}

impl JsonSchema for Path {
    fn schema_name() -> Cow<'static, str> {
        "Path".into()
    }

    /// Its fields become those of what it is part of.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "description": "From the root, with `/` between its parts.",
                    "examples": ["guide/intro.md"],
                },
                "path_b64": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "description": "The path's bytes, only where they are not UTF-8; `path` has U+FFFD in the place of what is none.",
                },
            },
            "required": ["path"],
        })
    }
}

/// A file mode that writes as six octal digits. Only the modes of files are read: no request makes a tree or gitlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode(pub u32);

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06o}", self.0)
    }
}

impl std::str::FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "100644" => Ok(Mode(0o100644)),
            "100755" => Ok(Mode(0o100755)),
            "120000" => Ok(Mode(0o120000)),
            _ => Err("mode must be 100644, 100755 or 120000"),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (modes, what): (&[&str], _) = if generator.contract().is_deserialize() {
            (&["100644", "100755", "120000"], "Git's file mode: a file, an executable one, a symbolic link.")
        } else {
            let what = "Git's file mode: a file, an executable one, a symbolic link, a submodule, or one that old versions of git wrote.";
            (&["100644", "100755", "120000", "160000", "100664", "040000"], what)
        };
        json_schema!({"type": "string", "enum": modes, "description": what})
    }
}
