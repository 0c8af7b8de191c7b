//! What a check found.

/// The result of one check.
pub(super) enum Found {
    Good(String),
    /// It works, with less.
    Less(String, Option<String>),
    /// Nothing can be traced; with the command that fixes it.
    Stops(String, String),
}
