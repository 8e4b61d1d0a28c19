//! Boots of the machine until each scenario has a result.
//!
//! An emulator has errors of its own, such as those that [`machine::ONE_THREAD`] avoids. They show nothing about the
//! gateway, so what has no result when it ends by a failed assertion, or when its guest stands still, gets another
//! boot, and that is told. Who brings the emulator down each time has failed: [`BOOTS_MAX`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::base::Base;
use super::job::Job;
use super::machine::{self, Ending, Files};
use super::report::Report;
use super::scenario::{self, Scenario};
use crate::bed::Bed;
use crate::sh;

/// How often the machine is started for one run.
const BOOTS_MAX: usize = 3;

/// What all boots of a run have in common.
pub(super) struct Setup<'a> {
    pub(super) bed: &'a Bed,
    pub(super) base: &'a Base,
    pub(super) files: &'a Files<'a>,
    /// Folder of the scenarios and of what they share.
    pub(super) sources: &'a Path,
    /// Programs of this machine to take along.
    pub(super) programs: &'a [PathBuf],
}

impl Setup<'_> {
    fn write(&self, waves: &[Vec<Scenario>]) -> Result<()> {
        Job { waves, sources: self.sources, programs: self.programs }.write(self.base, &self.files.archive())
    }

    /// Once: what scenarios had to say, what they left, and what they left in the images.
    fn boot(
        &self,
        scenarios: &[Scenario],
        accelerator: &str,
        deadline: Instant,
        report: &mut Report,
        notice: impl FnMut(&mut Report),
    ) -> Result<Ending> {
        self.write(&scenario::waves(scenarios.to_vec()))?;
        let ending = machine::run(self.bed, self.base, self.files, accelerator, deadline, report, notice)?;
        match unpack_artefacts(self.files) {
            // The machine may have ended in the middle of an archive.
            Err(error) if !matches!(ending, Ending::Done) => eprintln!("guest: {error:#}"),
            unpacked => unpacked?,
        }
        for scenario in scenarios {
            if let Some(holes) = &scenario.holes
                && report.outcome(&scenario.name).is_good()
                && let Err(error) = holes.check(&self.files.image(&holes.image))
            {
                report.fail(&scenario.name, &format!("{error:#}"));
            }
        }
        Ok(ending)
    }
}

/// Runs the scenarios: what they said, and how the last machine ended.
///
/// `notice` is called after each part of the report.
///
/// # Errors
/// The guest cannot be made or started.
pub(super) fn run(
    setup: &Setup<'_>,
    scenarios: &[Scenario],
    limit: Duration,
    mut notice: impl FnMut(&mut Report),
) -> Result<(Report, Ending)> {
    let deadline = Instant::now() + limit;
    let mut report = Report::default();
    let mut worst = Ending::Done;
    for (accelerator, group) in machines(scenarios) {
        report.begin_again();
        let ending = until_all_ended(&group, &mut report, |left, report| {
            let ending = setup.boot(left, accelerator, deadline, report, &mut notice)?;
            notice(report);
            if ending.is_of_emulator() {
                setup.files.print_last_words();
            }
            Ok(ending)
        })?;
        if !matches!(ending, Ending::Done) {
            worst = ending;
        }
    }
    Ok((report, worst))
}

/// The machines that are needed, one after the other, and what runs on each.
fn machines(scenarios: &[Scenario]) -> Vec<(&'static str, Vec<Scenario>)> {
    let measures = scenarios.iter().any(|scenario| scenario.measures);
    let on_one_thread = |scenario: &Scenario| scenario.one_thread && !measures;
    let (one, several): (Vec<_>, Vec<_>) = scenarios.iter().cloned().partition(on_one_thread);
    let machines = [(machine::ONE_THREAD, one), (machine::THREADS, several)];
    machines.into_iter().filter(|(_, scenarios)| !scenarios.is_empty()).collect()
}

/// Boots for what is left, until nothing is, or somebody else than the emulator failed.
fn until_all_ended(
    scenarios: &[Scenario],
    report: &mut Report,
    mut boot: impl FnMut(&[Scenario], &mut Report) -> Result<Ending>,
) -> Result<Ending> {
    let mut left = scenarios.to_vec();
    let mut boots = 0;
    loop {
        let ending = boot(&left, report)?;
        boots += 1;
        left.retain(|scenario| report.outcome(&scenario.name).end.is_none());
        if left.is_empty() || boots == BOOTS_MAX || !ending.is_of_emulator() {
            return Ok(ending);
        }
        let names: Vec<&str> = left.iter().map(|scenario| scenario.name.as_str()).collect();
        eprintln!("guest: {ending}; booting again for {}", names.join(", "));
        report.begin_again();
    }
}

