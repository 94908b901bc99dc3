//! Faults on purpose, for tests of this program as a whole.

use std::sync::Arc;

use treehold_fault::Script;

use crate::failure::Failure;

/// Where a test says what is to go wrong. No option: nobody else is to know it.
const VARIABLE: &str = "TREEHOLD_FAULTS";

/// Does what the variable says, if it is set; refused by a program that was built without fault points.
pub fn arm() -> Result<(), Failure> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else { return Ok(()) };
    if !treehold_fault::built_in() {
        return Err(Failure::usage(format!(
            "{VARIABLE} is for tests, and this program was built without fault points"
        )));
    }
    let script = Script::parse(&text.to_string_lossy());
    treehold_fault::arm(Arc::new(script.map_err(|error| Failure::usage(format!("{VARIABLE}: {error}")))?));
    Ok(())
}
