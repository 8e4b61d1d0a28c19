//! [`Slab`]: a table of fixed places with generations, so that a late message never reaches a newcomer.

/// Names an entry of a [`Slab`]. The key of a removed entry never names a later one (until 2³² reuses of its place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The key as one word, for `user_data` and request ids.
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key that `to_word` made.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the word are taken apart")]
    pub(crate) fn from_word(word: u64) -> Key {
        Key { index: word as u32, generation: (word >> 32) as u32 }
    }
}

/// Entries at places that do not move; grows when full, never shrinks, reuses the place freed last.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    entry: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, entry: T) -> Key {
        self.insert_with(|_| entry)
    }

    /// Inserts what `make` makes of its own key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, entry: None });
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 entries fit in memory")
        });
        let place = &mut self.places[index as usize];
        let key = Key { index, generation: place.generation };
        place.entry = Some(make(key));
        key
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.entry.as_mut()
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        place.entry.as_ref()
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let entry = place.entry.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(entry)
    }

    /// The entries at `count` places from one on, and the place behind these if there are more.
    pub(crate) fn page(&self, from: usize, count: usize) -> (impl Iterator<Item = &T>, Option<usize>) {
        let end = from.saturating_add(count).min(self.places.len());
        let next = (end < self.places.len()).then_some(end);
        let places = &self.places[from.min(end)..end];
        (places.iter().filter_map(|place| place.entry.as_ref()), next)
    }

    /// All entries with their keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            place.entry.as_ref().map(|entry| (Key { index, generation: place.generation }, entry))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_does_not_name_the_next_entry_at_its_place() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn pages_have_each_entry_once() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..5).map(|number| slab.insert(number)).collect();
        slab.remove(keys[1]);
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let (entries, next) = slab.page(place, 2);
            all.extend(entries.copied());
            from = next;
        }
        assert_eq!(all, [0, 2, 3, 4]);
        assert_eq!((slab.page(9, 2).0.count(), slab.page(9, 2).1), (0, None));
    }

    #[test]
    fn keys_survive_the_way_through_a_word() {
        let mut slab = Slab::new();
        let key = slab.insert(());
        slab.remove(key);
        let key = slab.insert(());
        assert_eq!(Key::from_word(key.to_word()), key);
    }
}
