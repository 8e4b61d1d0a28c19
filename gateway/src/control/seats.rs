//! [`Seats`]: who is connected to the control socket. There are only so many; whoever comes when all are taken gets
//! that of the connection that has been waiting longest for its client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Connections at a time.
const SEATS_MAX: usize = 16;

/// How long a connection keeps its seat at least, from its beginning or its last answer on: long enough for a request,
/// however many others come meanwhile.
const TENURE: Duration = Duration::from_millis(100);

/// What whoever comes gets.
#[derive(Debug)]
pub(super) enum Taken {
    Seat(Seat),
    /// There will be one after this time, unless those that have one do something with it.
    Wait(Duration),
    /// Commands are under way on all of them.
    None,
}

/// All seats.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Rc<State>);

#[derive(Debug, Default)]
struct State {
    /// Taken ones; those that wait for their client are in the order in which they began to.
    taken: RefCell<Vec<Rc<Token>>>,
}

#[derive(Debug)]
struct Token {
    is_busy: Cell<bool>,
    /// When its client began to be waited for.
    since: Cell<Instant>,
    has_lost: Cell<bool>,
    news: Notify,
}

/// A connection's seat; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    all: Seats,
    token: Rc<Token>,
}

impl Seats {
    /// A seat at the time `now`, if one is free or can be made so.
    pub(super) fn take(&self, now: Instant) -> Taken {
        let mut taken = self.0.taken.borrow_mut();
        if taken.len() >= SEATS_MAX {
            let Some(place) = taken.iter().position(|token| !token.is_busy.get()) else { return Taken::None };
            let left = (taken[place].since.get() + TENURE).saturating_duration_since(now);
            if !left.is_zero() {
                return Taken::Wait(left);
            }
            let loser = taken.remove(place);
            loser.has_lost.set(true);
            loser.news.notify_one();
        }
        let (since, news) = (Cell::new(now), Notify::new());
        let token = Rc::new(Token { is_busy: Cell::default(), since, has_lost: Cell::default(), news });
        taken.push(token.clone());
        Taken::Seat(Seat { all: self.clone(), token })
    }
}

impl Seat {
    /// A command is under way: the seat is kept until it is over.
    pub(super) fn begin(&self) {
        self.token.is_busy.set(true);
    }

    /// The client is waited for, from `now` on.
    pub(super) fn rest(&self, now: Instant) {
        self.token.is_busy.set(false);
        self.token.since.set(now);
        let mut taken = self.all.0.taken.borrow_mut();
        if let Some(place) = taken.iter().position(|token| Rc::ptr_eq(token, &self.token)) {
            let token = taken.remove(place);
            taken.push(token);
        }
    }

    /// Waits until somebody else has got the seat.
    pub(super) async fn lost(&self) {
        while !self.token.has_lost.get() {
            self.token.news.notified().await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.0.taken.borrow_mut().retain(|token| !Rc::ptr_eq(token, &self.token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(seats: &Seats, now: Instant) -> Option<Seat> {
        match seats.take(now) {
            Taken::Seat(seat) => Some(seat),
            _ => None,
        }
    }

    fn all(seats: &Seats, now: Instant) -> Vec<Seat> {
        (0..SEATS_MAX).map(|_| take(seats, now).unwrap()).collect()
    }

    fn losers(seats: &[Seat]) -> Vec<usize> {
        (0..seats.len()).filter(|&place| seats[place].token.has_lost.get()).collect()
    }

    #[test]
    fn the_one_that_waits_longest_makes_room_after_a_while() {
        let (seats, start) = (Seats::default(), Instant::now());
        let taken = all(&seats, start);
        // The first has just been answered, the second is busy.
        taken[0].begin();
        taken[0].rest(start + TENURE / 2);
        taken[1].begin();
        assert!(matches!(seats.take(start + TENURE / 2), Taken::Wait(left) if left == TENURE / 2));
        assert!(losers(&taken).is_empty());
        let _another = take(&seats, start + TENURE).unwrap();
        assert_eq!(losers(&taken), [2]);
    }

    #[test]
    fn busy_ones_keep_their_seats() {
        let (seats, start) = (Seats::default(), Instant::now());
        let mut taken = all(&seats, start);
        taken.iter().for_each(Seat::begin);
        assert!(matches!(seats.take(start + 2 * TENURE), Taken::None));
        taken.pop();
        assert!(take(&seats, start).is_some());
        assert!(losers(&taken).is_empty());
    }
}
