//! nbdcopy, of libnbd: whole images, both ways, over several connections.

use std::os::unix::fs::MetadataExt as _;

use tests::{Gateway, Image, Place, Rng, requires};

use super::served::{client, on_each_disk, text};

const SIZE: usize = 48 << 20;

/// Data of odd lengths at odd places, and holes.
fn patchwork(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut contents = vec![0; SIZE];
    for _ in 0..60 {
        let len = (1 + rng.below(300_000)) as usize;
        let at = rng.below((SIZE - len) as u64) as usize;
        contents[at..at + len].copy_from_slice(&rng.bytes(len));
    }
    contents
}

#[test]
fn an_image_comes_back_from_the_gateway_as_it_went_in() {
    requires!("nbdcopy");
    let contents = patchwork(1);
    let original = Image::with(Place::Memory, &contents);
    on_each_disk(SIZE as u64, |served| {
        for options in [&["--connections=4", "--requests=64"][..], &["--synchronous", "--requests=1"]] {
            let mut words = options.to_vec();
            let uri = served.uri();
            words.extend(["--flush", text(original.path()), &uri]);
            let _ = client("nbdcopy", &words).success();
            let copy = original.beside("copy");
            let mut words = options.to_vec();
            words.extend([&uri, text(&copy)]);
            let _ = client("nbdcopy", &words).success();
            assert!(std::fs::read(&copy).unwrap() == contents, "{}: the copy differs", served.name);
            std::fs::remove_file(&copy).unwrap();
        }
        if let Some(image) = &served.image {
            assert!(std::fs::read(image.path()).unwrap() == contents, "{}: the image differs", served.name);
        }
    });
}

#[test]
fn holes_stay_holes_on_the_way_through_two_gateways() {
    requires!("nbdcopy");
    let mut contents = vec![0; SIZE];
    contents[8 << 20..9 << 20].copy_from_slice(&Rng::new(2).bytes(1 << 20));
    let solid = Image::with(Place::Memory, &contents);
    let source = Image::copy_of(Place::Disk, solid.path());
    let target = Image::sparse(Place::Disk, SIZE as u64);
    let from = Gateway::start(&["io_uring", &source.property()]);
    let to = Gateway::start(&["io_uring", &target.property(), "direct=true"]);
    let _ = client("nbdcopy", &["--destination-is-zero", "--flush", &from.uri(), &to.uri()]).success();
    assert!(std::fs::read(target.path()).unwrap() == contents, "the copy differs");
    let allocated = target.path().metadata().unwrap().blocks() * 512;
    assert!(allocated <= 2 << 20, "{allocated} bytes were allocated for 1 MiB of data");
    from.stop();
    to.stop();
}
