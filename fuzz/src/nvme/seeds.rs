//! First inputs: the same work on controllers that do one thing wrong each.

use crate::Seed;

/// Eight reads and writes of some blocks, a flush, zeroes, a discard, and what ended.
const WORK: &[u8] = &[
    0, 3, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0, 3, 0, 4, 0, 9, 1, 0, 1, 0, 4, 0, 9, 0, 0, 5, 0, 0, 0, 0, 0,
    0, 6, 0, 2, 0, 3, 0, 0, 7, 0, 2, 0, 3, 0, 5, 7, 0, 0, 0, 3, 0, 5, 0xc0, 5, 12,
];

/// What a controller is and does wrong at the start, and what happens while it works.
const GAMES: &[(&str, &[u8], &[u8])] = &[
    ("honest", &[0, 30, 0], &[]),
    ("honest-shadow", &[0x0f, 3, 0], &[]),
    (
        "statuses",
        &[2, 30, 0],
        &[8, 0, 0, 0, 0x40, 0x81, 3, 8, 0, 1, 1, 0x10, 0x82, 2, 8, 1, 2, 0, 0x18, 0x82, 1],
    ),
    (
        "late",
        &[0, 7, 0],
        &[8, 0, 0, 3, 4, 8, 0, 1, 3, 2, 0, 0, 0, 0, 0, 1, 0, 0, 3, 0, 1, 0, 1, 0, 11, 1, 11, 0, 5],
    ),
    ("twice", &[0, 30, 0], &[8, 0, 0, 5, 1]),
    ("stranger", &[1, 30, 0], &[8, 0, 1, 6, 1]),
    (
        "forged",
        &[0, 30, 0],
        &[8, 0, 0, 3, 4, 0, 0, 0, 0, 0, 1, 0, 8, 10, 0, 0, 0, 0, 5, 8, 11, 3, 0, 1, 4, 0],
    ),
    ("fatal", &[4, 30, 0], &[8, 0, 0, 3, 4, 0, 0, 0, 0, 0, 1, 0, 15, 0, 12]),
    ("pulled-out", &[0, 30, 0], &[8, 0, 0, 3, 4, 0, 0, 0, 0, 0, 1, 0, 15, 4, 12]),
    ("never-stops", &[0, 30, 0], &[8, 0, 0, 3, 4, 0, 0, 0, 0, 0, 1, 0, 8, 5, 0, 4, 14]),
    ("identity", &[0, 30, 1, 7, 0, 0, 130, 12], &[]),
    ("registers", &[0, 30, 1, 6, 1, 0, 0x41, 0, 0x23, 0], &[]),
    // 2^54 blocks of 512 bytes.
    ("capacity", &[0, 30, 0], &[8, 7, 0, 0, 6, 0x40, 12]),
    ("stuck-admin", &[0, 30, 0], &[8, 3, 3, 3, 1, 12, 12]),
];

pub(crate) fn all() -> Vec<Seed> {
    let seed = |(name, start, wrongs): &(&str, &[u8], &[u8])| {
        ("nvme_controller", (*name).to_owned(), [*start, WORK, *wrongs, WORK, &[12], WORK].concat())
    };
    GAMES.iter().map(seed).collect()
}
