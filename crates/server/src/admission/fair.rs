//! Who may work, who waits, who is sent away: the decisions alone, without clock, tasks or HTTP.
//!
//! A request that finds a place within its project's portion ([`Portions`]) is admitted. Others wait, each project in a short
//! queue of its own, and places that become free go round the projects in turn, so that a long queue is no
//! advantage. What does not fit into its queue is refused at once. Two requests of the same project keep their order.

use std::collections::{HashMap, VecDeque};

use super::portions::{Key, Portions};

/// The bounds of one class of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests at work at once.
    pub places: usize,
    /// Requests of one project that wait.
    pub queue: usize,
    /// Requests of all projects that wait.
    pub queue_total: usize,
}

/// A request that waits.
pub(crate) type Ticket = u64;

/// Whose fault it is that a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its project has its portion already: others are not in its way.
    Project,
    /// There is no room for anybody.
    Server,
}

/// What becomes of a request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Admitted,
    Waits(Ticket),
    Refused(Over),
}

/// The state of one class. Its memory is bounded by places and queues: a project without requests is not remembered.
#[derive(Debug)]
pub(crate) struct Fair {
    bounds: Bounds,
    places: Portions,
    queues: HashMap<Key, VecDeque<Ticket>>,
    /// Projects that wait, the one that was served longest ago first.
    turns: VecDeque<Key>,
    waiting: usize,
    next: Ticket,
}

impl Fair {
    /// `share` is what one project alone may have of the places, percent.
    pub(crate) fn new(bounds: Bounds, share: u64) -> Self {
        let places = Portions::new(bounds.places as u64, share);
        Self { bounds, places, queues: HashMap::new(), turns: VecDeque::new(), waiting: 0, next: 0 }
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self, key: Key) -> Arrival {
        let queued = self.queues.get(&key).map_or(0, VecDeque::len);
        if queued == 0 && self.places.take(key, 1) {
            return Arrival::Admitted;
        }
        if queued >= self.bounds.queue || self.waiting >= self.bounds.queue_total {
            return Arrival::Refused(self.over(key));
        }
        let ticket = self.next;
        self.next += 1;
        if queued == 0 {
            self.turns.push_back(key);
        }
        self.queues.entry(key).or_default().push_back(ticket);
        self.waiting += 1;
        Arrival::Waits(ticket)
    }

    /// A request that was admitted ends; those that have its place now.
    pub(crate) fn leave(&mut self, key: Key) -> Vec<(Key, Ticket)> {
        self.places.give(key, 1);
        let mut admitted = Vec::new();
        while let Some(next) = self.next_in_turn() {
            admitted.push(next);
        }
        admitted
    }

    /// A request waits no longer, and was not admitted.
    pub(crate) fn give_up(&mut self, key: Key, ticket: Ticket) -> Over {
        if let Some(queue) = self.queues.get_mut(&key)
            && let Some(at) = queue.iter().position(|waiting| *waiting == ticket)
        {
            queue.remove(at);
            self.waiting -= 1;
            if queue.is_empty() {
                self.queues.remove(&key);
                self.turns.retain(|turn| *turn != key);
            }
        }
        self.over(key)
    }

    /// Admits the first request of the first project that may have another place.
    fn next_in_turn(&mut self) -> Option<(Key, Ticket)> {
        if self.places.free() == 0 {
            return None;
        }
        let (turns, places) = (&self.turns, &mut self.places);
        let at = turns.iter().position(|key| places.take(*key, 1))?;
        let key = self.turns.remove(at)?;
        let queue = self.queues.get_mut(&key)?;
        let ticket = queue.pop_front()?;
        self.waiting -= 1;
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        Some((key, ticket))
    }

    fn over(&self, key: Key) -> Over {
        let waits_only = self.queues.keys().filter(|key| self.places.held(**key) == 0).count();
        let has = self.places.held(key) + self.queues.get(&key).map_or(0, VecDeque::len) as u64;
        if has >= self.places.portion(self.places.projects() + waits_only) { Over::Project } else { Over::Server }
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
