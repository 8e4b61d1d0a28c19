//! Certificates for the servers that are compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::Tools;
use crate::sh;

/// The folder of certificates below `folder`, made at its first use.
///
/// # Errors
/// The gateway, which makes them, says no.
pub(crate) fn ensure(tools: &Tools, folder: &Path) -> anyhow::Result<PathBuf> {
    let pki = folder.join("pki");
    if !pki.exists() {
        sh::capture(Command::new(tools.find("gateway")?).arg("pki").arg(&pki))?;
    }
    Ok(pki)
}
