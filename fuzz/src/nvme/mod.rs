//! The driver `nvme-vfio-pci` on a controller that does what the input says.
//!
//! | module | is |
//! |---|---|
//! | `kind` | what the controller is |
//! | `wrongs` | what it does and says that none should |
//! | `caller` | requests, and what must hold of their ends |
//! | `game` | all of them, step by step |
//! | `seeds` | first inputs |
//!
//! Driver and controller share one thread, so an input does the same each time. Whatever the controller does, the
//! driver does not panic, each request ends once, and the memory of the caller comes back whole. A controller that
//! tells the truth about itself also finds that the driver keeps the rules: above all, that it is sent to no memory
//! but what it was given.

mod caller;
mod game;
mod kind;
pub(crate) mod seeds;
mod wrongs;

use crate::knobs::Knobs;

/// The input: what the controller is (2 bytes), what it does wrong at the start (a number, then as many wrongs), and
/// steps.
pub fn controller(data: &[u8]) {
    game::play(&mut Knobs(data));
}
