//! Reading through the cache: one request to the bucket for all who want the same object at the same time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures::stream::{self, StreamExt};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use treehold_object::ObjectId;

use super::ObjectCache;
use crate::decode;
use crate::deltas::Chains;
use crate::error::StoreError;
use crate::object_store::{Location, Object, ObjectStore, finished, missing};
use crate::runs::plan;

/// What a read gave, an answer for each of its locations.
type Landed = Arc<Vec<Result<Object, Arc<StoreError>>>>;

/// A read under way. Its work goes on by itself while anybody holds this; with the last holder it ends.
type Flight = Shared<BoxFuture<'static, Landed>>;

/// The reads under way, by what they read: an object in two places is two things, one of which may be lost.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Location, Seat>>,
    numbers: AtomicU64,
}

/// Which flight, and where in it.
struct Seat {
    number: u64,
    flight: WeakShared<BoxFuture<'static, Landed>>,
    place: usize,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("number", &self.number).field("place", &self.place).finish_non_exhaustive()
    }
}

impl Flights {
    fn under_way(&self) -> MutexGuard<'_, HashMap<Location, Seat>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the list when it ends, however it ends.
struct Landing {
    flights: Arc<Flights>,
    number: u64,
    locations: Vec<Location>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way();
        for location in &self.locations {
            if under_way.get(location).is_some_and(|seat| seat.number == self.number) {
                under_way.remove(location);
            }
        }
    }
}

/// Where the objects of a run come from. The first number is the place in what the caller asked for.
#[derive(Default)]
struct Boarded {
    here: Vec<(usize, Object)>,
    seats: Vec<(usize, Flight, usize)>,
}

impl ObjectStore {
    /// [`ObjectStore::get_many`] with a cache: what is there, else a flight for each run, shared with others who want the same.
    pub(crate) async fn read_through(
        &self,
        cache: &Arc<ObjectCache>,
        locations: &[Location],
    ) -> Vec<Result<Object, StoreError>> {
        let mut answers = self.look_up(cache, locations, true).await;
        let absent: Vec<usize> =
            (0..answers.len()).filter(|at| answers.get(*at).is_some_and(Option::is_none)).collect();
        let wanted: Vec<Location> = absent.iter().filter_map(|at| locations.get(*at).cloned()).collect();
        let (gap, length_max) = self.run_limits();
        let whole = plan(&wanted, gap, length_max).into_iter().map(|run| {
            let members = run.members.iter();
            members.filter_map(|member| Some((member.at, wanted.get(member.at)?.clone()))).collect::<Vec<_>>()
        });
        let deltas = Chains::of(&wanted).into_iter().map(|chains| chains.members);
        // Boarded when its turn comes: whoever is in the list is being read, not waiting in a long batch.
        let flights = whole.chain(deltas).map(|asked| async move { self.fly(cache, asked).await });
        let mut flights = stream::iter(flights).buffer_unordered(self.options().parallel.max(1));
        while let Some(read) = flights.next().await {
            for (at, answer) in read {
                if let Some(place) = absent.get(at).and_then(|at| answers.get_mut(*at)) {
                    *place = Some(answer);
                }
            }
        }
        drop(flights);
        let filled = answers.into_iter().zip(locations);
        filled.map(|(answer, location)| answer.unwrap_or_else(|| Err(missing(&location.key)))).collect()
    }

    /// For those who walk through much once: what is in the cache is used, what is not is not put there.
    pub(crate) async fn read_past(
        &self,
        cache: &Arc<ObjectCache>,
        locations: &[Location],
    ) -> Vec<Result<Object, StoreError>> {
        let answers = self.look_up(cache, locations, false).await;
        let absent = answers.iter().zip(locations).filter(|(answer, _)| answer.is_none());
        let absent: Vec<Location> = absent.map(|(_, location)| location.clone()).collect();
        let mut read = self.read(&absent, decode::object).await.into_iter();
        let filled = answers.into_iter().zip(locations);
        filled
            .map(|(answer, location)| answer.or_else(|| read.next()).unwrap_or_else(|| Err(missing(&location.key))))
            .collect()
    }

