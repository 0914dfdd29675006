//! The files of the push port at a reload: tokens and certificate are taken over each by itself.

use std::path::Path;

use super::super::file_watch::{Stamps, stamps};
use crate::push::{CredentialPart, PushSettings, ReadCredentials, Reload};

/// The files of the open push port.
#[derive(Debug)]
pub(super) struct PushFiles {
    /// Those that the process was started with: others need a restart.
    settings: PushSettings,
    port: Reload,
    /// The stamps of those that were taken over last; none since the start.
    taken: Option<Stamps>,
    /// What was told last of files that have moved.
    moved: Option<String>,
}

/// What was read of them.
#[derive(Debug)]
pub(super) struct ReadPushFiles {
    credentials: ReadCredentials,
    /// Their stamps before they were read.
    stamps: Stamps,
}

impl ReadPushFiles {
    /// Reads them; blocks.
    pub(super) fn read(settings: &PushSettings) -> Self {
        let stamps = stamps(settings.files().map(Path::to_owned));
        Self { credentials: ReadCredentials::read(settings), stamps }
    }

    /// Why the parts that are wanted can't be used.
    fn reasons(&self, is_wanted: impl Fn(CredentialPart) -> bool) -> Option<String> {
        let wanted = CredentialPart::ALL.into_iter().filter(|part| is_wanted(*part));
        let errors: Vec<String> =
            wanted.filter_map(|part| self.credentials.error(part)).map(ToString::to_string).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

impl PushFiles {
    pub(super) const fn new(settings: PushSettings, port: Reload) -> Self {
        Self { settings, port, taken: None, moved: None }
    }

    pub(super) const fn settings(&self) -> &PushSettings {
        &self.settings
    }

    /// Whether none was read since the start.
    pub(super) const fn is_first(&self) -> bool {
        self.taken.is_none()
    }

    /// Why parts that stand in the configuration can't be used.
    pub(super) fn refused(&self, read: &ReadPushFiles, configured: Option<&PushSettings>) -> Option<String> {
        read.reasons(|part| !self.has_moved(part, configured))
    }

    /// Warns of parts that can't be used and have other files in the configuration, or none; what is known is told again
    /// where it `is_asked`.
    pub(super) fn log_moved(
        &mut self,
        read: &ReadPushFiles,
        configured: Option<&PushSettings>,
        is_asked: bool,
    ) {
        let moved = read.reasons(|part| self.has_moved(part, configured));
        if let Some(reason) = &moved
            && (is_asked || self.moved != moved)
        {
            tracing::warn!(
                %reason,
                "files of the push port have moved in the configuration, which needs a restart; what was read last of the \
                 old ones will stay in force until a restart"
            );
        }
        self.moved = moved;
    }

    /// Takes over each part that is right, where one has changed or it `is_asked`. Returns the warnings, if it did.
    ///
    /// # Errors
    /// When the port can't be open with them.
    pub(super) fn take_over(
        &mut self,
        read: ReadPushFiles,
        is_asked: bool,
    ) -> Result<Option<Vec<String>>, String> {
        let ReadPushFiles { mut credentials, stamps } = read;
        let mut taken = self.taken.clone().unwrap_or_default();
        let right = CredentialPart::ALL.into_iter().filter(|part| credentials.error(*part).is_none());
        for path in right.flat_map(|part| self.settings.files_of(part)) {
            taken.insert(path.to_owned(), stamps.get(path).copied().flatten());
        }
        let is_new = self.taken.as_ref() != Some(&taken);
        self.taken = Some(taken);
        if !is_new && !is_asked {
            return Ok(None);
        }
        let warnings = std::mem::take(&mut credentials.warnings);
        self.port.swap_right(credentials).map_err(|error| error.to_string())?;
        Ok(Some(warnings))
    }

    /// Logs warnings, and what is wrong with the certificate.
    pub(super) fn warn(&self, warnings: &[String], now: u64) {
        super::super::views::log_certificate_trouble(&self.port, now);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
    }

    fn has_moved(&self, part: CredentialPart, configured: Option<&PushSettings>) -> bool {
        !configured.into_iter().flat_map(|push| push.files_of(part)).eq(self.settings.files_of(part))
    }
}
