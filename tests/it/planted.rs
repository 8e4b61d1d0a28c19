//! The conformance suite finds every defect that can be planted in the gateway, by the check that is named for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tests::cachestat::{NotKnown, unwritten_pages};
use tests::conformance::{Report, Selection, Target, all_checks, run};
use tests::planted::{DEFECTS, Defect};
use tests::{Gateway, Image, skip};

/// Puts a gateway under the check of this name.
fn examine(gateway: &Gateway, image: Option<&Image>, check: &str) -> Report {
    let mut target = Target::probe(&gateway.uri()).expect("the gateway takes a plain handshake");
    if let Some(image) = image {
        target = target.with_image(image.path());
    }
    // A filter takes other checks, too, whose names are longer.
    let longer = all_checks().into_iter().map(|other| other.name).filter(|name| *name != check);
    let except = longer.map(str::to_owned).collect();
    run(&target, &Selection { filters: vec![check.to_owned()], except, ..Selection::default() }, |_| {})
}

/// The check fails with the defect, for the reason that the table gives, and passes without.
fn is_caught(name: &str) {
    let defect = DEFECTS.iter().find(|defect| defect.name == name).expect("the defect is in the table");
    let (gateway, image) = defect.shows.serve(None);
    if let Some(why) = image.as_ref().and_then(|image| cannot_show(defect, image)) {
        skip!("{why}");
    }
    let report = examine(&gateway, image.as_ref(), defect.check);
    assert!(report.failures().next().is_none(), "without the defect: {report}");
    assert!(report.passed() > 0, "without the defect {} says nothing: {:?}", defect.check, report.findings);
    gateway.stop();

    let (gateway, image) = defect.shows.serve(Some(defect.name));
    let report = examine(&gateway, image.as_ref(), defect.check);
    assert_eq!(report.failed_checks(), [defect.check], "{} is not caught: {report}", defect.name);
    // One kind of replies may say it otherwise than another.
    let said = report.failures().any(|finding| finding.to_string().contains(defect.says));
    assert!(said, "{} is caught by chance: {report}", defect.name);
    assert!(!report.server_is_gone, "{} ends the server, so that anything would catch it", defect.name);
    gateway.stop();
}

/// Why this machine cannot tell what has reached its disk, if that matters.
fn cannot_show(defect: &Defect, image: &Image) -> Option<&'static str> {
    match unwritten_pages(image.path()) {
        Err(NotKnown::NotHere(why)) if defect.check.starts_with("durable/") => Some(why),
        _ => None,
    }
}

/// A test for each of these defects, whose names have dashes for underscores.
macro_rules! each_is_caught {
    ($($defect:ident),+ $(,)?) => {
        $(
            #[test]
            fn $defect() {
                super::is_caught(&stringify!($defect).replace('_', "-"));
            }
        )+

        pub(super) const TESTED: &[&str] = &[$(stringify!($defect)),+];
    };
}

mod caught {
    each_is_caught![
        cookie_cut_to_32_bits,
        df_in_several_chunks,
        disconnect_drops_requests,
        double_reply,
        failed_flush_told_once,
        fast_zero_fails_afterwards,
        flush_misses_other_connections,
        hole_chunk_sent_twice,
        hole_chunk_too_short,
        ignored_no_hole,
        lost_flush,
        lost_fua,
        lost_fua_of_zeroes,
        lost_update,
        lost_update_between_workers,
        no_hole_punches_the_file,
        off_by_one_at_4_gib,
        offset_cut_to_32_bits,
        read_only_not_enforced,
        refused_payload_not_read_away,
        req_one_ignored,
        size_differs_in_info,
        stale_context,
        status_past_the_end,
        trim_rounds_outwards,
        unknown_option_acknowledged,
        wrong_error_number,
        zeroes_leave_the_last_byte,
    ];
}

#[test]
fn every_defect_in_the_sources_is_in_the_table_and_tested() {
    let table: BTreeSet<String> = DEFECTS.iter().map(|defect| defect.name.to_owned()).collect();
    assert_eq!(table.len(), DEFECTS.len(), "a defect is in the table twice");
    assert_eq!(table, planted_in_the_sources(), "left: the table, right: the sources");
    let tested: BTreeSet<String> = caught::TESTED.iter().map(|name| name.replace('_', "-")).collect();
    assert_eq!(table, tested, "left: the table, right: the tests");
}

/// The names in all `planted!("NAME")` of the product.
fn planted_in_the_sources() -> BTreeSet<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    let mut names = BTreeSet::new();
    let mut todo: Vec<PathBuf> =
        ["nbd/src", "drivers/src", "gateway/src"].iter().map(|folder| workspace.join(folder)).collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let entries = path.read_dir().expect("sources can be listed");
            todo.extend(entries.map(|entry| entry.expect("sources can be listed").path()));
        } else {
            let text = std::fs::read_to_string(&path).expect("sources are text");
            let hooks = text.split("planted!(\"").skip(1);
            names.extend(hooks.map(|rest| rest.split('"').next().unwrap_or_default().to_owned()));
        }
    }
    names
}

#[test]
fn a_product_without_the_feature_has_none_of_the_defects() {
    let defect = DEFECTS.iter().find(|defect| defect.name == "double-reply").unwrap();
    let gateway = Gateway::builder().env("GATEWAY_PLANTED", defect.name).start(&["memory", "16M"]);
    let report = examine(&gateway, None, defect.check);
    assert!(report.failures().next().is_none() && report.passed() > 0, "{report}");
    gateway.stop();
}
