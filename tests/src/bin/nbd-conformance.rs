//! `nbd-conformance`: puts a running NBD server under the conformance suite.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tests::conformance::{Level, Selection, Target, Verdict, all_checks, run};

/// Judges an NBD server by what it answers. WRITES TO THE EXPORT, all over it.
#[derive(Parser)]
struct Args {
    /// The export: nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH.
    #[arg(long, required_unless_present = "list")]
    uri: Option<String>,
    /// Only checks whose name contains this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Leaves out the check of this name; may be given several times.
    #[arg(long, value_name = "NAME")]
    except: Vec<String>,
    /// How binding a rule must be to be checked.
    #[arg(long, value_enum, default_value = "should")]
    level: UpTo,
    /// The file behind the export, for checks of what has reached the disk.
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// Prints names and rules of all checks and does nothing.
    #[arg(long)]
    list: bool,
    /// Prints each check, not only those that fail.
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum UpTo {
    /// What the specification demands.
    Must,
    /// Also what it recommends.
    Should,
    /// Also what this project has chosen.
    Chosen,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for check in all_checks() {
            println!("{:42} {:6} {}", check.name, format!("{:?}", check.level).to_lowercase(), check.rule);
        }
        return ExitCode::SUCCESS;
    }
    let mut target = match Target::probe(&args.uri.unwrap_or_default()) {
        Ok(target) => target,
        Err(error) => {
            eprintln!("nbd-conformance: {error:#}");
            return ExitCode::from(2);
        }
    };
    if let Some(image) = args.image {
        target = target.with_image(image);
    }
    let level = match args.level {
        UpTo::Must => Level::Must,
        UpTo::Should => Level::Should,
        UpTo::Chosen => Level::Chosen,
    };
    let selection = Selection { level, filters: args.filter, except: args.except };
    let report = run(&target, &selection, |finding| {
        if args.verbose || matches!(finding.verdict, Verdict::Failed(_)) {
            println!("{finding}");
        }
    });
    let failed = report.failures().count();
    let gone = if report.server_is_gone { "; then the server was gone" } else { "" };
    println!("{} passed, {failed} failed, of {}{gone}", report.passed(), report.findings.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
