use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::*;

fn of(operation: &str) -> Counted {
    read().into_iter().find(|counted| counted.operation == operation).expect("it was called")
}

#[tokio::test]
async fn calls_are_counted_by_how_they_end() {
    static ONE: Call = Call::new(Kind::Store, "test: count");
    // Compiled twice, as the catalog's queries are.
    static OTHER: Call = Call::new(Kind::Store, "test: count");
    ONE.watch(Span::none(), async {}, |()| None).await;
    OTHER.watch(Span::none(), async {}, |()| Some("broken")).await;
    drop(ONE.begin(Span::none()));
    ONE.received(3);
    OTHER.received(4);
    OTHER.sent(5);
    ONE.again();
    let counted = of("test: count");
    let calls = counted.ended.map(|ended| ended.within[UP_TO_S.len()]);
    assert_eq!(calls, [1, 1, 1]);
    assert_eq!((counted.received_bytes, counted.sent_bytes, counted.repeated), (7, 5, 1));
    assert!(counted.ended.iter().all(|ended| ended.total_s < 1.0 && ended.within.is_sorted()));
    assert_eq!(read().iter().filter(|counted| counted.operation == "test: count").count(), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled() {
    static GIVEN_UP: Call = Call::new(Kind::Remote, "test: given up");
    let mut call = Box::pin(GIVEN_UP.watch(Span::none(), std::future::pending::<()>(), |()| None));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(call);
    assert_eq!(of("test: given up").ended[Outcome::Cancelled as usize].within[UP_TO_S.len()], 1);
}

/// Spans by name, with their parents and fields, as they are seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Named>>>);

/// A span and its parent, or a field's name and value.
type Named = (String, Option<String>);

struct Fields<'a>(&'a mut Vec<Named>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((format!("{}={value:?}", field.name()), None));
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let span = cx.span(id).expect("a span");
        let mut seen = self.0.lock().expect("no panic");
        seen.push((span.name().to_owned(), span.parent().map(|parent| parent.name().to_owned())));
        attributes.record(&mut Fields(&mut seen));
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut Fields(&mut self.0.lock().expect("no panic")));
    }
}

#[tokio::test]
async fn calls_are_spans_of_what_makes_them() {
    static READ: Call = Call::new(Kind::Catalog, "test: read");
    let seen = Seen::default();
    let _heard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    // Nobody asked for this one.
    READ.watch(span::catalog("sqlite", READ.operation()), async {}, |()| None).await;
    assert_eq!(*seen.0.lock().unwrap(), []);
    let upkeep = span::root("sweep");
    async { READ.watch(span::catalog("sqlite", READ.operation()), async {}, |()| Some("unavailable")).await }
        .instrument(upkeep)
        .await;
    let seen = seen.0.lock().unwrap().clone();
    for (what, parent) in [
        ("upkeep", None),
        ("catalog", Some("upkeep")),
        ("db.operation.name=\"test: read\"", None),
        ("db.system.name=\"sqlite\"", None),
        ("error.type=\"unavailable\"", None),
        ("otel.status_code=\"ERROR\"", None),
    ] {
        let what = (what.to_owned(), parent.map(str::to_owned));
        assert!(seen.contains(&what), "{what:?} is not in {seen:?}");
    }
}
