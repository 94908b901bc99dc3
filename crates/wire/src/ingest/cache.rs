//! Contents read lately, by position in the table, within a budget of bytes.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<u32, (Bytes, u64)>,
    /// By last use, oldest first.
    ages: BTreeMap<u64, u32>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    pub fn get(&mut self, at: u32) -> Option<Bytes> {
        let (content, age) = self.entries.get_mut(&at)?;
        self.ages.remove(age);
        self.clock += 1;
        *age = self.clock;
        self.ages.insert(self.clock, at);
        Some(content.clone())
    }

    /// Keeps `content`, unless it would push out more than half of everything.
    pub fn put(&mut self, at: u32, content: &Bytes) {
        if content.len() > self.bytes_max / 2 || self.get(at).is_some() {
            return;
        }
        self.clock += 1;
        self.bytes += content.len();
        self.entries.insert(at, (content.clone(), self.clock));
        self.ages.insert(self.clock, at);
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.bytes -= self.entries.remove(&oldest).map_or(0, |(content, _)| content.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(10);
        let content = Bytes::from_static(b"1234");
        cache.put(1, &content);
        cache.put(2, &content);
        assert_eq!(cache.get(1), Some(content.clone()));
        cache.put(3, &content);
        assert_eq!((cache.get(1).is_some(), cache.get(2).is_some(), cache.get(3).is_some()), (true, false, true));
        assert_eq!(cache.bytes, 8);
        cache.put(4, &Bytes::from_static(b"too large"));
        assert_eq!((cache.get(4), cache.bytes), (None, 8));
        cache.put(3, &content);
        assert_eq!((cache.bytes, cache.entries.len(), cache.ages.len()), (8, 2, 2));
    }
}
