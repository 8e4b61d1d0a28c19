//! [`Slots`]: the in-flight table of a queue. What lies in a slot stays until the terminal completion.

/// A slot with the generation it had when it was filled: the `user_data` of an operation. A completion that names an
/// older generation is a duplicate or an invention and finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Number of the slot.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// As one word.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// From one word; any word will do, since it is checked when it is used.
    pub(crate) fn from_u64(word: u64) -> Key {
        Key { index: word as u32, generation: (word >> 32) as u32 }
    }
}

/// A table of fixed size. Filling and emptying a slot take a few instructions and no memory.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// Indices of empty slots; the last one is filled first, because it is still in the processor's cache.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new(count: u32) -> Slots<T> {
        let slots = (0..count).map(|_| Slot { generation: 0, content: None }).collect();
        Slots { slots, free: (0..count).rev().collect() }
    }

    /// Fills a slot; gives `content` back when none is empty.
    pub(crate) fn insert(&mut self, content: T) -> Result<Key, T> {
        let Some(index) = self.free.pop() else { return Err(content) };
        let slot = &mut self.slots[index as usize];
        slot.content = Some(content);
        Ok(Key { index, generation: slot.generation })
    }

    /// What lies in the slot, if `key` is its present one.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.content.as_mut() } else { None }
    }

    /// The present key of a filled slot, for names that have no room for a generation.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        slot.content.is_some().then_some(Key { index, generation: slot.generation })
    }

    /// Empties the slot, if `key` is its present one.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let slot = &mut self.slots[key.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        slot.content.take()
    }

    /// The keys of all filled slots.
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0..).zip(&self.slots).filter_map(|(index, _)| self.key_at(index)).collect()
    }

    /// Everything that lies in a slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.content.as_ref())
    }

    /// Empties all slots.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let mut contents = Vec::new();
        for (index, slot) in (0..).zip(&mut self.slots) {
            if let Some(content) = slot.content.take() {
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index);
                contents.push(content);
            }
        }
        contents
    }

    /// How many slots are filled.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no slot is empty.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_once() {
        let mut slots = Slots::new(2);
        let first = slots.insert("a").unwrap();
        assert_eq!(slots.remove(first), Some("a"));
        assert_eq!(slots.remove(first), None);
        let second = slots.insert("b").unwrap();
        assert_eq!(second.index, first.index, "the warm slot is used again");
        assert_eq!(slots.get_mut(first), None, "an old key does not find the new content");
        assert_eq!(slots.get_mut(second), Some(&mut "b"));
    }

    #[test]
    fn a_full_table_gives_the_content_back() {
        let mut slots = Slots::new(1);
        let key = slots.insert(1).unwrap();
        assert!(slots.is_full());
        assert_eq!(slots.insert(2), Err(2));
        slots.remove(key);
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn invented_keys_find_nothing() {
        let mut slots = Slots::<u8>::new(4);
        for word in [0, 3, 4, u64::MAX, 1 << 32] {
            assert_eq!(slots.remove(Key::from_u64(word)), None);
        }
        let key = slots.insert(7).unwrap();
        assert_eq!(Key::from_u64(key.to_u64()), key);
    }
}