/// Boots the guest with a shell on this terminal.
///
/// # Errors
/// The guest cannot be made or started.
pub(super) fn shell(setup: &Setup<'_>) -> Result<()> {
    setup.write(&[])?;
    machine::shell(setup.bed, setup.base, setup.files)
}

/// Unpacks what scenarios left, into a folder of each.
fn unpack_artefacts(files: &Files<'_>) -> Result<()> {
    let archives = files.artefacts();
    if fs::metadata(&archives).is_ok_and(|facts| facts.len() > 0) {
        let folder = files.folder.join("artefacts");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // An archive ends with zeroes, and another follows.
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--ignore-zeros", "--no-same-owner", "--file"])
            .arg(&archives)
            .arg("-C")
            .arg(&folder);
        sh::capture(&mut tar)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn scenarios() -> Vec<Scenario> {
        let header = "# It works.\n# devices: none\n# limit: 4\n# beside: yes\n";
        ["a", "b", "c"].map(|name| Scenario::parse(name, header).unwrap()).into()
    }

    /// Runs boots that report these texts and end this way: the scenarios of each boot, and how the last one ended.
    fn boots(texts: &[&str], ending: fn() -> Ending) -> (Vec<String>, Ending) {
        let mut asked = Vec::new();
        let ending = until_all_ended(&scenarios(), &mut Report::default(), |left, report| {
            report.add(texts[asked.len()].as_bytes());
            asked.push(left.iter().map(|scenario| scenario.name.as_str()).collect());
            Ok(if report.is_complete() { Ending::Done } else { ending() })
        })
        .unwrap();
        (asked, ending)
    }

    fn aborted() -> Ending {
        Ending::Emulator(ExitStatus::from_raw(6))
    }

    #[test]
    fn scenarios_run_on_the_machine_that_they_need() {
        let header = "# It works.\n# devices: none\n# limit: 4\n# beside: yes\n";
        let on_one = format!("{header}# emulator: one-thread\n");
        let measures = format!("{on_one}# measures: yes\n");
        let scenario = |name, header: &str| Scenario::parse(name, header).unwrap();
        let names = |scenarios: &[Scenario]| {
            let names = |(accelerator, group): (&'static str, Vec<Scenario>)| {
                (accelerator, group.iter().map(|scenario| scenario.name.as_str()).collect::<String>())
            };
            machines(scenarios).into_iter().map(names).collect::<Vec<_>>()
        };
        let (a, b, c) = (scenario("a", header), scenario("b", &on_one), scenario("c", &measures));
        let expected = [(machine::ONE_THREAD, "b".to_owned()), (machine::THREADS, "a".to_owned())];
        assert_eq!(names(&[a.clone(), b.clone()]), expected);
        assert_eq!(names(&[a]), [(machine::THREADS, "a".to_owned())]);
        assert_eq!(names(&[b, c]), [(machine::THREADS, "bc".to_owned())]);
    }

    #[test]
    fn what_has_no_result_is_run_again_when_the_emulator_fails() {
        let (asked, ending) =
            boots(&["result a 0 1\nline b x\n", "result c 1 1\nresult b 0 1\nend\n"], aborted);
        assert_eq!(asked, ["abc", "bc"]);
        assert!(matches!(ending, Ending::Done));
    }

    #[test]
    fn an_emulator_that_always_fails_is_given_up() {
        let (asked, ending) = boots(&["result a 0 1\n", "", ""], || Ending::Silent);
        assert_eq!(asked, ["abc", "bc", "bc"]);
        assert!(matches!(ending, Ending::Silent));
    }

    #[test]
    fn a_guest_that_fails_gets_no_other_boot() {
        for ending in [(|| Ending::Late) as fn() -> Ending, || Ending::Emulator(ExitStatus::from_raw(0))] {
            assert_eq!(boots(&["result a 0 1\n"], ending).0, ["abc"]);
        }
    }
}