    /// What is in the cache and is what the location says.
    async fn look_up(
        &self,
        cache: &ObjectCache,
        locations: &[Location],
        in_use: bool,
    ) -> Vec<Option<Result<Object, StoreError>>> {
        let oids: Vec<ObjectId> = locations.iter().map(|location| location.oid).collect();
        let found = cache.lookup(&oids, in_use, u64::MAX).await;
        let fitting = |(object, location): (Option<Object>, &Location)| object.filter(|object| fits(object, location));
        found.into_iter().zip(locations).map(|pair| fitting(pair).map(Ok)).collect()
    }

    async fn fly(
        &self,
        cache: &Arc<ObjectCache>,
        asked: Vec<(usize, Location)>,
    ) -> Vec<(usize, Result<Object, StoreError>)> {
        let Boarded { here, seats } = self.board(cache, asked);
        let mut answers: Vec<(usize, Result<Object, StoreError>)> =
            here.into_iter().map(|(at, object)| (at, Ok(object))).collect();
        for (at, flight, place) in seats {
            let landed = flight.await;
            match landed.get(place) {
                Some(Ok(object)) => answers.push((at, Ok(object.clone()))),
                Some(Err(error)) => answers.push((at, Err(decode::copy(error)))),
                None => {}
            }
        }
        answers
    }

    /// Joins flights that carry what is asked for, and starts one for the rest.
    fn board(&self, cache: &Arc<ObjectCache>, asked: Vec<(usize, Location)>) -> Boarded {
        let mut boarded = Boarded::default();
        let mut own: Vec<(usize, Location)> = Vec::new();
        // Nothing that ends a flight may be dropped while the list is locked: a flight that ends locks it.
        let mut under_way = cache.flights.under_way();
        for (at, location) in asked {
            let seat = under_way.get(&location).and_then(|seat| Some((seat.flight.upgrade()?, seat.place)));
            if let Some((flight, place)) = seat {
                boarded.seats.push((at, flight, place));
            } else if let Some(object) = cache.memory.peek(&location.oid).filter(|object| fits(object, &location)) {
                // It landed between the look into the cache and this one.
                boarded.here.push((at, object));
            } else {
                own.push((at, location));
            }
        }
        cache.shared.fetch_add((boarded.seats.len() + boarded.here.len()) as u64, Relaxed);
        cache.misses.fetch_add(own.len() as u64, Relaxed);
        if own.is_empty() {
            return boarded;
        }
        let number = cache.flights.numbers.fetch_add(1, Relaxed);
        let locations: Vec<Location> = own.iter().map(|(_, location)| location.clone()).collect();
        let flight = self.take_off(cache, number, locations.clone());
        for (place, ((at, _), location)) in own.into_iter().zip(locations).enumerate() {
            if let Some(weak) = flight.downgrade() {
                under_way.insert(location, Seat { number, flight: weak, place });
            }
            boarded.seats.push((at, flight.clone(), place));
        }
        drop(under_way);
        boarded
    }

    fn take_off(&self, cache: &Arc<ObjectCache>, number: u64, locations: Vec<Location>) -> Flight {
        let landing = Landing { flights: cache.flights.clone(), number, locations: locations.clone() };
        let (store, cache) = (self.clone(), cache.clone());
        // A task of its own, so that it needs nobody who asks how far it is. It is traced where it was begun.
        let reading = async move {
            let read = store.read(&locations, decode::object).await;
            for object in read.iter().flatten() {
                cache.fill(object);
            }
            Arc::new(read.into_iter().map(|answer| answer.map_err(Arc::new)).collect::<Vec<_>>())
        };
        let task = AbortOnDropHandle::new(tokio::spawn(reading.in_current_span()));
        let flight = async move {
            let landed = finished(task).await;
            drop(landing);
            landed
        };
        flight.boxed().shared()
    }
}

fn fits(object: &Object, location: &Location) -> bool {
    object.kind == location.kind && object.content.len() as u64 == location.size
}
