//! One program for all targets: `TREEHOLD_FUZZ_TARGET` says which, the arguments are libFuzzer's.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use treehold_fuzz::{Target, target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("TREEHOLD_FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("TREEHOLD_FUZZ_TARGET={name:?} is no target"))
    })
}

fuzz_target!(|data: &[u8]| (chosen().run)(data));
