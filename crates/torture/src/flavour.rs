//! What is tortured, as the program sees it.

use crate::chance::Chance;
use crate::stage::Stage;

/// What a reader does with the object that it found.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&Stage);

/// Something that a reader holds and another thread lets go of.
pub(crate) trait Held: Send {
    /// Looks at the object once more, then lets go.
    fn finish(self: Box<Self>, visit: Visit<'_>);
}

/// One way to keep an object alive while others read it.
pub(crate) trait Flavour: Sync + 'static {
    /// As the table prints it.
    fn name(&self) -> &'static str;

    /// Whether readers may sleep inside a section for milliseconds.
    fn readers_may_sleep(&self) -> bool;

    /// Finds the current object and calls `visit` with it, once, inside one section.
    fn read(&self, chance: &mut Chance, visit: Visit<'_>);

    /// The same inside a signal handler. False: handlers cannot do that with this flavour.
    fn read_in_handler(&self, visit: Visit<'_>) -> bool;

    /// Finds the current object and keeps it for another thread. `None`: sections of this flavour
    /// end where they began.
    fn take_away(&self) -> Option<Box<dyn Held + '_>>;

    /// The writer: replaces the current object and ages what was replaced before. Called by one
    /// thread at a time.
    fn update(&self, chance: &mut Chance);

    /// After the last reader: everything that was replaced has to come back.
    ///
    /// # Errors
    /// What was lost, in words.
    fn finish(&self) -> Result<(), String>;
}
