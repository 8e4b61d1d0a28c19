//! Scenarios: files `tests/guest/NAME.sh`, whose first lines say what they need.
//!
//! ```text
//! # What it shows, in one line.
//! #
//! # devices: nvme-512 nbd
//! # limit: 40
//! # beside: yes
//! # programs: device-conformance
//! ```
//!
//! `devices` are names of [`DEVICES`] that no other scenario may use at the same time, or `none`; `limit` is the time
//! in seconds after which it has failed; `beside` says whether others may run at the same time. `programs` may be left
//! out: those of [`programs::ON_DEMAND`] that it needs, and [`programs::PACKAGE`]. `holes: DISK FIRST+LENGTH…` says
//! what of a disk is no more than holes in its image at the end, in MiB; no other scenario has the disk then. A line
//! `measures: yes` says that it measures: it runs only when it is asked for by name, with the gateway as it is shipped.
//! A line `emulator: one-thread` is for what has devices mapped, unmapped and reset: see [`machine::ONE_THREAD`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::holes::Holes;
use super::{machine, programs};

/// What only one scenario can use at a time: the machine's disks, and kernel interfaces.
///
/// `nbd` are the kernel's own clients, `vdpa` the management of vDPA devices; the disk with a Debian system is one
/// more.
const INTERFACES: &[&str] = &["nbd", "vdpa", machine::SYSTEM];
/// The files that are no scenarios: what they share.
pub(super) const LIBRARIES: &[&str] = &["lib", "measuring", "serving"];
/// Scenarios at the same time. The machine has two processors, and scenarios often wait.
const WAVE_MAX: usize = 4;

/// A scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scenario {
    /// Name of its file, without `.sh`.
    pub(super) name: String,
    /// The file.
    pub(super) text: String,
    /// What it shows.
    pub(super) summary: String,
    /// What no other may use at the same time.
    devices: Vec<String>,
    /// Longest time.
    pub(super) limit_seconds: u64,
    /// Whether others may run at the same time.
    beside: bool,
    /// It measures.
    pub(super) measures: bool,
    /// It runs where all processors are one thread of the emulator.
    pub(super) one_thread: bool,
    /// Programs of this repository, beside the gateway.
    pub(super) programs: Vec<String>,
    /// What is left of a disk.
    pub(super) holes: Option<Holes>,
}

impl Scenario {
    /// Reads the first lines of a file.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self> {
        let named = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        ensure!(named && !name.is_empty(), "a name has small letters, digits and `-`");
        let mut summary = None;
        let mut keys = BTreeMap::new();
        for line in text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim) {
            match line.split_once(": ") {
                Some((
                    key @ ("devices" | "limit" | "beside" | "programs" | "measures" | "holes" | "emulator"),
                    value,
                )) => {
                    ensure!(keys.insert(key, value).is_none(), "`{key}` twice");
                }
                _ if line.starts_with('!') => {
                    bail!("the first line is for people: it is run by the guest's shell")
                }
                _ => summary = summary.or(Some(line)),
            }
        }
        let key = |name: &str| keys.get(name).copied().with_context(|| format!("no line `# {name}: …`"));
        let limit_seconds = key("limit")?
            .parse()
            .ok()
            .filter(|&limit| limit > 0)
            .context("`limit` is a number of seconds")?;
        Ok(Self {
            name: name.to_owned(),
            text: text.to_owned(),
            summary: summary
                .filter(|line| !line.is_empty())
                .context("its first line must say what it shows")?
                .to_owned(),
            devices: devices(key("devices")?)?,
            limit_seconds,
            beside: is_yes("beside", key("beside")?)?,
            measures: is_yes("measures", keys.get("measures").copied().unwrap_or("no"))?,
            one_thread: match keys.get("emulator").copied() {
                None => false,
                Some("one-thread") => true,
                Some(other) => bail!("`emulator` is one-thread, not `{other}`"),
            },
            programs: programs(keys.get("programs").copied().unwrap_or_default())?,
            holes: keys.get("holes").copied().map(Holes::parse).transpose()?,
        })
    }

    /// Whether it may run with these at the same time.
    fn fits(&self, wave: &[Scenario]) -> bool {
        let shares = |other: &Scenario| other.devices.iter().any(|device| self.devices.contains(device));
        self.beside && wave.len() < WAVE_MAX && wave.iter().all(|other| other.beside && !shares(other))
    }
}

/// Whether a key says yes.
fn is_yes(key: &str, value: &str) -> Result<bool> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => bail!("`{key}` is yes or no, not `{other}`"),
    }
}

/// The devices in a line of names.
fn devices(line: &str) -> Result<Vec<String>> {
    if line == "none" {
        return Ok(Vec::new());
    }
    let known: Vec<&str> =
        machine::DEVICES.iter().map(|device| device.name).chain(INTERFACES.iter().copied()).collect();
    known_words("device", line, &known)
}

/// The programs in a line of names.
fn programs(line: &str) -> Result<Vec<String>> {
    let known: Vec<&str> = programs::ON_DEMAND.iter().copied().chain([programs::PACKAGE]).collect();
    known_words("program", line, &known)
}

