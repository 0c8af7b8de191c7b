//! Whether a place in the file system is this user's and root's alone.
//!
//! What is looked at and then used by its name must not become something else in between. It
//! cannot where every directory on the way belongs to this user or root, and others may not write
//! to it, or may not rename what is not theirs (the sticky bit).

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What others may do to a file: write to it.
const OTHERS_WRITE: u32 = 0o022;

/// Whether a file or directory is `user`'s, and nobody else writes to it.
pub(super) fn ours_alone(metadata: &Metadata, user: u32) -> bool {
    metadata.uid() == user && metadata.mode() & OTHERS_WRITE == 0
}

/// Checks `directory` and all above it. It has to be canonical: without links.
///
/// # Errors
/// Names the one in which others can exchange what is not theirs.
pub(super) fn parents_ours_alone(directory: &Path, user: u32) -> anyhow::Result<()> {
    for each in directory.ancestors() {
        let metadata = fs::symlink_metadata(each)?;
        let owned = metadata.uid() == user || metadata.uid() == 0;
        let kept = metadata.mode() & OTHERS_WRITE == 0 || metadata.mode() & libc::S_ISVTX != 0;
        anyhow::ensure!(
            metadata.is_dir() && owned && kept,
            "others can exchange what is in {}",
            each.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parents_ours_alone;
    use crate::sys::Ids;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_open_directory_on_the_way_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let inside = base.join("a/b/c");
        fs::create_dir_all(&inside).unwrap();
        let user = Ids::current().user;
        parents_ours_alone(&inside, user).unwrap();
        for (mode, good) in [(0o777, false), (0o775, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(base.join("a"), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(parents_ours_alone(&inside, user).is_ok(), good, "{mode:o}");
        }
        assert!(user == 0 || parents_ours_alone(&inside, 0).is_err(), "root trusts nobody");
    }
}
