//! [`Handshakes`]: those under way on one worker. There are only so many at a time: whoever comes when all places are
//! taken ends the oldest, since a client that means it is through in milliseconds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

/// Why a handshake must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The server ends.
    GivenUp,
    /// There were too many.
    CrowdedOut,
}

/// Handshakes under way on this worker.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes(Rc<State>);

#[derive(Debug)]
struct State {
    max: usize,
    timeout: Duration,
    count: Cell<usize>,
    next: Cell<u64>,
    /// Those that nobody has ended, oldest first.
    waiting: RefCell<BTreeMap<u64, Rc<Token>>>,
    /// Those that only have to take their last answer.
    through: RefCell<BTreeMap<u64, Rc<Token>>>,
}

#[derive(Debug, Default)]
struct Token {
    ended: Cell<Option<Ended>>,
    news: Notify,
}

impl Token {
    fn end(&self, why: Ended) {
        self.ended.set(Some(why));
        self.news.notify_one();
    }
}

impl Handshakes {
    /// None yet; at most `max` at a time, each for at most `timeout`.
    pub(crate) fn new(max: usize, timeout: Duration) -> Handshakes {
        Handshakes(Rc::new(State {
            max,
            timeout,
            count: Cell::new(0),
            next: Cell::new(0),
            waiting: RefCell::default(),
            through: RefCell::default(),
        }))
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.count.get() == 0
    }

    /// How long each may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// Ends those under way.
    pub(crate) fn give_up(&self) {
        for some in [&self.0.waiting, &self.0.through] {
            std::mem::take(&mut *some.borrow_mut()).values().for_each(|token| token.end(Ended::GivenUp));
        }
    }

    /// Ends the oldest of those under way.
    pub(crate) fn end_oldest(&self) {
        if let Some((_, oldest)) = self.0.waiting.borrow_mut().pop_first() {
            oldest.end(Ended::CrowdedOut);
        }
    }

    /// Ends the older half of those under way.
    pub(crate) fn make_room(&self) {
        let mut waiting = self.0.waiting.borrow_mut();
        for _ in 0..waiting.len() / 2 {
            if let Some((_, oldest)) = waiting.pop_first() {
                oldest.end(Ended::CrowdedOut);
            }
        }
    }

    /// One more; the oldest makes room if it must.
    pub(crate) fn enter(&self) -> Entered {
        let number = self.0.next.replace(self.0.next.get() + 1);
        let token = Rc::new(Token::default());
        if self.0.waiting.borrow().len() >= self.0.max {
            self.end_oldest();
        }
        self.0.waiting.borrow_mut().insert(number, token.clone());
        self.0.count.set(self.0.count.get() + 1);
        Entered { all: self.clone(), number, token }
    }
}

/// One handshake's place; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    all: Handshakes,
    number: u64,
    token: Rc<Token>,
}

impl Entered {
    /// How long it may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.all.timeout()
    }

    /// It has only to take its last answer: it makes room for nobody any more.
    pub(crate) fn is_through(&self) {
        let State { waiting, through, .. } = &*self.all.0;
        if waiting.borrow_mut().remove(&self.number).is_some() {
            through.borrow_mut().insert(self.number, self.token.clone());
        }
    }

    /// Waits until it must end.
    pub(crate) async fn ended(&self) -> Ended {
        loop {
            if let Some(why) = self.token.ended.get() {
                return why;
            }
            self.token.news.notified().await;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.all.0.waiting.borrow_mut().remove(&self.number);
        self.all.0.through.borrow_mut().remove(&self.number);
        self.all.0.count.set(self.all.0.count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(entered: &Entered) -> Option<Ended> {
        entered.token.ended.get()
    }

    #[test]
    fn the_oldest_makes_room() {
        let all = Handshakes::new(2, Duration::from_secs(1));
        let first = all.enter();
        let second = all.enter();
        assert_eq!(why(&first), None);
        let third = all.enter();
        assert_eq!((why(&first), why(&second), why(&third)), (Some(Ended::CrowdedOut), None, None));
        drop(second);
        let _fourth = all.enter();
        assert_eq!(why(&third), None, "a place was free");
    }

    #[test]
    fn the_older_half_makes_room() {
        let all = Handshakes::new(9, Duration::from_secs(1));
        let entered: Vec<Entered> = (0..5).map(|_| all.enter()).collect();
        all.make_room();
        let ended: Vec<bool> = entered.iter().map(|entered| why(entered).is_some()).collect();
        assert_eq!(ended, [true, true, false, false, false]);
        drop(entered);
        let only = all.enter();
        all.make_room();
        assert_eq!(why(&only), None, "it may be a client that means it");
    }

    #[test]
    fn whoever_is_through_makes_room_for_nobody_and_is_given_up_all_the_same() {
        let all = Handshakes::new(1, Duration::from_secs(1));
        let through = all.enter();
        through.is_through();
        let next = all.enter();
        all.end_oldest();
        assert_eq!((why(&through), why(&next)), (None, Some(Ended::CrowdedOut)));
        all.give_up();
        assert_eq!(why(&through), Some(Ended::GivenUp));
    }

    #[test]
    fn all_are_given_up_and_counted_until_they_are_gone() {
        let all = Handshakes::new(1, Duration::from_secs(1));
        let (first, second) = (all.enter(), all.enter());
        all.give_up();
        assert_eq!((why(&first), why(&second)), (Some(Ended::CrowdedOut), Some(Ended::GivenUp)));
        drop(first);
        assert!(!all.is_zero());
        drop(second);
        assert!(all.is_zero());
    }
}