/// The words of a line, all of which must be known.
fn known_words(kind: &str, line: &str, known: &[&str]) -> Result<Vec<String>> {
    let names: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    for name in &names {
        ensure!(known.contains(&name.as_str()), "no {kind} `{name}`; there are: {}", known.join(" "));
    }
    Ok(names)
}

/// All scenarios of a folder, by name.
///
/// # Errors
/// The folder cannot be read, or a file does not say what it needs.
pub(super) fn all(folder: &Path) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.context("a folder of scenarios")?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if path.extension().is_none_or(|extension| extension != "sh") || LIBRARIES.contains(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        scenarios.push(Scenario::parse(name, &text).with_context(|| path.display().to_string())?);
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!scenarios.is_empty(), "no scenarios in {}", folder.display());
    Ok(scenarios)
}

/// Those of these names; all that do not measure, when there are none.
///
/// # Errors
/// There is none of such a name.
pub(super) fn choose(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>> {
    for name in names {
        ensure!(
            all.iter().any(|scenario| scenario.name == *name),
            "no scenario `{name}`; `cargo xtask guest --list` shows all"
        );
    }
    let is_chosen = |scenario: &Scenario| match names {
        [] => !scenario.measures,
        names => names.contains(&scenario.name),
    };
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Scenarios that run at the same time, one wave after the other. Those with about the same limit come together.
pub(super) fn waves(mut scenarios: Vec<Scenario>) -> Vec<Vec<Scenario>> {
    scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.limit_seconds));
    let mut waves: Vec<Vec<Scenario>> = Vec::new();
    for scenario in scenarios {
        match waves.iter_mut().find(|wave| scenario.fits(wave)) {
            Some(wave) => wave.push(scenario),
            None => waves.push(vec![scenario]),
        }
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(name: &str, devices: &str, limit: u32, beside: &str) -> Scenario {
        let text =
            format!("# It works.\n#\n# devices: {devices}\n# limit: {limit}\n# beside: {beside}\necho\n");
        Scenario::parse(name, &text).unwrap()
    }

    fn names(waves: &[Vec<Scenario>]) -> Vec<Vec<&str>> {
        waves.iter().map(|wave| wave.iter().map(|scenario| scenario.name.as_str()).collect()).collect()
    }

    #[test]
    fn the_first_lines_say_what_a_scenario_needs() {
        let scenario = scenario("file", "nvme-512 nbd", 40, "yes");
        assert_eq!(scenario.summary, "It works.");
        assert_eq!(scenario.devices, ["nvme-512", "nbd"]);
        assert_eq!((scenario.limit_seconds, scenario.beside), (40, true));
        assert!(scenario.programs.is_empty());
    }

    #[test]
    fn incomplete_and_wrong_first_lines_are_refused() {
        for (text, expected) in [
            ("# It works.\n# devices: none\n# limit: 4\n", "`# beside: …`"),
            ("# It works.\n# devices: floppy\n# limit: 4\n# beside: no\n", "no device `floppy`"),
            ("# It works.\n# devices: none\n# limit: 0\n# beside: no\n", "`limit`"),
            (
                "# It works.\n# devices: none\n# limit: 4\n# beside: no\n# programs: games\n",
                "no program `games`",
            ),
            ("# It works.\n# devices: none\n# limit: 4\n# beside: maybe\n", "maybe"),
            ("# It works.\n# limit: 4\n# limit: 5\n", "twice"),
            ("#\n# devices: none\n# limit: 4\n# beside: no\n", "first line"),
            ("# It works.\n\n# devices: none\n# limit: 4\n# beside: no\n", "no line"),
            ("#!/bin/sh\n# devices: none\n", "first line"),
        ] {
            let error = Scenario::parse("a", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Scenario::parse("a b", "# It works.\n# devices: none\n# limit: 4\n# beside: no\n").is_err());
    }

    #[test]
    fn a_device_is_used_by_one_scenario_at_a_time() {
        let waves = waves(vec![
            scenario("a", "nvme-512", 30, "yes"),
            scenario("b", "nvme-512 nbd", 20, "yes"),
            scenario("c", "nbd", 10, "yes"),
            scenario("d", "none", 60, "yes"),
        ]);
        assert_eq!(names(&waves), [vec!["d", "a", "c"], vec!["b"]]);
    }

    #[test]
    fn who_wants_to_be_alone_is_alone() {
        let waves = waves(vec![
            scenario("a", "none", 30, "no"),
            scenario("b", "none", 20, "yes"),
            scenario("c", "none", 10, "no"),
        ]);
        assert_eq!(names(&waves), [["a"], ["b"], ["c"]]);
    }

    #[test]
    fn a_wave_is_no_longer_than_the_machine_can_bear() {
        let many = (0..6).map(|number| scenario(&format!("s{number}"), "none", 5, "yes")).collect();
        let lengths: Vec<usize> = waves(many).iter().map(Vec::len).collect();
        assert_eq!(lengths, [WAVE_MAX, 6 - WAVE_MAX]);
    }

    #[test]
    fn scenarios_are_chosen_by_name() {
        let all = || vec![scenario("a", "none", 5, "yes"), scenario("b", "none", 5, "yes")];
        assert_eq!(choose(all(), &[]).unwrap().len(), 2);
        assert_eq!(choose(all(), &["b".into()]).unwrap()[0].name, "b");
        assert!(choose(all(), &["c".into()]).is_err());
    }
}
