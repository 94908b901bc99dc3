//! Which names in the bucket are ours, and whose row answers for them.

use treehold_object::loose;

use crate::manifest::PREFIX as MANIFESTS;

/// Digits of a manifest's time in the name of its pack.
const TIME_DIGITS: usize = 16;

/// The key whose row answers for a name: its own, or that of the pack for an index. `None`: not a name that we give.
pub(crate) fn owner(name: &str) -> Option<String> {
    if loose::oid_of_key(name).is_some() {
        return Some(name.to_owned());
    }
    let stem = name.strip_suffix(".pack").or_else(|| name.strip_suffix(".idx"))?;
    let fresh = match stem.strip_prefix(MANIFESTS) {
        // Packs of manifests have their time in front.
        Some(timed) => {
            let (time, fresh) = timed.split_once('-')?;
            (time.len() == TIME_DIGITS && is_hex(time)).then_some(fresh)?
        }
        None => stem.strip_prefix("objects/pack/pack-")?,
    };
    (fresh.len() == 40 && is_hex(fresh)).then(|| format!("{stem}.pack"))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_of_ours_have_an_owner() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        for stem in [format!("objects/pack/pack-{hex}"), format!("objects/pack/pack-manifest-00000193a5b2c4d6-{hex}")] {
            let pack = format!("{stem}.pack");
            assert_eq!(owner(&pack), Some(pack.clone()));
            assert_eq!(owner(&format!("{stem}.idx")), Some(pack));
        }
        let loose = format!("objects/{}/{}", &hex[..2], &hex[2..]);
        assert_eq!(owner(&loose), Some(loose.clone()));
        let foreign = [
            "objects/info/packs",
            "objects/pack/pack-1.pack",
            "objects/pack/tmp_pack_1",
            "objects/pack/pack-manifest-1.pack",
            "objects/pack/multi-pack-index",
            "objects/readme",
            "objects/zz/0",
            "other",
        ];
        let untimed = format!("objects/pack/pack-manifest-zzzzzzzzzzzzzzzz-{hex}.pack");
        for foreign in foreign.into_iter().chain([untimed.as_str()]) {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
