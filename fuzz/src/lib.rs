//! Every parser of hostile bytes as a function of bytes: it must come back, in little memory, and what it says must hold.
//!
//! A target panics if a property does not hold. Where its input has parts, it begins with what they are ([`Input`]).

mod input;
mod objects;
mod packs;
mod text;
mod wire;

pub use input::Input;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its directory in `corpus/`.
    pub name: &'static str,
    /// Takes any bytes. Panics if the parser does what it must not.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "advertisement", run: wire::advertisement },
    Target { name: "commit", run: objects::commit },
    Target { name: "date", run: text::date },
    Target { name: "delta", run: packs::delta },
    Target { name: "entry_header", run: packs::entry_header },
    Target { name: "fetch_answer", run: wire::fetch_answer },
    Target { name: "filter", run: wire::filter },
    Target { name: "forged_pack", run: packs::forged_pack },
    Target { name: "git_file", run: text::git_file },
    Target { name: "ident", run: text::ident },
    Target { name: "index", run: packs::index },
    Target { name: "loose", run: packs::loose },
    Target { name: "pack", run: packs::pack },
    Target { name: "path", run: text::path },
    Target { name: "pktline", run: wire::pktline },
    Target { name: "push_head", run: wire::push_head },
    Target { name: "ref_name", run: text::ref_name },
    Target { name: "refs_answer", run: wire::refs_answer },
    Target { name: "report", run: wire::report },
    Target { name: "request", run: wire::request },
    Target { name: "sideband", run: wire::sideband },
    Target { name: "tag", run: objects::tag },
    Target { name: "tree", run: objects::tree },
    Target { name: "upload_request", run: wire::upload_request },
    Target { name: "zlib", run: packs::zlib },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
