//! What a test says that cannot run here. Unit tests have it, too, by its path.

/// Says that a test is skipped because `what` is missing.
///
/// # Panics
///
/// With CI set.
pub(crate) fn missing(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{what} is missing, and in CI nothing may be skipped (scripts/test tools installs it)"
    );
    eprintln!("SKIPPED: {what} is missing (as root, scripts/test tools installs it)");
}
