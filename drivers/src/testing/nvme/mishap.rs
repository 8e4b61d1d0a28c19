//! [`Mishap`]: what becomes of single commands.

use std::time::Duration;

/// What becomes of commands.
#[derive(Clone, Copy, Debug)]
pub struct Mishap {
    /// Of those with this opcode,
    pub opcode: u8,
    /// and, if that is said, this first block,
    pub block: Option<u64>,
    /// so many of them.
    pub times: u32,
    /// What it is.
    pub act: Act,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It is not done, and ends with this status: the status field without the phase.
    Status(u16),
    /// It is done after this time.
    Late(Duration),
    /// It is never done.
    Hold,
    /// It is done, and its completion comes twice.
    Twice,
    /// It is done, and the completion of a command that was never sent comes before its own.
    Stranger,
}

/// What is to become of a command, if anything, which counts as having happened.
pub(super) fn next(mishaps: &mut Vec<Mishap>, opcode: u8, block: u64) -> Option<Act> {
    let is_meant = |mishap: &Mishap| mishap.opcode == opcode && mishap.block.is_none_or(|at| at == block);
    let index = mishaps.iter().position(is_meant)?;
    let mishap = &mut mishaps[index];
    let act = mishap.act;
    mishap.times = mishap.times.saturating_sub(1);
    if mishap.times == 0 {
        mishaps.remove(index);
    }
    Some(act)
}
