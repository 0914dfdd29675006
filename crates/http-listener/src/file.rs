//! The small files that a port needs.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// Reads a file whole, if it is one. Blocks on the file.
///
/// # Errors
/// The file and the reason.
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let named = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    // Checked before it is opened: opening a pipe waits for its other end.
    if !fs::metadata(path).map_err(|error| named(&error))?.is_file() {
        return Err(named(&"it is not a file"));
    }
    let file = File::open(path).map_err(|error| named(&error))?;
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(|error| named(&error))?;
    if content.len() as u64 > bytes_max {
        return Err(named(&format_args!(
            "it is larger than {bytes_max} bytes, so it is probably another file"
        )));
    }
    Ok(content)
}
