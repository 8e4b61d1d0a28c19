//! Serving a queue until it is empty, as a device does that was kicked.

use super::{Chain, DeviceMemory, DeviceRing, Violation};

/// Gives every available chain to `each`, which uses it now or later. At the end the ring asks to be kicked for more;
/// until then it asks not to be.
///
/// # Errors
/// The driver broke a rule, or what `each` says.
pub fn serve_all(
    ring: &mut dyn DeviceRing,
    memory: &dyn DeviceMemory,
    mut each: impl FnMut(&mut dyn DeviceRing, Chain) -> Result<(), Violation>,
) -> Result<(), Violation> {
    loop {
        ring.refuse_kick(memory)?;
        while let Some(chain) = ring.pop(memory)? {
            each(ring, chain)?;
        }
        if !ring.ask_kick(memory)? {
            return Ok(());
        }
    }
}
