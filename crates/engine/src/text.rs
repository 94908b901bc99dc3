//! Small pieces of text: times and cursors.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{EngineError, Result};

/// Unix milliseconds as RFC 3339 in UTC.
pub(crate) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| format!("{at:.3}"))
}

/// A cursor that means something to us alone.
pub(crate) fn write_cursor(cursor: &impl Serialize) -> Result<String> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).map_err(EngineError::internal)?))
}

/// Cuts what was found, with one more than was asked for, to a page; its last item, if there are more.
pub(crate) fn page<T>(found: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = found.len() > limit;
    found.truncate(limit);
    found.last().filter(|_| more)
}

/// Raw bytes inside a cursor, as text.
pub(crate) mod bytes_text {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_URL_SAFE_NO_PAD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// Reads a cursor back; anything else is a malformed request.
pub(crate) fn read_cursor<C: DeserializeOwned>(text: &str) -> Result<C> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|raw| serde_json::from_slice(&raw).ok()).ok_or_else(bad_cursor)
}

/// The same where the cursor is the id of the last item.
pub(crate) fn read_id(text: &str) -> Result<Uuid> {
    Uuid::try_parse(text).map_err(|_| bad_cursor())
}

fn bad_cursor() -> EngineError {
    EngineError::BadRequest("The cursor is not one of ours.".to_owned())
}
