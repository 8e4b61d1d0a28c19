//! Two workers on one disk: what one of them writes into a part of a block is not lost to the other one.

use std::thread;

use tests::{Gateway, Image, Place, Rng};

use crate::raw::{Raw, TRIM, WRITE, WRITE_ZEROES};

const BLOCK: usize = 4096;
const BLOCKS: usize = 48;

/// What the second client does to a whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Write(u8),
    Zeroes,
    Trim,
}

/// A piece of a block that the first client writes.
#[derive(Clone, Copy, Debug)]
struct Piece {
    block: usize,
    at: usize,
    len: usize,
    value: u8,
}

impl Piece {
    fn random(rng: &mut Rng, block: usize) -> Piece {
        let at = 1 + rng.below(BLOCK as u64 - 2) as usize;
        let len = 1 + rng.below((BLOCK - at) as u64 - 1) as usize;
        Piece { block, at, len, value: 1 + rng.below(120) as u8 }
    }
}

fn write_pieces(client: &mut Raw, pieces: &[Piece]) {
    for (cookie, piece) in (0..).zip(pieces) {
        let offset = (piece.block * BLOCK + piece.at) as u64;
        client.send(WRITE, 0, cookie, offset, &vec![piece.value; piece.len]);
    }
    client.all_succeed(pieces.len());
}

fn change_blocks(client: &mut Raw, changes: &[Whole]) {
    for (index, change) in changes.iter().enumerate() {
        let (cookie, offset) = (index as u64, (index * BLOCK) as u64);
        match change {
            Whole::Write(value) => client.send(WRITE, 0, cookie, offset, &[*value; BLOCK]),
            Whole::Zeroes => client.request(WRITE_ZEROES, cookie, offset, BLOCK as u32),
            Whole::Trim => client.request(TRIM, cookie, offset, BLOCK as u32),
        }
    }
    client.all_succeed(changes.len());
}

/// Every byte is what one order of the two changes gives.
fn check(before: &[u8], after: &[u8], changes: &[Whole], pieces: &[Piece]) {
    for (block, change) in changes.iter().enumerate() {
        let piece = pieces.iter().find(|piece| piece.block == block);
        for at in 0..BLOCK {
            let (old, new) = (before[block * BLOCK + at], after[block * BLOCK + at]);
            let written = piece.filter(|piece| (piece.at..piece.at + piece.len).contains(&at));
            let good = match change {
                _ if written.is_some_and(|piece| piece.value == new) => true,
                Whole::Write(value) => new == *value,
                Whole::Zeroes => new == 0,
                // What is trimmed reads as anything; this server gives the old data or zeroes.
                Whole::Trim => new == 0 || new == old,
            };
            assert!(good, "byte {at} of block {block}: {old} became {new} by {change:?} and {piece:?}");
        }
    }
}

fn together(place: Place) {
    let image = Image::sparse(place, (BLOCK * BLOCKS) as u64);
    let gateway = Gateway::start(&["io_uring", &image.property(), "direct=true"]);
    let (mut first, mut second) = (Raw::open(gateway.socket(), ""), Raw::open(gateway.socket(), ""));
    let mut rng = Rng::new(31);
    let mut before = vec![0; BLOCK * BLOCKS];
    for _ in 0..60 {
        let mut pieces: Vec<Piece> = (0..BLOCKS).map(|block| Piece::random(&mut rng, block)).collect();
        pieces.retain(|_| rng.below(8) > 0);
        let changes: Vec<Whole> = (0..BLOCKS)
            .map(|_| match rng.below(4) {
                0 => Whole::Zeroes,
                1 => Whole::Trim,
                _ => Whole::Write(130 + rng.below(120) as u8),
            })
            .collect();
        thread::scope(|scope| {
            scope.spawn(|| write_pieces(&mut first, &pieces));
            scope.spawn(|| change_blocks(&mut second, &changes));
        });
        let after = first.read(0, BLOCK * BLOCKS).expect("the disk can be read");
        check(&before, &after, &changes, &pieces);
        before = after;
    }
    gateway.stop();
    assert!(std::fs::read(image.path()).unwrap() == before, "the file is not what clients read");
}

#[test]
fn pieces_of_blocks_and_whole_blocks_do_not_undo_each_other_in_memory() {
    together(Place::Memory);
}

#[test]
fn pieces_of_blocks_and_whole_blocks_do_not_undo_each_other_on_a_disk() {
    together(Place::Disk);
}

#[test]
fn pieces_of_one_block_from_two_workers_are_all_kept() {
    let image = Image::sparse(Place::Memory, 1 << 20);
    let gateway = Gateway::start(&["io_uring", &image.property(), "direct=true"]);
    let (mut first, mut second) = (Raw::open(gateway.socket(), ""), Raw::open(gateway.socket(), ""));
    for round in 1..=40 {
        let even: Vec<Piece> =
            (0..64).map(|index| Piece { block: 0, at: 128 * index, len: 64, value: round }).collect();
        let odd: Vec<Piece> = (0..64)
            .map(|index| Piece { block: 0, at: 128 * index + 64, len: 64, value: round + 100 })
            .collect();
        thread::scope(|scope| {
            scope.spawn(|| write_pieces(&mut first, &even));
            scope.spawn(|| write_pieces(&mut second, &odd));
        });
        let expected: Vec<u8> =
            (0..128).flat_map(|index| [if index % 2 == 0 { round } else { round + 100 }; 64]).collect();
        assert_eq!(second.read(0, 8192), Ok(expected), "round {round}");
    }
    gateway.stop();
}
