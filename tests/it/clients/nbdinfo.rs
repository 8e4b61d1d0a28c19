//! nbdinfo, of libnbd.

use serde_json::Value;
use tests::{Gateway, Image, Place, Rng, requires};

use super::served::{client, on_each_disk};

/// What nbdinfo says about the only export.
fn export(uri: &str) -> Value {
    let json: Value = serde_json::from_str(&client("nbdinfo", &["--json", uri]).success()).unwrap();
    assert_eq!(json["protocol"], "newstyle-fixed");
    assert_eq!(json["structured"], true);
    assert_eq!(json["extended"], true);
    json["exports"][0].clone()
}

#[test]
fn nbdinfo_sees_the_size_and_every_feature_of_a_writable_disk() {
    requires!("nbdinfo");
    on_each_disk(64 << 20, |served| {
        assert_eq!(client("nbdinfo", &["--size", &served.uri()]).success().trim(), "67108864");
        let export = export(&served.uri());
        assert_eq!(export["export-size"], 64 << 20);
        assert_eq!(export["is_read_only"], false);
        for can in
            ["can_df", "can_flush", "can_fua", "can_multi_conn", "can_zero", "can_fast_zero", "can_trim"]
        {
            assert_eq!(export[can], true, "{can}");
        }
        assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]));
        assert_eq!(export["block_size_minimum"], 1);
        assert_eq!(export["block_size_maximum"], 32 << 20);
    });
}

#[test]
fn nbdinfo_sees_that_a_disk_is_read_only() {
    requires!("nbdinfo");
    let image = Image::sparse(Place::Memory, 1 << 20);
    let gateway = Gateway::start(&["io_uring", &image.property(), "read-only=true"]);
    let export = export(&gateway.uri());
    assert_eq!(export["is_read_only"], true);
    for can in ["can_zero", "can_trim", "can_fast_zero"] {
        assert_eq!(export[can], false, "{can}");
    }
    gateway.stop();
}

#[test]
fn nbdinfo_lists_the_default_export() {
    requires!("nbdinfo");
    let gateway = Gateway::start(&["memory", "1M"]);
    let json: Value =
        serde_json::from_str(&client("nbdinfo", &["--list", "--json", &gateway.uri()]).success()).unwrap();
    assert_eq!(json["exports"].as_array().unwrap().len(), 1);
    assert_eq!(json["exports"][0]["export-name"], "");
    gateway.stop();
}

#[test]
fn nbdinfo_maps_data_and_holes_of_a_file() {
    requires!("nbdinfo");
    let block = 64 << 10;
    let mut contents = vec![0; 16 * block];
    for index in [1, 4, 5, 15] {
        contents[index * block..(index + 1) * block].copy_from_slice(&Rng::new(1).bytes(block));
    }
    let solid = Image::with(Place::Memory, &contents);
    let image = Image::copy_of(Place::Disk, solid.path());
    let gateway = Gateway::start(&["io_uring", &image.property()]);
    let map: Value =
        serde_json::from_str(&client("nbdinfo", &["--map", "--json", &gateway.uri()]).success()).unwrap();
    let extents: Vec<(u64, u64, &str)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| {
            let number = |name: &str| extent[name].as_u64().unwrap() / block as u64;
            (number("offset"), number("length"), extent["description"].as_str().unwrap())
        })
        .collect();
    let expected = [
        (0, 1, "hole,zero"),
        (1, 1, "data"),
        (2, 2, "hole,zero"),
        (4, 2, "data"),
        (6, 9, "hole,zero"),
        (15, 1, "data"),
    ];
    assert_eq!(extents, expected);
    gateway.stop();
}
